package kgo

import (
	"bufio"
	"bytes"
	"strings"
)

// Outcome is how a test ended.
type Outcome string

// What tests come to. The names are those of the list.
const (
	Passed  Outcome = "pass"
	Failed  Outcome = "fail"
	Skipped Outcome = "skip"
	NoEnd   Outcome = "no end" // it began, and the process ended first
)

// mark is what -test.v=test2json puts before each line of the testing package, so
// that what tests print is told from it.
const mark = "\x16"

// longestLine bounds what one line of output may take.
const longestLine = 1 << 20

// outcomes reads what a test binary printed with -test.v=test2json: how each test
// and subtest ended.
func outcomes(printed []byte) map[string]Outcome {
	got := map[string]Outcome{}
	eachLine(printed, func(_, framework string) {
		if name, ok := strings.CutPrefix(framework, "=== RUN   "); ok {
			got[name] = NoEnd
		}
		for word, outcome := range map[string]Outcome{"PASS": Passed, "FAIL": Failed, "SKIP": Skipped} {
			if rest, ok := strings.CutPrefix(framework, "--- "+word+": "); ok {
				name, _, _ := strings.Cut(rest, " ")
				got[name] = outcome
			}
		}
	})
	return got
}

// said returns the first lines of what the tests that did not pass said, and of what
// nobody can be told to have said: a panic, or what franz-go's consumers print.
func said(printed []byte, got map[string]Outcome, most int) []string {
	var out []string
	current := ""
	eachLine(printed, func(line, framework string) {
		if framework != "" {
			for _, verb := range []string{"=== RUN   ", "=== NAME  ", "=== CONT  "} {
				if name, ok := strings.CutPrefix(framework, verb); ok {
					current = name
				}
			}
			return
		}
		trouble := got[current] == Failed || got[current] == NoEnd
		if (trouble || strings.Contains(line, "testConsumer sendErr") || strings.HasPrefix(line, "panic:")) && len(out) < most {
			out = append(out, line)
		}
	})
	return out
}

// eachLine calls f for each line: what tests printed, and what the testing package
// did, without its mark and indent. What a test printed last may lack its end of line.
func eachLine(printed []byte, f func(line, framework string)) {
	lines := bufio.NewScanner(bytes.NewReader(printed))
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		line, framework, _ := strings.Cut(lines.Text(), mark)
		f(line, strings.TrimLeft(framework, mark+" "))
	}
}
