package pattern_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"rustmq.dev/rustmq/roles/broker/pattern"
)

// Of a pattern that is taken the whole name has to match.
func TestWholeNamesMatch(t *testing.T) {
	for source, names := range map[string]map[string]bool{
		"a|b":   {"a": true, "b": true, "ab": false, "a\n": false},
		"a.*":   {"a": true, "abc": true, "ba": false},
		"(?i)A": {"a": true, "A": true},
		"":      {"": true, "a": false},
	} {
		p, err := pattern.Compile(source)
		if err != nil {
			t.Fatalf("%q: %v", source, err)
		}
		for name, want := range names {
			if p.MatchString(name) != want {
				t.Errorf("%q matches %q: %v", source, name, !want)
			}
		}
	}
}

// What a pattern says that it takes is not less than it does.
func TestMemoryOfPatterns(t *testing.T) {
	const each = 20
	for name, source := range map[string]string{
		"letters":  strings.Repeat("a", 9000),
		"optional": "(?:.?){900}b",
		"ranges":   `\pL\pL\pL\pL`,
		"choices":  strings.Repeat("(a|b)", 900),
	} {
		all := make([]*pattern.Pattern, each)
		before := heap()
		for i := range all {
			var err error
			if all[i], err = pattern.Compile(source + strconv.Itoa(i)); err != nil {
				t.Fatal(err)
			}
			all[i].MatchString("abc")
		}
		if took := heap() - before; took > each*all[0].Memory {
			t.Errorf("%s: %d bytes each, said to be %d", name, took/each, all[0].Memory)
		}
		runtime.KeepAlive(all)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // empties pools
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// What is small in bytes and large once compiled is refused, as is what would close
// the brackets that are put around it.
func TestCostlyPatternsAreRefused(t *testing.T) {
	for name, source := range map[string]string{
		"repeats":         strings.Repeat("a{1000}", 500),
		"nested repeats":  strings.Repeat("(a{30}){30}", 12),
		"repeated repeat": `((((\pL{5}){5}){5}){5})`,
		"open":            "(",
		"closing":         "a)|(b",
	} {
		if _, err := pattern.Compile(source); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := pattern.Compile("orders-[0-9]{1,1000}"); err != nil {
		t.Error(err)
	}
}
