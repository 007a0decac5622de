package pipeline

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// topicFilter is the topics of a spec, ready for use.
type topicFilter struct {
	exact    map[string]bool // positive, plain names
	patterns []pattern       // the other positive ones
	not      []pattern
	all      bool // there are negated ones only
}

// pattern reports whether a name is meant.
type pattern func(name string) bool

// MatchesTopic reports whether the module is for a topic: if one of the spec's patterns
// matches its name and none of the negated ones, which begin with "!". Where all are
// negated, every other topic is meant. A pattern is a plain name; a glob, if it has one of
// *, ? and [; or prefix:…, suffix:… and regex:… (RE2, not anchored).
func (s *Spec) MatchesTopic(name string) bool { return s.topics.matches(name) }

func (f *topicFilter) matches(name string) bool {
	for _, is := range f.not {
		if is(name) {
			return false
		}
	}
	if f.all || f.exact[name] {
		return true
	}
	for _, is := range f.patterns {
		if is(name) {
			return true
		}
	}
	return false
}

func compileTopics(topics []string) (f topicFilter, err error) {
	if len(topics) == 0 {
		return f, errors.New("topics is empty: name the topics, or patterns of them")
	}
	if len(topics) > maxTopics {
		return f, fmt.Errorf("topics has %d patterns: use at most %d", len(topics), maxTopics)
	}
	f.exact, f.all = map[string]bool{}, true
	var errs []error
	for _, text := range topics {
		rest, negated := strings.CutPrefix(text, "!")
		is, err := compilePattern(rest)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("topics: %q: %w", text, err))
		case negated:
			f.not = append(f.not, is)
		default:
			f.all = false
			if isPlain(rest) {
				f.exact[rest] = true
			} else {
				f.patterns = append(f.patterns, is)
			}
		}
	}
	return f, errors.Join(errs...)
}

func isPlain(text string) bool { return !strings.ContainsAny(text, "*?[:") }

// compilePattern reads one pattern, without its negation.
func compilePattern(text string) (pattern, error) {
	if text == "" || len(text) > maxPattern {
		return nil, fmt.Errorf("%d bytes: a pattern has 1 to %d", len(text), maxPattern)
	}
	kind, rest, typed := strings.Cut(text, ":")
	if typed && rest == "" {
		return nil, fmt.Errorf("nothing stands behind %s: say what to match", kind+":")
	}
	switch {
	case !typed && isPlain(text):
		return func(name string) bool { return name == text }, nil
	case !typed:
		re, err := compileGlob(text)
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	case kind == "prefix":
		return func(name string) bool { return strings.HasPrefix(name, rest) }, nil
	case kind == "suffix":
		return func(name string) bool { return strings.HasSuffix(name, rest) }, nil
	case kind == "regex":
		re, err := regexp.Compile(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: it is RE2's syntax", err)
		}
		return re.MatchString, nil
	}
	return nil, fmt.Errorf("%q is no kind of pattern: use prefix:, suffix:, regex:, a glob or a name", kind)
}

// compileGlob reads a glob: * is any text, ? any character, […] one of several and [^…] any
// other; a backslash goes before what is to mean itself. A slash is a character like others,
// which path.Match, whose syntax it is, has stand for itself alone.
func compileGlob(text string) (*regexp.Regexp, error) {
	if _, err := path.Match(text, ""); err != nil {
		return nil, fmt.Errorf("%w: a bracket or a backslash is left open", err)
	}
	var b strings.Builder
	b.WriteString("(?s)^")
	var before rune
	among := false // inside brackets
	for _, c := range text {
		switch {
		case before == '\\':
			before = 0
			writeLiteral(&b, c)
			continue
		case c == '\\':
		case among:
			if among = c != ']'; !among || c == '-' || c == '^' && before == '[' {
				b.WriteRune(c)
			} else {
				writeLiteral(&b, c)
			}
		case c == '[':
			among = true
			b.WriteRune(c)
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteByte('.')
		default:
			writeLiteral(&b, c)
		}
		before = c
	}
	b.WriteByte('$')
	return regexp.Compile(b.String())
}

// writeLiteral writes a character that means itself in a regular expression.
func writeLiteral(b *strings.Builder, c rune) {
	if c < utf8.RuneSelf && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
		b.WriteByte('\\')
	}
	b.WriteRune(c)
}
