//go:build seeds

package seeds

import (
	"fmt"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kerr"
)

// at is what was asked at one moment and answered at another.
func at(call, answer int64, said any) porcupine.Operation {
	return porcupine.Operation{Call: call, Return: answer, Output: said}
}

// TestJudgesFindWhatIsWrong: each history that no order explains is found, and its
// neighbour that one does is not.
func TestJudgesFindWhatIsWrong(t *testing.T) {
	appended := func(o int64) logCall { return logCall{"append", o} }
	end := func(o int64) logCall { return logCall{"end", o} }
	create := topicCall{what: "create", partitions: 1}
	seen := topicCall{what: "look", there: true, partitions: 1, life: -1}
	for name, h := range map[string]struct {
		m    porcupine.Model
		ops  []porcupine.Operation
		fine bool
	}{
		"an end that goes back": {logModel, []porcupine.Operation{at(0, 1, appended(0)), at(2, 3, appended(1)), at(4, 5, end(1))}, false},
		"an end on its way":     {logModel, []porcupine.Operation{at(0, 1, appended(0)), at(2, 5, appended(1)), at(3, 4, end(1))}, true},
		"an offset twice":       {logModel, []porcupine.Operation{at(0, 1, appended(0)), at(2, 3, appended(0))}, false},
		"a hole":                {logModel, []porcupine.Operation{at(0, 1, appended(0)), at(2, 3, appended(2))}, false},
		"read before it was":    {logModel, []porcupine.Operation{at(0, 1, appended(0)), at(2, 3, logCall{"read", 1}), at(4, 5, appended(1))}, false},
		"a commit that is lost": {register, []porcupine.Operation{at(0, 1, offsetCall{set: true, offset: 5}), at(2, 3, offsetCall{offset: -1})}, false},
		"a commit that is less": {register, []porcupine.Operation{at(0, 1, offsetCall{set: true, offset: 5}), at(2, 3, offsetCall{set: true, offset: 4})}, false},
		"a commit nobody knows": {register, []porcupine.Operation{at(0, 9, offsetCall{set: true, offset: 5, unknown: true}), at(2, 3, offsetCall{offset: -1}), at(4, 5, offsetCall{offset: 5})}, true},
		"a topic made twice":    {named, []porcupine.Operation{at(0, 1, create), at(2, 3, create)}, false},
		"a topic gone":          {named, []porcupine.Operation{at(0, 1, create), at(2, 3, topicCall{what: "look", life: -1})}, false},
		"a topic deleted":       {named, []porcupine.Operation{at(0, 1, create), at(2, 4, topicCall{what: "delete"}), at(3, 5, seen)}, true},
		"a topic not deleted":   {named, []porcupine.Operation{at(0, 1, create), at(2, 3, topicCall{what: "delete"}), at(4, 5, seen)}, false},
		"deleted of nothing":    {named, []porcupine.Operation{at(0, 1, create), at(2, 3, topicCall{what: "delete", err: kerr.UnknownTopicOrPartition})}, false},
	} {
		if problem := judgeHistory(name, h.m, h.ops); (problem == "") != h.fine {
			t.Errorf("%s: %q", name, problem)
		}
	}
}

// TestHistoriesFindWhatIsWrong: lost, twice, reordered, and another value at one offset.
func TestHistoriesFindWhatIsWrong(t *testing.T) {
	first, second := newID(1, 1), newID(1, 2)
	for name, show := range map[string]func(*history){
		"lost":      func(h *history) { h.ack(first, 0, 0); h.judge(0, 1, 0) },
		"twice":     func(h *history) { h.read(first.value(), 0, 0); h.read(first.value(), 0, 1) },
		"changed":   func(h *history) { h.ack(first, 0, 0); h.read(second.value(), 0, 0) },
		"reordered": func(h *history) { h.ack(second, 0, 0); h.ack(first, 0, 1); h.judge(0, 2, 2) },
		"a hole":    func(h *history) { h.ack(first, 0, 1); h.judge(0, 2, 2) },
		"a bit":     func(h *history) { b := first.value(); b[len(b)-1] ^= 1; h.read(b, 0, 0) },
		"copied twice": func(h *history) {
			h.ack(first, 0, 0)
			h.ack(second, 0, 1)
			c := &copied{topic: "copied", source: h}
			c.judge("a reader", 0, 0, 0, first.value())
			c.judge("a reader", 1, 0, 2, first.value())
		},
	} {
		found := ""
		show(newHistory("t", func(format string, args ...any) { found = fmt.Sprintf(format, args...) }))
		if found == "" {
			t.Errorf("%s: not found", name)
		}
	}
}
