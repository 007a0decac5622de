package scripts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// many are lines of a long log.
func many(prefix string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d\n", prefix, i)
	}
	return b.String()
}

// TestLastLinesNameWhatFailed: of whatever a step printed, few lines are left, and they have
// what failed and what it said.
func TestLastLinesNameWhatFailed(t *testing.T) {
	for name, c := range map[string]struct {
		log       string
		want, not []string
	}{
		"a test": {
			log:  "ok  \tm/a\t1s\n--- FAIL: TestX (0.10s)\n    x_test.go:1: got 1\n    x_test.go:2: got 2\nFAIL\nFAIL\tm/x\t0.1s\n" + many("ok  \tm/b", 30) + "FAIL\n",
			want: []string{"--- FAIL: TestX (m/x)", "x_test.go:1: got 1", "x_test.go:2: got 2"}, not: []string{"m/b", "m/a"},
		},
		"a part of a test": {
			log:  "--- FAIL: TestX (0.10s)\n    --- FAIL: TestX/one (0.05s)\n        x_test.go:1: one\nFAIL\nFAIL\tm/x\t0.1s\n",
			want: []string{"--- FAIL: TestX/one (m/x)", "x_test.go:1: one"}, not: []string{"TestX (m/x)"},
		},
		"what it says beforehand, with -v": {
			log: "=== RUN   TestA\n    a_test.go:1: fine\n--- PASS: TestA (0.00s)\n=== RUN   TestX\n=== PAUSE TestX\n=== RUN   TestY\n    y_test.go:1: of y\n=== NAME  TestX\n" +
				"    x_test.go:1: of x\n=== NAME  TestY\n    y_test.go:2: of y\n--- FAIL: TestX (1.00s)\n--- PASS: TestY (1.00s)\nFAIL\nFAIL\tm/x\t1s\nFAIL\n",
			want: []string{"--- FAIL: TestX (m/x)", "x_test.go:1: of x"}, not: []string{"of y", "fine"},
		},
		"a long log": {
			log:  "--- FAIL: TestX (0.10s)\n    x_test.go:1: first\n" + many("    x_test.go:2: line", 500) + "    x_test.go:3: last\nFAIL\nFAIL\tm/x\t0.1s\n",
			want: []string{"x_test.go:1: first", "x_test.go:3: last"},
		},
		"many": {
			log:  strings.ReplaceAll(many("--- FAIL: Test", 50), "Test ", "Test") + "FAIL\nFAIL\tm/x\t0.1s\n",
			want: []string{"--- FAIL: Test0 (m/x)", "and 43 more"},
		},
		"a panic": {
			log:  "panic: boom\n\ngoroutine 1 [running]:\nm/x.f()\n\t/m/x/x.go:7 +0x1\n" + many("\t/m/x/y.go", 100) + "FAIL\tm/x\t0.1s\nFAIL\n",
			want: []string{"panic: boom (m/x)", "/m/x/x.go:7"},
		},
		"what hangs": {
			log:  "panic: test timed out after 8m0s\n\trunning tests:\n\t\tTestX (8m0s)\n\n" + many("goroutine", 100) + "FAIL\tm/x\t480.0s\nFAIL\n",
			want: []string{"panic: test timed out after 8m0s (m/x)", "TestX (8m0s)"},
		},
		"a race": {
			log:  "==================\nWARNING: DATA RACE\nRead at 0x1 by goroutine 2:\n  m/x.f()\n      /m/x/x.go:7 +0x1\n==================\n--- FAIL: TestX (0.10s)\n    testing.go:1: race detected\nFAIL\nFAIL\tm/x\t0.1s\n",
			want: []string{"WARNING: DATA RACE (m/x)", "/m/x/x.go:7", "--- FAIL: TestX (m/x)"},
		},
		"what does not compile": {
			log:  "# m/x [m/x.test]\nx/x_test.go:7:2: undefined: y\nFAIL\tm/x [build failed]\n" + many("ok  \tm/b", 30) + "FAIL\n",
			want: []string{"# m/x [m/x.test]", "x/x_test.go:7:2: undefined: y"},
		},
		"a package without a test to blame": {
			log: "ok  \tm/a\t1s\nsomething\nexit status 1\nFAIL\tm/x\t0.1s\nFAIL\n", want: []string{"--- FAIL: m/x"},
		},
		"another step": {
			log:  many("passed", 100) + "tools: acl failed\njava.lang.Exception: not so\n" + many("\tat a.b", 100) + "\t... 7 more\n",
			want: []string{"tools: acl failed", "java.lang.Exception: not so"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(file, []byte(c.log), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("../../scripts/failures.sh", file).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if lines := strings.Count(string(out), "\n"); lines > 14 {
				t.Errorf("%d lines", lines)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("nothing of %q", want)
				}
			}
			for _, not := range c.not {
				if strings.Contains(string(out), not) {
					t.Errorf("it has %q", not)
				}
			}
			if t.Failed() {
				t.Logf("it says\n%s", out)
			}
		})
	}
}
