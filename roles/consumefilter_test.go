package roles_test

import (
	"strings"
	"testing"
)

// TestConsumeFiltersAndEnds prints what the filters find, up to where --until points.
func TestConsumeFiltersAndEnds(t *testing.T) {
	n := node(t)
	in := "1000 k1 a=x one\n2000 k2 a=y,b=z two\n3000   three\n4000 k1  four\n5000 k1 b=q five\n"
	if code, _, stderr := rustmq(t, in, "produce", "t", "-b", n.Kafka(), "-f", "%T %k %h %v"); code != 0 {
		t.Fatal(stderr)
	}
	for _, c := range []struct{ args, want string }{
		{"", "one two three four five"},
		{"--grep ^t", "two three"},
		{"--grep o --key 1$", "one four"},
		{"--key .", "one two four five"},
		{"-H a", "one two"},
		{"-H a -H b=^z$", "two"},
		{"-H a=nothing", ""},
		{"--grep o -n 2", "one two"},
		{"--until 2", "one two"},
		{"--until end", "one two three four five"},
		{"--until -1", "one two three four"},
		{"--until +3", "one two three"},
		{"--until 99", "one two three four five"},
		{"--until start", ""},
		{"--until @3000", "one two"},
		{"--until @3001", "one two three"},
		{"-o @2000 --until @5000 --grep o", "two four"},
		{"-o 3 --until 2", ""},
		{"-g readers --grep four", "four"},
		{"-g readers", ""}, // has read the rest too
		{"-g half --until 2", "one two"},
		{"-g half", "three four five"},
	} {
		args := append([]string{"consume", "t", "-b", n.Kafka(), "-e", "-f", `%v `}, strings.Fields(c.args)...)
		code, stdout, stderr := rustmq(t, "", args...)
		if got := strings.TrimSpace(stdout); code != 0 || got != c.want {
			t.Errorf("%s: exit %d, %q, want %q, %s", c.args, code, got, c.want, stderr)
		}
	}
	// --until ends by itself, without -e.
	if code, stdout, stderr := rustmq(t, "", "consume", "t", "-b", n.Kafka(), "--until", "1"); code != 0 || stdout != "one\n" {
		t.Errorf("exit %d, %q, %s", code, stdout, stderr)
	}
	for _, wrong := range [][]string{{"--grep", "("}, {"--key", "["}, {"-H", "=x"}, {"-H", "a=("}, {"--until", "soon"}, {"--until", "@2999-01-01"}} {
		if code, _, stderr := rustmq(t, "", append([]string{"consume", "t", "-b", n.Kafka()}, wrong...)...); code != 2 || !strings.Contains(stderr, "--") {
			t.Errorf("%v: exit %d, %s", wrong, code, stderr)
		}
	}
}
