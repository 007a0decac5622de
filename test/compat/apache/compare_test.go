//go:build suites

package apache

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// difference is one field that the servers answer differently.
type difference struct {
	key           int16
	version       int16
	where         string // sequence/label
	path          string
	kafka, rustmq string
}

// compare returns how two runs of the same lap differ, and how many fields it has
// looked at.
func compare(sequence string, kafka, rustmq []step) (all []difference, fields int) {
	for i := range max(len(kafka), len(rustmq)) {
		if i >= len(kafka) || i >= len(rustmq) || kafka[i].label != rustmq[i].label {
			d := difference{where: sequence + "/*", path: "steps"}
			d.kafka, d.rustmq = labelAt(kafka, i), labelAt(rustmq, i)
			return append(all, d), fields
		}
		a, b := kafka[i], rustmq[i]
		d := difference{key: a.key, version: a.version, where: sequence + "/" + a.label}
		for _, f := range pairs(a.fields, b.fields) {
			fields++
			if f.kafka != f.rustmq {
				d.path, d.kafka, d.rustmq = f.path, f.kafka, f.rustmq
				all = append(all, d)
			}
		}
	}
	return all, fields
}

func labelAt(steps []step, i int) string {
	if i >= len(steps) {
		return "ended"
	}
	if s := steps[i]; s.key == 0 && len(s.fields) == 1 && s.fields[0].path == "" {
		return s.label + ": " + s.fields[0].value
	}
	return steps[i].label
}

// pairs puts fields of the same path side by side: all values at once where one
// server has more of them than the other.
func pairs(kafka, rustmq []field) (all []difference) {
	if slices.EqualFunc(kafka, rustmq, func(a, b field) bool { return a.path == b.path }) {
		for i := range kafka {
			all = append(all, difference{path: kafka[i].path, kafka: kafka[i].value, rustmq: rustmq[i].value})
		}
		return all
	}
	seen := map[string]bool{}
	var above []string // whose presence or length differs: nothing below compares
	both := slices.Concat(kafka, rustmq)
	slices.SortStableFunc(both, func(a, b field) int { return strings.Compare(a.path, b.path) })
	for _, f := range both {
		if seen[f.path] || slices.ContainsFunc(above, func(a string) bool { return strings.HasPrefix(f.path, a+".") }) {
			continue
		}
		seen[f.path] = true
		d := difference{path: f.path, kafka: valuesAt(kafka, f.path), rustmq: valuesAt(rustmq, f.path)}
		if d.kafka != d.rustmq {
			above = append(above, f.path)
		}
		all = append(all, d)
	}
	return all
}

func valuesAt(fields []field, path string) string {
	var all []string
	for _, f := range fields {
		if f.path == path {
			all = append(all, f.value)
		}
	}
	if all == nil {
		return "absent"
	}
	return strings.Join(all, ", ")
}

// line is one of differences.txt:
//
//	key versions sequence/label path: kafka | rustmq
//
// Versions are 3 or 0-7; in the other words * stands for anything. The reason is
// the comment above it.
type line struct {
	text          string
	key           string
	low, high     int16
	where, path   string
	kafka, rustmq string
	used          bool
}

func readLines(t *testing.T, file string) (all []*line) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reason := false
	for n, text := range strings.Split(string(raw), "\n") {
		if text == "" {
			reason = false
			continue
		}
		if strings.HasPrefix(text, "#") {
			reason = reason || len(strings.TrimSpace(strings.TrimLeft(text, "#"))) > 0
			continue
		}
		if !reason {
			t.Fatalf("%s:%d: no reason stands above it", file, n+1)
		}
		head, values, ok := strings.Cut(text, " :: ")
		l := &line{text: text}
		l.kafka, l.rustmq, _ = strings.Cut(values, " | ")
		words := strings.Fields(head)
		if !ok || len(words) < 4 {
			t.Fatalf("%s:%d: not `key versions sequence/label path :: kafka | rustmq`", file, n+1)
		}
		l.key, l.path = words[0], words[len(words)-1]
		l.where = strings.Join(words[2:len(words)-1], " ")
		low, high, isRange := strings.Cut(words[1], "-")
		if !isRange {
			high = low
		}
		a, errA := strconv.ParseInt(low, 10, 16)
		b, errB := strconv.ParseInt(high, 10, 16)
		if errA != nil || errB != nil {
			t.Fatalf("%s:%d: versions are 3 or 0-7, not %s", file, n+1, words[1])
		}
		l.low, l.high = int16(a), int16(b)
		all = append(all, l)
	}
	return all
}

func (l *line) covers(d difference) bool {
	return matches(l.key, kmsg.NameForKey(d.key)) && l.low <= d.version && d.version <= l.high &&
		matches(l.where, d.where) && matches(l.path, d.path) && matches(l.kafka, d.kafka) && matches(l.rustmq, d.rustmq)
}

// matches tells whether text is what the pattern says, * being anything.
func matches(pattern, text string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == text
	}
	ok, err := path.Match(strings.ReplaceAll(escaped.Replace(pattern), "/", "\x00"), strings.ReplaceAll(text, "/", "\x00"))
	return err == nil && ok
}

// escaped keeps path.Match from seeing more in a pattern than *.
var escaped = strings.NewReplacer(`[`, `\[`, `]`, `\]`, `?`, `\?`, `\`, `\\`)

// lines are the differences as differences.txt has them, versions joined.
func lines(all []difference) (texts []string) {
	type group struct {
		text string
		seen []int16
	}
	var groups []*group
	byText := map[string]*group{}
	for _, d := range all {
		text := fmt.Sprintf("%s %s :: %s | %s", d.where, d.path, d.kafka, d.rustmq)
		id := fmt.Sprint(d.key, " ", text)
		if byText[id] == nil {
			byText[id] = &group{text: kmsg.NameForKey(d.key) + " %s " + strings.ReplaceAll(text, "%", "%%")}
			groups = append(groups, byText[id])
		}
		byText[id].seen = append(byText[id].seen, d.version)
	}
	for _, g := range groups {
		low, high := slices.Min(g.seen), slices.Max(g.seen)
		versions := strconv.Itoa(int(low))
		if high != low {
			versions += "-" + strconv.Itoa(int(high))
		}
		texts = append(texts, fmt.Sprintf(g.text, versions))
	}
	return texts
}
