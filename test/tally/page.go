package tally

import (
	"fmt"
	"slices"
	"strings"
)

// wallSeconds is what all runs of a suite took, beside what they counted.
const wallSeconds = "wall_seconds"

// unexplained is said of a failure of which nobody has written why it was.
const unexplained = "Not explained yet."

// suites are those of the page, in its order.
func suites() []struct{ name, what string } {
	return []struct{ name, what string }{
		{"chaos", "the binary on a real file system, alone and as three nodes: killed, paused, cut off, without power, with disks that are full, slow, lost or damaged, and buckets that fail"},
		{"seeds", "three whole nodes in simulated time, with everything around them failing; what all their clients saw is held against the promises"},
		{"power", "three real nodes whose power fails at once, over and over, on real file systems"},
		{"stalls", "three real nodes of which the one that leads is paused, or its links lose everything, for longer than its lease, over and over"},
		{"full", "one real node whose log is full of what is not uploaded, for its bucket refuses everything: killed under load, and started"},
		{"cuts", "three simulated nodes whose power fails at once, over and over"},
		{"leaders", "three simulated nodes of which one that leads is paused or cut off for longer than its lease, over and over"},
		{"hour", "one node in simulated time, and its bucket: nothing leaks, nothing is missing"},
		{"bits", "every bit of a small store of each kind, flipped by itself"},
		{"fuzz", "whatever decodes what a stranger sends, or a disk gives back"},
		{"mutants", "each check switched off by itself: its test has to fail"},
		{"kgo", "franz-go's own tests, over and over"},
	}
}

// Page is docs/reliability.md, made of runs.
func Page(runs []Run) string {
	s, first, last := sums{}, "", ""
	for _, r := range runs {
		if s[r.Suite] == nil {
			s[r.Suite] = Counts{}
		}
		s[r.Suite].Add(r.Counts)
		s[r.Suite][wallSeconds] += r.Seconds
		if first == "" || r.Date < first {
			first = r.Date
		}
		last = max(last, r.Date)
	}
	var b strings.Builder
	b.WriteString(`# Reliability

Made by ` + "`make generate`" + ` of test/tally/results.json, which ` + "`make soak`" + ` adds to: the page says what was
done to rustmq and what came of it, and nothing that was not run. `)
	if len(runs) == 0 {
		b.WriteString("Nothing was.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "These are %d runs of suites, from %s to %s.\n\n", len(runs), first, last)
	b.WriteString(`What is counted is of tests that passed; where it says that nothing was lost, they end by asking for every record
that was acked, at its offset, with its value, once. What a test that failed had done is not counted; the test is
[named below](#what-failed). Times are those of a machine that did other things as well.

## What is to be reached

| goal | measured | |
|---|---|---|
`)
	for _, g := range goals() {
		measured, reached := g.state(s)
		if n := unexplainedIn(runs, g.suites); n > 0 {
			measured, reached = measured+fmt.Sprintf("; tests that failed, and nobody has said why: %d", n), false
		}
		word := notYetWord
		if reached {
			word = reachedWord
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", g.text, measured, word)
	}
	s.table(&b)
	failed(&b, runs)
	b.WriteString("\n## The runs\n\n| day | suite | commit | took | tests that failed |\n|---|---|---|---|---|\n")
	for _, r := range runs {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", r.Date, r.Suite, r.Commit, span(r.Seconds), len(r.Failed))
	}
	b.WriteString(`
## Again

    make soak               an hour of each suite
    SOAK=10 make soak       ten minutes of each
    scripts/soak.sh chaos   one of them; SOAK=minutes
    make generate           this page, of what was added

The machine is what runs it: chaos needs root. A seed that fails is printed, with the command that meets it again.
`)
	return b.String()
}

// table says what was done, and found as it must be, by suite.
func (s sums) table(b *strings.Builder) {
	b.WriteString("\n## What was done\n\n")
	ran := slices.DeleteFunc(suites(), func(suite struct{ name, what string }) bool { return s[suite.name] == nil })
	for _, suite := range ran {
		fmt.Fprintf(b, "- *%s*: %s. %s.\n", suite.name, suite.what, span(s[suite.name][wallSeconds]))
	}
	b.WriteString("\n| |")
	for _, suite := range ran {
		fmt.Fprintf(b, " %s |", suite.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(ran)) + "\n")
	for _, n := range names() {
		row, any := "| "+n.title+" |", false
		for _, suite := range ran {
			count := s[suite.name][n.name]
			switch any = any || count != 0; {
			case count == 0:
				row += " |"
			case strings.HasSuffix(n.name, "_seconds"):
				row += " " + span(count) + " |"
			default:
				row += " " + number(count) + " |"
			}
		}
		if any {
			b.WriteString(row + "\n")
		}
	}
}

// unexplainedIn is how many tests of some suites failed, and nobody knows why.
func unexplainedIn(runs []Run, suites []string) (n int) {
	for _, r := range runs {
		for _, f := range r.Failed {
			if f.Why == "" && slices.Contains(suites, r.Suite) {
				n++
			}
		}
	}
	return n
}

// failed names the tests that did, and why.
func failed(b *strings.Builder, runs []Run) {
	b.WriteString("\n## What failed\n\n")
	any := false
	for _, r := range runs {
		for _, f := range r.Failed {
			if !any {
				b.WriteString("| day | suite | test | why |\n|---|---|---|---|\n")
			}
			any = true
			why := f.Why
			if why == "" {
				why = unexplained
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", r.Date, r.Suite, f.Test, why)
		}
	}
	if !any {
		b.WriteString("Nothing.\n")
	}
}
