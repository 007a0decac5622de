package promises

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// own are the pages of this checkout, and what it has to show claims with.
func own(t *testing.T) ([]Page, *Proofs) {
	t.Helper()
	checkout := os.DirFS("../..")
	pages, err := Pages(checkout)
	if err != nil {
		t.Fatal(err)
	}
	proofs, err := NewProofs(checkout, pages)
	if err != nil {
		t.Fatal(err)
	}
	return pages, proofs
}

// Every sentence that promises something has what shows it, and that is there.
func TestEveryPromiseIsShown(t *testing.T) {
	pages, proofs := own(t)
	claims, whole := 0, 0
	for _, page := range pages {
		for _, problem := range page.Problems(proofs) {
			t.Error(problem)
		}
		claims += len(page.Claims)
		if page.Whole {
			whole++
		}
	}
	if claims < 100 || whole < 2 {
		t.Errorf("too little was looked at: %d claims, %d whole pages", claims, whole)
	}
	if t.Failed() {
		t.Log("what is claimed without being shown is cut, weakened to what is shown, or gets its test; doc.go has the kinds of proof")
	}
}

// The page is that of the claims.
func TestThePageIsFresh(t *testing.T) {
	pages, proofs := own(t)
	want, err := Document(pages, proofs)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile("../../docs/promises.md"); err != nil || string(have) != want {
		t.Errorf("docs/promises.md is not what test/promises/claims make: run make generate (%v)", err)
	}
}

// A test that a page names is one: the threat model, the rules and architecture.md lean on theirs.
func TestTestsThatPagesNameAreThere(t *testing.T) {
	_, proofs := own(t)
	checkout := proofs.checkout
	there := map[string]bool{}
	for _, names := range proofs.tests {
		for _, name := range names {
			there[name] = true
		}
	}
	named := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/design/*.md", "sdk/*/README.md"} {
		pages, err := fs.Glob(checkout, pattern)
		if err != nil || len(pages) == 0 {
			t.Fatalf("no pages %s: %v", pattern, err)
		}
		for _, page := range pages {
			text, err := fs.ReadFile(checkout, page)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(text), -1) {
				if named++; !there[name] {
					t.Errorf("%s names %s, which is no test", page, name)
				}
			}
		}
	}
	if named < 150 {
		t.Errorf("pages name %d tests: too few were looked at", named)
	}
}

// checkout is a small one, with a page that says two things and what shows one of them.
func checkout() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"README.md":                     file("# It\n\nIt never\nloses a record. It is *small*.\n\n| a | b |\n|---|---|\n| speed | at most 3 ms |\n"),
		"log/log_test.go":               file("package log\n\nfunc TestAcked(t *testing.T) {}\n"),
		"scripts/suite.sh":              file("case $name in\ncompat | chaos) \"$name\" ;;\n"),
		"bench/results/2026-01-01.json": file(`{"rows":[{"figure":"F1","name":"slow","must":9,"median":1}]}`),
		"bench/results/2026-01-02.json": file(`{"rows":[{"figure":"F1","name":"one","unit":"ms","less":true,"must":3,"median":2}]}`),
		"test/mutants/killers/log.txt":  file("log.crc ./log TestAcked\n"),
		"test/promises/claims/r.txt":    file("page README.md\n> It never loses a record.\ntest ./log TestAcked\nguard log.crc\n> speed | at most 3 ms\nfigure F1 one\n"),
	}
}

func problems(t *testing.T, files fstest.MapFS) []string {
	t.Helper()
	pages, err := Pages(files)
	if err != nil {
		return []string{err.Error()}
	}
	proofs, err := NewProofs(files, pages)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, page := range pages {
		all = append(all, page.Problems(proofs)...)
	}
	return all
}

