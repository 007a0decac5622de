package doctor

import (
	"fmt"
	"slices"
	"strings"

	"rustmq.dev/rustmq/configs"
)

// Verdict is how well something is.
type Verdict string

// The verdicts. Warn is what works and will be regretted; Fail is what keeps a node from
// starting or from keeping what it promises; Skip is what could not be looked at.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
	Skip Verdict = "skip"
)

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name" yaml:"name"`
	Verdict Verdict `json:"verdict" yaml:"verdict"`
	Found   string  `json:"found" yaml:"found"`                 // what there is
	Why     string  `json:"why,omitempty" yaml:"why,omitempty"` // what follows from it, unless it is well
	Do      string  `json:"do,omitempty" yaml:"do,omitempty"`   // what to change, unless it is well
}

// Report is all that was looked at, in the order of the checks.
type Report struct {
	// OK says that nothing failed; there may be warnings.
	OK     bool    `json:"ok" yaml:"ok"`
	Checks []Check `json:"checks" yaml:"checks"`
}

// Of makes a report of checks.
func Of(checks ...Check) Report {
	return Report{OK: !slices.ContainsFunc(checks, func(c Check) bool { return c.Verdict == Fail }), Checks: checks}
}

// Count is how many checks have a verdict.
func (r Report) Count(v Verdict) (n int) {
	for _, c := range r.Checks {
		if c.Verdict == v {
			n++
		}
	}
	return n
}

// Failed are the names of the checks that failed.
func (r Report) Failed() string {
	var names []string
	for _, c := range r.Checks {
		if c.Verdict == Fail {
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

func well(name, found string, args ...any) Check {
	return Check{Name: name, Verdict: OK, Found: fmt.Sprintf(found, args...)}
}

func skipped(name, why string, args ...any) Check {
	return Check{Name: name, Verdict: Skip, Found: fmt.Sprintf(why, args...)}
}

// ill is what is not well.
func ill(name string, v Verdict, found, why, do string) Check {
	return Check{Name: name, Verdict: v, Found: found, Why: why, Do: do}
}

// bytes is a size as a person reads it.
func bytes(n int64) string { return configs.Size(n).Rounded() }
