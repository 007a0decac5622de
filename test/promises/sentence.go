package promises

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sentence is one sentence, item of a list or row of a table.
type Sentence struct {
	Line    int    // of the page, from 1; that its paragraph begins at
	Heading string // that it stands under
	Text    string
}

var (
	comment  = regexp.MustCompile(`(?s)<!--.*?-->`)
	picture  = regexp.MustCompile(`!\[[^\]]*\]\([^)]*\)`)
	link     = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	item     = regexp.MustCompile(`^([-*]|\d+\.) `)
	ruler    = regexp.MustCompile(`^[|\-: ]*--[|\-: ]*$`)
	promised = regexp.MustCompile(`(?i)\b(never|always|nothing|nobody|no one|exactly once|at most|at least|no more than|lost|loses?|survives?|every byte)\b` +
		`|\b\d[\d,.]*(\x{00a0}| )?(×|%|ns|µs|ms|s|seconds?|minutes?|hours?|[KMGT]i?B|bytes|times)(\W|$)|\b(half a|a quarter of a|a|one|two|five|ten|sixty|tens of|well below a) (milli|micro)?(second|minute)s?\b`)
)

// Promises reports whether a sentence says something that can be wrong at an edge: that something
// happens always, never or to nothing, is lost or survives, or how long or how much.
func Promises(text string) bool { return promised.MatchString(text) }

// Plain is text without Markdown's links and bold marks, its white space as single spaces.
func Plain(text string) string {
	text = link.ReplaceAllString(picture.ReplaceAllString(text, ""), "$1")
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "**", "")), " ")
}

// Sentences takes a page of Markdown apart. Headings, code that stands alone, heads of tables and
// comments are no sentences.
func Sentences(page string) []Sentence {
	page = comment.ReplaceAllStringFunc(page, func(c string) string { return strings.Repeat("\n", strings.Count(c, "\n")) })
	var (
		all   []Sentence
		words []string
		under string
		begun int
		code  bool
	)
	flush := func() {
		for _, text := range split(Plain(strings.Join(words, " "))) {
			all = append(all, Sentence{begun, under, text})
		}
		words = nil
	}
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, "```"):
			flush()
			code = !code
			continue
		case code:
			continue
		case text == "", strings.HasPrefix(text, "#"), strings.HasPrefix(line, "    ") && len(words) == 0:
			flush()
			if strings.HasPrefix(text, "#") {
				under = strings.TrimLeft(text, "# ")
			}
			continue
		case strings.HasPrefix(text, "|"):
			flush()
			head := i+1 < len(lines) && ruler.MatchString(strings.TrimSpace(lines[i+1])) && strings.HasPrefix(lines[i+1], "|")
			if row := Plain(strings.Trim(text, "| ")); !head && !ruler.MatchString(text) && row != "" {
				all = append(all, Sentence{i + 1, under, row})
			}
			continue
		}
		if mark := item.FindString(text); mark != "" {
			flush()
			text = text[len(mark):]
		}
		text = strings.TrimPrefix(text, "> ")
		if len(words) == 0 {
			begun = i + 1
		}
		words = append(words, text)
	}
	flush()
	return all
}

// split parts a paragraph behind a full stop, question or exclamation mark that a capital letter,
// or the begin of a name in code, follows.
func split(text string) []string {
	var all []string
	from := 0
	for i := 0; i < len(text); i++ {
		if !strings.ContainsRune(".!?", rune(text[i])) {
			continue
		}
		end := i + 1
		for end < len(text) && strings.ContainsRune(`")*`, rune(text[end])) {
			end++
		}
		if end >= len(text) || text[end] != ' ' {
			continue
		}
		next, _ := utf8.DecodeRuneInString(text[end+1:])
		if !unicode.IsUpper(next) && !strings.ContainsRune("`*(\"", next) {
			continue
		}
		all = append(all, text[from:end])
		from = end + 1
	}
	if rest := strings.TrimSpace(text[from:]); rest != "" {
		all = append(all, rest)
	}
	return all
}
