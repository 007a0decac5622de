package kgo

import (
	_ "embed"
	"maps"
	"slices"
	"testing"
)

//go:embed skip.txt
var listed string

// most is how many tests may be on the list. When one goes, this goes down with it.
const most = 8

func TestListOnlyShrinks(t *testing.T) {
	list, err := parseList(listed)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != most {
		t.Fatalf("%d tests are on the list, not %d: it only ever gets shorter, and this number with it", len(list), most)
	}
}

func TestListsWithoutReasonAreRefused(t *testing.T) {
	for _, text := range []string{"skip TestA", "skip TestA ", "skip", "pass TestA because", "skip A because", "skip TestB because\nskip TestA because", "fail TestA twice\nskip TestA twice"} {
		if list, err := parseList(text); err == nil {
			t.Errorf("%q is read as %+v", text, list)
		}
	}
}

func TestOutcomesAreRead(t *testing.T) {
	const printed = "\x16=== RUN   TestA\n" +
		"\x16=== RUN   TestA/one\n--- FAIL: TestPrinted (0.00s)\n" +
		"\x16=== RUN   TestB\nno end of line\x16--- SKIP: TestB (0.01s)\n" +
		"\x16=== RUN   TestC\n\x16=== PAUSE TestC\n\x16=== CONT  TestC\n" +
		"\x16--- FAIL: TestA (1.00s)\n    \x16--- PASS: TestA/one (0.00s)\n" +
		"\x16=== RUN   TestD\n"
	got := outcomes([]byte(printed))
	if want := map[string]Outcome{"TestA": Failed, "TestA/one": Passed, "TestB": Skipped, "TestC": NoEnd, "TestD": NoEnd}; !maps.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

func TestFailuresAreTold(t *testing.T) {
	const printed = "\x16=== RUN   TestA\n\x16=== RUN   TestB\n    b_test.go:1: all is well\n" +
		"\x16=== NAME  TestA\n    a_test.go:1: it is not\n" +
		"\x16=== CONT  TestB\n    testConsumer sendErr group=g: lost\n    b_test.go:2: still\n" +
		"\x16--- FAIL: TestA (0.00s)\n\x16--- PASS: TestB (0.00s)\n\x16=== RUN   TestC\nfatal\n"
	got := outcomes([]byte(printed))
	want := []string{"    a_test.go:1: it is not", "    testConsumer sendErr group=g: lost", "fatal"}
	if told := said([]byte(printed), got, 10); !slices.Equal(told, want) {
		t.Fatalf("%q, want %q", told, want)
	}
	if told := said([]byte(printed), got, 2); !slices.Equal(told, want[:2]) {
		t.Fatalf("%q, want two", told)
	}
}

func TestDifferences(t *testing.T) {
	list := []entry{{"TestA", Skipped, "why"}, {"TestB", Skipped, "why"}, {"TestC", Failed, "why"}, {"TestD", Failed, "why"}, {"TestE", Skipped, "why"}}
	got := map[string]Outcome{
		"TestA": Skipped, "TestB": Passed, "TestC": Failed, "TestD": NoEnd,
		"TestF": Passed, "TestG": Skipped, "TestH": Failed, "TestI": NoEnd,
	}
	want := []string{
		"TestB: pass; take it off the list",
		"TestD: no end; on the list is fail",
		"TestE: there is no such test; take it off the list",
		"TestG: skip", "TestH: fail", "TestI: no end",
	}
	if diff := differences(list, got); !slices.Equal(diff, want) {
		t.Fatalf("%q, want %q", diff, want)
	}
}
