package tally

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Run is a suite that was run once.
type Run struct {
	Suite   string `json:"suite"`
	Date    string `json:"date"`   // 2006-01-02
	Commit  string `json:"commit"` // short
	Seconds int64  `json:"seconds"`
	Counts  Counts `json:"counts"`
	// Failed are the tests that did.
	Failed []Failure `json:"failed,omitempty"`
}

// Failure is a test that failed in a run.
type Failure struct {
	Test string `json:"test"`
	// Why is what was found to be the cause, and what became of it: written by hand.
	Why string `json:"why,omitempty"`
}

// Read adds up what the tests of a suite have counted, of all that it prints, and names those
// that failed; failed says that the suite as a whole did.
func Read(printed io.Reader, failed bool) (Counts, []Failure, error) {
	counts, tests := Counts{}, []string{}
	lines := bufio.NewReader(printed)
	for {
		line, err := lines.ReadString('\n')
		if at := strings.Index(line, mark+"{"); at >= 0 {
			found := Counts{}
			if err := json.Unmarshal([]byte(line[at+len(mark):]), &found); err != nil {
				return nil, nil, fmt.Errorf("read %q: %w", strings.TrimSpace(line), err)
			}
			if _, err := encode(found); err != nil {
				return nil, nil, err
			}
			counts.Add(found)
		}
		if test, is := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: "); is {
			test, _, _ = strings.Cut(test, " ")
			tests = append(tests, test)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, err
		}
	}
	// Of a test and its subtests, those that failed by themselves.
	slices.Sort(tests)
	tests = slices.Compact(tests)
	var failures []Failure
	for _, test := range tests {
		if !slices.ContainsFunc(tests, func(other string) bool { return strings.HasPrefix(other, test+"/") }) {
			failures = append(failures, Failure{Test: test})
		}
	}
	if failed && len(failures) == 0 {
		failures = append(failures, Failure{Test: "the suite as a whole"})
	}
	return counts, failures, nil
}

// Load reads the runs of a file; none if there is no file.
func Load(file string) ([]Run, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var runs []Run
	if err := json.Unmarshal(raw, &runs); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return runs, nil
}

// Add adds a run to a file.
func Add(file string, run Run) error {
	runs, err := Load(file)
	if err != nil {
		return err
	}
	runs = append(runs, run)
	slices.SortStableFunc(runs, func(a, b Run) int { return cmp.Compare(a.Date, b.Date) })
	raw, err := json.MarshalIndent(runs, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}
