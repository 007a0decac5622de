package pattern

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// MaxInstructions bounds what a pattern compiles to. It is matched with every name
// that there is.
const MaxInstructions = 10_000

// Compile returns what matches whole names, or why a pattern is not taken: it is not
// valid, or would take too long.
func Compile(source string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if instructions(tree) > MaxInstructions {
		return nil, fmt.Errorf("a pattern of %d bytes compiles to more than %d instructions", len(source), MaxInstructions)
	}
	return regexp.Compile(`\A(?:` + source + `)\z`)
}

// instructions is about how many a pattern compiles to.
func instructions(t *syntax.Regexp) int {
	n := 1 + len(t.Rune)
	for _, sub := range t.Sub {
		n = min(n+instructions(sub), MaxInstructions+1)
	}
	if t.Op == syntax.OpRepeat {
		n *= max(t.Min, t.Max, 1) + 1
	}
	return min(n, MaxInstructions+1)
}
