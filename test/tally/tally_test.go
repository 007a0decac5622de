package tally

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What the tests of a suite count is added up wherever it stands in what go test prints; of
// those that failed the innermost are named.
func TestASuiteIsAddedUp(t *testing.T) {
	printed := `seed of this run: 7
=== RUN   TestPowerCuts
    lives_test.go:215: tally: {"power_cuts":31,"records":100}
--- PASS: TestPowerCuts (12.00s)
tally: {"records":5}
--- FAIL: TestBucketOutages (3.00s)
    --- FAIL: TestBucketOutages/503 (1.00s)
--- FAIL: TestBucketOutagesAlone (0.10s)
FAIL
`
	counts, failures, err := Read(strings.NewReader(printed), true)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Counts{"power_cuts": 31, "records": 105}); !reflect.DeepEqual(counts, want) {
		t.Errorf("%v were counted, not %v", counts, want)
	}
	if want := []Failure{{Test: "TestBucketOutages/503"}, {Test: "TestBucketOutagesAlone"}}; !reflect.DeepEqual(failures, want) {
		t.Errorf("%v have failed, not %v", failures, want)
	}
	if _, failures, err := Read(strings.NewReader("panic: out of time\n"), true); err != nil || len(failures) != 1 {
		t.Errorf("a suite that failed without a test: %v, %v", failures, err)
	}
	for _, wrong := range []string{`tally: {"power_cut":1}`, `tally: {"power_cuts":`} {
		if _, _, err := Read(strings.NewReader(wrong), false); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

// judged is a test that has failed, or not, and keeps what it says.
type judged struct {
	testing.TB
	failed bool
	said   []any
}

func (j *judged) Helper()         {}
func (j *judged) Failed() bool    { return j.failed }
func (j *judged) Log(args ...any) { j.said = append(j.said, args...) }

// What a test has done that fails is not counted, though it goes on after it has failed.
func TestWhatFailsCountsNothing(t *testing.T) {
	well, badly := &judged{TB: t}, &judged{TB: t, failed: true}
	Log(well, Counts{"kills": 1})
	Log(badly, Counts{"kills": 1})
	if len(well.said) != 1 || len(badly.said) != 0 {
		t.Errorf("who passed says %q, who failed %q", well.said, badly.said)
	}
}

// A run that is added leaves the others as they are.
func TestRunsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	later := Run{Suite: "chaos", Date: "2026-01-02", Commit: "b", Seconds: 2, Counts: Counts{"kills": 2}, Failed: []Failure{{Test: "TestX", Why: "a reason"}}}
	earlier := Run{Suite: "seeds", Date: "2026-01-01", Commit: "a", Seconds: 1, Counts: Counts{"seeds": 1}}
	for _, r := range []Run{later, earlier} {
		if err := Add(file, r); err != nil {
			t.Fatal(err)
		}
	}
	if runs, err := Load(file); err != nil || !reflect.DeepEqual(runs, []Run{earlier, later}) {
		t.Errorf("%+v, %v", runs, err)
	}
	if err := os.WriteFile(file, []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Add(file, later); err == nil {
		t.Error("a file that is damaged was written over")
	}
}

// The page claims what was run, adds up the runs of a suite, and names what failed, with its
// reason or with the word that there is none.
func TestThePageClaimsWhatWasRun(t *testing.T) {
	if page := Page(nil); !strings.Contains(page, "Nothing was.") || strings.Contains(page, reachedWord) {
		t.Errorf("of no run it says:\n%s", page)
	}
	page := Page([]Run{
		{Suite: "chaos", Date: "2026-01-01", Commit: "abc", Seconds: 60, Counts: Counts{"power_cuts": 450, "power_cuts_of_all": 90, "failovers": 10, "failovers_in_time": 9}},
		{Suite: "chaos", Date: "2026-01-03", Commit: "def", Seconds: 90, Counts: Counts{"power_cuts": 1050, "power_cuts_of_all": 310}, Failed: []Failure{{"TestX", "The test was wrong."}}},
		{Suite: "seeds", Date: "2026-01-02", Commit: "abd", Seconds: 90, Counts: Counts{"power_cuts_of_all": 20_000}, Failed: []Failure{{"TestY", ""}}},
	})
	for _, want := range []string{
		"3 runs of suites, from 2026-01-01 to 2026-01-03",
		"0 lost in 400 power cuts of all three nodes on a real file system; in all, 1,500 machines lost their power | " + notYetWord + " |",
		"9 of 10; [what a machine that does nothing else takes](performance.md) | " + notYetWord + " |",
		"| 10 hours of processor time of fuzzing without a panic | " + nothing + " | " + notYetWord + " |",
		"0 lost in 20,000 power cuts of all nodes, simulated; tests that failed, and nobody has said why: 1 | " + notYetWord + " |",
		"| times that a machine lost its power | 1,500 | |",
		"| 2026-01-03 | chaos | TestX | The test was wrong. |",
		"| 2026-01-02 | seeds | TestY | " + unexplained + " |",
		"| 2026-01-03 | chaos | def | 90 seconds | 1 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, not := range []string{"fuzz targets", "- *hour*"} {
		if strings.Contains(page, not) {
			t.Errorf("the page says %q of what was not run:\n%s", not, page)
		}
	}
}

// What a test counts has a name that the page knows, and the names are told apart.
func TestNamesAreKnown(t *testing.T) {
	known := map[string]bool{}
	for _, n := range names() {
		if known[n.name] || known[n.title] || n.title == "" {
			t.Errorf("%q (%s) is there twice, or says nothing", n.name, n.title)
		}
		known[n.name], known[n.title] = true, true
	}
	if line, err := encode(Counts{"kills": 3}); err != nil || line != `tally: {"kills":3}` {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := encode(Counts{"kiils": 3}); err == nil {
		t.Error("a name that nobody knows was taken")
	}
}