// What is claimed without a proof, what is proved and not said, and a proof that is not there are
// found, each by itself.
func TestWhatIsNotShownIsFound(t *testing.T) {
	shown := checkout()
	shown["README.md"].Data = append(shown["README.md"].Data, "\nNothing is read twice (`TestAcked`).\n"...)
	if found := problems(t, shown); len(found) != 0 {
		t.Fatalf("a checkout in which all is shown: %q", found)
	}
	for what, c := range map[string]struct{ file, old, new, says string }{
		"a promise without a row":              {"README.md", "It is *small*", "Nothing is faster", "no row"},
		"a whole page, a plain sentence":       {"test/promises/claims/r.txt", "page README.md", "page README.md whole", "It is *small*."},
		"a sentence that has gone":             {"README.md", "record", "byte", "does not say"},
		"a test that has gone":                 {"log/log_test.go", "TestAcked", "TestOther", "has no TestAcked"},
		"a guard that has gone":                {"test/mutants/killers/log.txt", "log.crc", "log.sum", "no guard log.crc"},
		"a figure that is not measured":        {"bench/results/2026-01-02.json", "one", "two", "no row of F1"},
		"a number of another figure":           {"test/promises/claims/r.txt", "figure F1 one", "figure F1 slow", "no row of F1"},
		"a suite that is none":                 {"test/promises/claims/r.txt", "guard log.crc", "suite fuzz README.md", "no suite fuzz"},
		"a file of a suite without words":      {"test/promises/claims/r.txt", "guard log.crc", "suite chaos README.md large", "does not have the words"},
		"a page without rows":                  {"test/promises/claims/r.txt", "guard log.crc", "page CHANGELOG.md", "has no claims file"},
		"commands that print nothing":          {"test/promises/claims/r.txt", "guard log.crc", "block README.md hello", "does not have the words"},
		"a sentence with nothing behind":       {"test/promises/claims/r.txt", "figure F1 one", "", "nothing shows it"},
		"a kind that is none":                  {"test/promises/claims/r.txt", "guard log.crc", "trust me", "no kind of proof"},
		"a row twice":                          {"test/promises/claims/r.txt", "> speed", "> It never loses a record.\nplain\n> speed", "a second row"},
		"a proof before what it is a proof of": {"test/promises/claims/r.txt", "page README.md\n", "page README.md\nplain\n", "a proof of nothing"},
	} {
		files := checkout()
		raw := string(files[c.file].Data)
		if !strings.Contains(raw, c.old) {
			t.Fatalf("%s: %s does not have %q", what, c.file, c.old)
		}
		files[c.file].Data = []byte(strings.Replace(raw, c.old, c.new, 1))
		found := problems(t, files)
		if !slices.ContainsFunc(found, func(p string) bool { return strings.Contains(p, c.says) }) {
			t.Errorf("%s: %q is not among %q", what, c.says, found)
		}
	}
}

// A page is taken apart where who reads it would: code, headings and heads of tables are no sentences.
func TestSentences(t *testing.T) {
	const page = "# Never a heading\n\nOne [link](to.md), in\n**two** lines. `Code` begins another! And e.g. this does not end.\n\n<!-- never\nsaid -->\n" +
		"```sh\nnever run\n```\n- an item\n  of two lines\n- another\n\n## Next\n| head | never |\n|---|---|\n| cell | [two](x) |\n| | |\n"
	want := []Sentence{
		{3, "Never a heading", "One link, in two lines."}, {3, "Never a heading", "`Code` begins another!"}, {3, "Never a heading", "And e.g. this does not end."},
		{11, "Never a heading", "an item of two lines"}, {13, "Never a heading", "another"}, {18, "Next", "cell | two"},
	}
	if have := Sentences(page); !slices.Equal(have, want) {
		t.Errorf("%q\nis taken apart as %+v", page, have)
	}
	for text, promises := range map[string]bool{
		"It never ends.": true, "Nothing is lost": true, "ready in 300 ms": true, "within a second": true, "half of it, 30 %.": true,
		"It works.": false, "Section 9 names them.": false, "KIP-848": false,
	} {
		if Promises(text) != promises {
			t.Errorf("Promises(%q) = %v", text, !promises)
		}
	}
}
