package report

import (
	"strings"
	"testing"
)

// TestEveryMissIsExplainedOrSaidNotToBe: a must that was missed stands at the head with its reason,
// an aim in its figure, and nothing that was reached is called missed.
func TestEveryMissIsExplainedOrSaidNotToBe(t *testing.T) {
	page := Results{Machine: "a machine", Rows: []Row{
		{Figure: "F1", Name: "reached", Unit: "×", Must: 1, Aim: 2, Median: 2.5},
		{Figure: "F1", Name: "short of the aim", Unit: "×", Must: 1, Aim: 2, Median: 1.5, Bound: "The disk."},
		{Figure: "F1", Name: "short of the must", Unit: "×", Must: 1, Aim: 2, Median: 0.5, Bound: "The client."},
		{Figure: "F2", Name: "too slow", Unit: "ms", Must: 10, Less: true, Median: 15},
		{Figure: "F2", Name: "only shown", Unit: "ms", Median: 15},
	}}.page()
	for _, want := range []string{
		"Of 4 figures that must reach something 2 do.",
		"| F1 | short of the must | ≥ 1.00 | 0.50 × | 50 % | The client. |",
		"| F2 | too slow | ≤ 10.0 | 15.0 ms | 50 % | " + unexplained + " |",
		"- short of the aim: 25 % short. The disk.",
		"| reached | ≥ 1.00 | ≥ 2.00 | 2.50 × (met) |",
		"| only shown |  |  | 15.0 ms |",
		"## F2. Consume",
	} {
		if !strings.Contains(strings.ReplaceAll(page, "\u00a0", " "), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Count(page, "missed)") != 3 {
		t.Errorf("of three rows that missed something %d are called so", strings.Count(page, "missed)"))
	}
}
