package admin

import (
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
)

// visible is text that changes nothing of a terminal but what stands in this place: ids
// and names that clients choose are any bytes, line ends and escape sequences too. What
// does not print becomes as in a Go string.
func visible(text string) string {
	odd := func(r rune) bool { return !strconv.IsPrint(r) }
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if odd(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// visibleTable is a table whose cells are visible.
type visibleTable struct{ table.Writer }

// AppendRow adds a row to be shown.
func (t visibleTable) AppendRow(row table.Row, configs ...table.RowConfig) {
	shown := make(table.Row, len(row))
	for i, cell := range row {
		if text, ok := cell.(string); ok {
			cell = visible(text)
		}
		shown[i] = cell
	}
	t.Writer.AppendRow(shown, configs...)
}
