//go:build seeds

package seeds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkTime is real time that one history may take to be judged.
const checkTime = 20 * time.Second

// linear judges the histories of a world that has ended: each has to be what one thing,
// asked one question after the other, could have answered.
func (w *world) linear(t *testing.T, c *crowd) {
	t.Helper()
	checked := 0
	check := func(what string, m porcupine.Model, ops []porcupine.Operation) {
		checked += len(ops)
		if problem := judgeHistory(what, m, ops); problem != "" {
			t.Errorf("seed %d: %s\nafter:\n%s", w.seed, problem, strings.Join(w.done, "\n"))
		}
	}
	for p, ops := range c.record.calls {
		check(fmt.Sprintf("the log of %s-%d", c.record.topic, p), logModel, ops)
	}
	if c.members != nil {
		for p, ops := range c.members.offsets {
			check(fmt.Sprintf("what the members have committed of partition %d", p), register, ops)
		}
	}
	if c.registrars != nil {
		for _, name := range c.registrars.names {
			check("topic "+name, named, c.registrars.history(name))
		}
	}
	t.Logf("%d answers were judged in their order", checked)
}

// judgeHistory says what is wrong with a history; empty: nothing.
func judgeHistory(what string, m porcupine.Model, ops []porcupine.Operation) string {
	result, info := porcupine.CheckOperationsVerbose(m, ops, checkTime)
	if result == porcupine.Ok {
		return ""
	}
	if result == porcupine.Unknown {
		return fmt.Sprintf("%s: %d answers were not judged in %v", what, len(ops), checkTime)
	}
	// What stands where the longest order that is possible ends.
	longest := []int{}
	for _, part := range info.PartialLinearizations() {
		for _, order := range part {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	left := []porcupine.Operation{}
	for i, op := range ops {
		if !slices.Contains(longest, i) {
			left = append(left, op)
		}
	}
	slices.SortStableFunc(left, func(a, b porcupine.Operation) int { return int(min(1, max(-1, a.Return-b.Return))) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s: no order explains %d answers; one explains %d. Of those it ends with:", what, len(ops), len(longest))
	tell := func(op porcupine.Operation) {
		fmt.Fprintf(&b, "\n\t%v to %v  %s", time.Duration(op.Call).Round(time.Microsecond), time.Duration(op.Return).Round(time.Microsecond), m.DescribeOperation(op.Input, op.Output))
	}
	for _, i := range longest[max(0, len(longest)-8):] {
		tell(ops[i])
	}
	b.WriteString("\nand of those it leaves:")
	for _, op := range left[:min(8, len(left))] {
		tell(op)
	}
	return b.String()
}
