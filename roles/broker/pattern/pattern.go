package pattern

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// MaxInstructions bounds what a pattern compiles to. It is matched with every name
// that there is.
const MaxInstructions = 10_000

// What a pattern takes in memory, about, and for each instruction, with what a match
// keeps of it meanwhile.
const (
	patternBytes     = 1000
	instructionBytes = 100
)

// Pattern matches whole names.
type Pattern struct {
	*regexp.Regexp
	Memory int64 // bytes that it takes, about
}

// Compile returns what matches whole names, or why a pattern is not taken: it is not
// valid, or would take too long.
func Compile(source string) (*Pattern, error) {
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, err
	}
	n := instructions(tree)
	if n > MaxInstructions {
		return nil, fmt.Errorf("a pattern of %d bytes compiles to more than %d instructions", len(source), MaxInstructions)
	}
	expression, err := regexp.Compile(`\A(?:` + source + `)\z`)
	if err != nil {
		return nil, err
	}
	return &Pattern{expression, patternBytes + int64(2*len(source)) + int64(n)*instructionBytes}, nil
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
