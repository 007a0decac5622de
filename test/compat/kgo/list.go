package kgo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// entry is a line of the list.
type entry struct {
	test    string
	outcome Outcome // Skipped or Failed
	reason  string
}

// parseList reads a list. Its tests stand in order, each with a reason.
func parseList(text string) ([]entry, error) {
	var list []entry
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		test, reason, _ := strings.Cut(rest, " ")
		e := entry{test, Outcome(word), reason}
		switch {
		case e.outcome != Skipped && e.outcome != Failed:
			return nil, fmt.Errorf("line %d: %q is neither skip nor fail", i+1, word)
		case !strings.HasPrefix(test, "Test") || strings.TrimSpace(reason) == "":
			return nil, fmt.Errorf("line %d: want a test and a reason", i+1)
		case len(list) > 0 && list[len(list)-1].test >= test:
			return nil, fmt.Errorf("line %d: %s is not behind %s", i+1, test, list[len(list)-1].test)
		}
		list = append(list, e)
	}
	return list, nil
}

// differences says in which tests the list and what happened are not the same.
func differences(list []entry, got map[string]Outcome) []string {
	var out []string
	want := map[string]Outcome{}
	for _, e := range list {
		want[e.test] = e.outcome
		switch outcome, ran := got[e.test]; {
		case !ran:
			out = append(out, fmt.Sprintf("%s: there is no such test; take it off the list", e.test))
		case outcome == Passed:
			out = append(out, fmt.Sprintf("%s: pass; take it off the list", e.test))
		case outcome != e.outcome:
			out = append(out, fmt.Sprintf("%s: %s; on the list is %s", e.test, outcome, e.outcome))
		}
	}
	for _, test := range slices.Sorted(maps.Keys(got)) {
		if _, listed := want[test]; !listed && got[test] != Passed {
			out = append(out, fmt.Sprintf("%s: %s", test, got[test]))
		}
	}
	return out
}
