package promises

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// Proof is what shows a claim, as a line of a claims file says it.
type Proof struct {
	Kind string // test, cases, suite, figure, guard, block, default, source, page, plain: see doc.go
	Rest string // the words behind it
	Line string // file:line, for who is told that it is wrong
}

// Claim is one or several sentences and what shows them.
type Claim struct {
	Sentences []string
	Proofs    []Proof
	Line      string
}

// Page is what one page claims.
type Page struct {
	Path   string // of the checkout
	Whole  bool   // every sentence of it needs a row, or of the part below
	Part   string // the heading under which every sentence needs one
	Claims []Claim
	Line   string
}

// Pages reads test/promises/claims of a checkout, in the order of names.
func Pages(checkout fs.FS) ([]Page, error) {
	names, err := fs.Glob(checkout, "test/promises/claims/*.txt")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("no claims in test/promises/claims: %v", err)
	}
	var pages []Page
	for _, name := range names {
		raw, err := fs.ReadFile(checkout, name)
		if err != nil {
			return nil, err
		}
		page, err := parse(name, string(raw))
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

func parse(name, text string) (Page, error) {
	var p Page
	for i, line := range strings.Split(text, "\n") {
		at := fmt.Sprintf("%s:%d", name, i+1)
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		last := len(p.Claims) - 1
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case p.Path == "":
			var whole string
			p.Path, whole, p.Whole = strings.Cut(rest, " whole")
			if kind != "page" || p.Path == "" || strings.Contains(p.Path, " ") {
				return p, fmt.Errorf("%s: a claims file begins with: page PATH [whole[: HEADING]]", at)
			}
			p.Part, p.Line = strings.TrimPrefix(whole, ": "), at
		case kind == ">":
			if last < 0 || len(p.Claims[last].Proofs) > 0 {
				p.Claims = append(p.Claims, Claim{Line: at})
				last++
			}
			p.Claims[last].Sentences = append(p.Claims[last].Sentences, Plain(rest))
		case last < 0:
			return p, fmt.Errorf("%s: a proof of nothing: a sentence comes first, behind >", at)
		default:
			p.Claims[last].Proofs = append(p.Claims[last].Proofs, Proof{kind, strings.TrimSpace(rest), at})
		}
	}
	if p.Path == "" {
		return p, fmt.Errorf("%s names no page", name)
	}
	return p, nil
}

// namesTest finds sentences that name the test that shows them; that it is there holds of all pages.
var namesTest = regexp.MustCompile("`(Test|Fuzz)[A-Z]\\w+`")

// Problems are what does not hold of a page: sentences that it does not have, proofs that are not
// there, and sentences without a row.
func (p Page) Problems(proofs *Proofs) []string {
	raw, err := fs.ReadFile(proofs.checkout, p.Path)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", p.Line, err)}
	}
	var problems []string
	said := Sentences(string(raw))
	there, rows := map[string]bool{}, map[string]bool{}
	for _, s := range said {
		there[s.Text] = true
	}
	for _, c := range p.Claims {
		for _, text := range c.Sentences {
			if !there[text] {
				problems = append(problems, fmt.Sprintf("%s: %s does not say (any longer): %s", c.Line, p.Path, text))
			}
			if rows[text] {
				problems = append(problems, fmt.Sprintf("%s: a second row of: %s", c.Line, text))
			}
			rows[text] = true
		}
		if len(c.Proofs) == 0 {
			problems = append(problems, c.Line+": nothing shows it")
		}
		for _, proof := range c.Proofs {
			if err := proofs.Check(proof); err != nil {
				problems = append(problems, fmt.Sprintf("%s: %v", proof.Line, err))
			}
		}
	}
	for _, s := range said {
		if namesTest.MatchString(s.Text) {
			continue // it shows itself
		}
		if !rows[s.Text] && (p.Whole && (p.Part == "" || p.Part == s.Heading) || Promises(s.Text)) {
			problems = append(problems, fmt.Sprintf("%s:%d: %s has no row that says what shows:\n> %s", p.Path, s.Line, path.Base(p.file()), s.Text))
		}
	}
	return problems
}

// file is the claims file that the page was read of.
func (p Page) file() string {
	name, _, _ := strings.Cut(p.Line, ":")
	return name
}
