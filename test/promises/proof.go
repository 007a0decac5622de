package promises

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Proofs is what a checkout has to show claims with. It is not safe for concurrent use.
type Proofs struct {
	checkout fs.FS
	tests    map[string][]string // names by package, "./storage/wal"
	suites   []string
	guards   map[string]bool
	pages    []string // those with claims
	figures  []Figure
	measured string            // the results' file
	keys     string            // docs/configuration.md, once it was asked for
	texts    map[string]string // of files that proofs have named, white space as single spaces
}

// Figure is a row of bench/results; its fields are those of bench/report.
type Figure struct {
	Figure string  `json:"figure"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Must   float64 `json:"must"`
	Less   bool    `json:"less"`
	Median float64 `json:"median"`
}

var (
	kinds = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)\w*$`)
	runs  = regexp.MustCompile(`(?m)^case \$name in\n(.*)\) "\$name" ;;`)
)

// NewProofs reads a checkout.
func NewProofs(checkout fs.FS, pages []Page) (*Proofs, error) {
	p := &Proofs{checkout: checkout, tests: map[string][]string{}, guards: map[string]bool{}, texts: map[string]string{}}
	for _, page := range pages {
		p.pages = append(p.pages, page.Path)
	}
	if err := fs.WalkDir(checkout, ".", p.look); err != nil {
		return nil, err
	}
	suite, err := fs.ReadFile(checkout, "scripts/suite.sh")
	if err != nil {
		return nil, err
	}
	names := runs.FindSubmatch(suite)
	if names == nil {
		return nil, errors.New("scripts/suite.sh names no suites as this package reads them")
	}
	p.suites = strings.Split(string(names[1]), " | ")
	results, err := fs.Glob(checkout, "bench/results/*.json")
	if err != nil || len(results) == 0 {
		return nil, fmt.Errorf("no results in bench/results: %v", err)
	}
	p.measured = slices.Max(results)
	raw, err := fs.ReadFile(checkout, p.measured)
	if err != nil {
		return nil, err
	}
	var rows struct{ Rows []Figure }
	if err := json.Unmarshal(raw, &rows); err != nil {
		return nil, fmt.Errorf("read %s: %w", p.measured, err)
	}
	p.figures = rows.Rows
	return p, nil
}

// look takes the tests or guards of one file.
func (p *Proofs) look(name string, entry fs.DirEntry, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // what other tests made meanwhile, and took away
	case err != nil:
		return err
	case entry.IsDir():
		if slices.Contains([]string{".git", "build", "bin", "docs"}, name) || entry.Name() == "node_modules" || entry.Name() == "target" {
			return fs.SkipDir
		}
	case strings.HasSuffix(name, "_test.go"):
		raw, err := fs.ReadFile(p.checkout, name)
		if err != nil {
			return err
		}
		room := "./" + path.Dir(name)
		// By hand: half of what this package takes would be a regular expression over all tests.
		for _, part := range strings.Split("\n"+string(raw), "\nfunc ")[1:] {
			if test, _, is := strings.Cut(part[:min(len(part), 200)], "("); is && kinds.MatchString(test) {
				p.tests[room] = append(p.tests[room], test)
			}
		}
	case strings.HasPrefix(name, "test/mutants/killers/"):
		raw, err := fs.ReadFile(p.checkout, name)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(raw), "\n") {
			if guard, _, ok := strings.Cut(line, " "); ok {
				p.guards[guard] = true
			}
		}
	}
	return nil
}

