package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// Row is one line of the results: a ratio with its bounds, or a bare figure.
type Row struct {
	Figure string  `json:"figure"` // "F1", "B1"
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // "×" for ratios
	Must   float64 `json:"must,omitempty"`
	Aim    float64 `json:"aim,omitempty"`
	// Less means that smaller is better: must and aim are upper bounds.
	Less   bool      `json:"less,omitempty"`
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Pairs  []float64 `json:"pairs,omitempty"`
	// Bound is what a profile showed to stand between the median and the aim.
	Bound string `json:"bound,omitempty"`
	// Detail is the two sides in absolute figures, which do not travel.
	Detail string `json:"detail,omitempty"`
	// When and of what it was measured.
	Date   string `json:"date"`
	Commit string `json:"commit"`
}

// Missed reports whether the must of the row was not reached.
func (r Row) Missed() bool {
	switch {
	case r.Must == 0:
		return false
	case r.Less:
		return r.Median > r.Must
	default:
		return r.Median < r.Must
	}
}

// aimed reports whether the aim, when there is one, was reached.
func (r Row) aimed() bool {
	switch {
	case r.Aim == 0:
		return !r.Missed()
	case r.Less:
		return r.Median <= r.Aim
	default:
		return r.Median >= r.Aim
	}
}

// short is the share of what was to be reached by which the median misses it.
func (r Row) short(of float64) float64 {
	if r.Less {
		return r.Median/of - 1
	}
	return 1 - r.Median/of
}

// Results is one file of bench/results.
type Results struct {
	Date    string `json:"date"`
	Commit  string `json:"commit"`
	Machine string `json:"machine"`
	Rows    []Row  `json:"rows"`
}

// With returns r with the rows of other figures that the newest results have, each
// figure in its place.
func (r Results) With(old Results, order func(figure string) int) Results {
	measured := map[string]bool{}
	for _, row := range r.Rows {
		measured[row.Figure] = true
	}
	for _, row := range old.Rows {
		if !measured[row.Figure] {
			r.Rows = append(r.Rows, row)
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b Row) int { return order(a.Figure) - order(b.Figure) })
	return r
}

// Write keeps r in dir as the results of its day, and returns the file's name.
func (r Results) Write(dir string) (string, error) {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	name := filepath.Join(dir, r.Date+".json")
	return name, os.WriteFile(name, append(raw, '\n'), 0o644)
}

// Newest reads the last results that were written to dir.
func Newest(dir string) (Results, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(names) == 0 {
		return Results{}, fmt.Errorf("no results in %s: run make bench (%v)", dir, err)
	}
	sort.Strings(names)
	last := names[len(names)-1]
	raw, err := os.ReadFile(last)
	if err != nil {
		return Results{}, err
	}
	var r Results
	if err := json.Unmarshal(raw, &r); err != nil {
		return Results{}, fmt.Errorf("read %s: %w", last, err)
	}
	for i := range r.Rows { // results that were measured as a whole
		if r.Rows[i].Date == "" {
			r.Rows[i].Date, r.Rows[i].Commit = r.Date, r.Commit
		}
	}
	return r, nil
}