// Check says what a proof names and the checkout has not.
func (p *Proofs) Check(proof Proof) error {
	first, rest, _ := strings.Cut(proof.Rest, " ")
	switch proof.Kind {
	case "test":
		names := strings.Fields(rest)
		if len(names) == 0 {
			return errors.New("it names no test: test ./PACKAGE TestName…")
		}
		for _, name := range names {
			if !slices.Contains(p.tests[first], name) {
				return fmt.Errorf("%s has no %s", first, name)
			}
		}
	case "suite":
		if !slices.Contains(p.suites, first) {
			return fmt.Errorf("scripts/suite.sh has no suite %s", first)
		}
		file, words, _ := strings.Cut(rest, " ")
		return p.has(file, words)
	case "cases", "source":
		if rest == "" {
			return fmt.Errorf("it names no words of %s", first)
		}
		return p.has(first, rest)
	case "block":
		if rest == "" {
			return fmt.Errorf("it does not name what the commands of %s print", first)
		}
		return p.has(first, "<!-- expect: "+rest+" -->")
	case "guard":
		if !p.guards[proof.Rest] {
			return fmt.Errorf("test/mutants/killers has no guard %s", proof.Rest)
		}
	case "figure":
		_, err := p.figure(proof)
		return err
	case "default":
		return p.configured(first, rest)
	case "page":
		file, _, _ := strings.Cut(proof.Rest, "#")
		if !slices.Contains(p.pages, file) && !strings.Contains(generated, " "+file+" ") {
			return fmt.Errorf("%s has no claims file and is not made of the code", file)
		}
		return p.has(file, "")
	case "plain":
	default:
		return fmt.Errorf("%s is no kind of proof (doc.go of test/promises has them)", proof.Kind)
	}
	return nil
}

// generated are pages that make generate writes: their words are the code's.
const generated = " docs/configuration.md docs/cost.md docs/performance.md docs/reliability.md docs/kafka-compatibility.md docs/kafka-authorisation.md docs/admin-authorisation.md docs/reference/cli.md docs/reference/metrics.md docs/formats.md docs/promises.md "

// has says that a file is not there, or does not have some words, white space aside.
func (p *Proofs) has(file, words string) error {
	text, read := p.texts[file]
	if !read {
		raw, err := fs.ReadFile(p.checkout, file)
		if err != nil {
			return err
		}
		text = strings.Join(strings.Fields(string(raw)), " ")
		p.texts[file] = text
	}
	if !strings.Contains(text, strings.Join(strings.Fields(words), " ")) {
		return fmt.Errorf("%s does not have the words: %s", file, words)
	}
	return nil
}

// configured says that a key's default is not the value, as docs/configuration.md has it.
func (p *Proofs) configured(key, value string) error {
	if p.keys == "" {
		raw, err := fs.ReadFile(p.checkout, "docs/configuration.md")
		if err != nil {
			return err
		}
		p.keys = string(raw)
	}
	section, name := key[:max(0, strings.LastIndexByte(key, '.'))], key[strings.LastIndexByte(key, '.')+1:]
	_, rows, found := strings.Cut(p.keys, "\n## ["+section+"]\n")
	rows, _, _ = strings.Cut(rows, "\n## ")
	_, row, has := strings.Cut(rows, "\n| `"+name+"` | ")
	row, _, _ = strings.Cut(row, "\n")
	if cells := strings.Split(row, " | "); !found || !has || len(cells) < 2 || cells[1] != "`"+value+"`" {
		return fmt.Errorf("docs/configuration.md does not say that %s is %s by default", key, value)
	}
	return nil
}

// figure is the row that a proof names.
func (p *Proofs) figure(proof Proof) (Figure, error) {
	id, name, _ := strings.Cut(proof.Rest, " ")
	for _, f := range p.figures {
		if f.Figure == id && f.Name == name {
			return f, nil
		}
	}
	return Figure{}, fmt.Errorf("%s has no row of %s named: %s", p.measured, id, name)
}

// Missed reports whether the figure does not reach what it must.
func (f Figure) Missed() bool {
	if f.Less {
		return f.Must != 0 && f.Median > f.Must
	}
	return f.Median < f.Must
}

// String is the figure as the page shows it.
func (f Figure) String() string {
	digits := "%.2f"
	if f.Median < 0.1 {
		digits = "%.4f"
	}
	text := fmt.Sprintf("%s, %s: "+digits+"\u00a0%s", f.Figure, f.Name, f.Median, f.Unit)
	switch {
	case f.Must == 0:
		return text
	case f.Less:
		text += fmt.Sprintf(" (must ≤\u00a0%.2f", f.Must)
	default:
		text += fmt.Sprintf(" (must ≥\u00a0%.2f", f.Must)
	}
	if f.Missed() {
		return text + ": **missed**)"
	}
	return text + ": met)"
}
