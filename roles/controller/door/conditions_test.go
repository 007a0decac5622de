package door

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/rpc"
)

// Of two that have seen the same through different processes, one changes it: who makes the
// change compares.
func TestConditionsAreComparedByWhoLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		first, second := h.door(h.options(1, 2)), h.door(h.options(1, 2))
		h.broker(first, 7)
		create(t, first, "t")
		synctest.Wait()
		mustTopic(t, second, "t")
		of := controller.Tagged{Kind: controller.TaggedTopic, Name: "t"}
		seen := of.TagIn(first.Image())
		under := func(tag string) context.Context {
			return controller.WithCondition(t.Context(), controller.Condition{Of: of, Tags: []string{tag}})
		}
		if err := first.CreatePartitions(under(seen), "t", 5, nil, false); err != nil {
			t.Fatal(err)
		}
		wantCode(t, "the second", second.CreatePartitions(under(seen), "t", 6, nil, false), metadata.InvalidUpdateVersion)
		wantCode(t, "one of a list", second.DeleteTopics(under(seen), []controller.TopicRef{{Name: "t"}})[0].Err, metadata.InvalidUpdateVersion)
		if n := mustTopic(t, first, "t").Partitions.Len(); n != 5 {
			t.Errorf("%d partitions", n)
		}
		// Its answer is lost: run again it would be refused, though it was done.
		h.member(1).then(func(err error) error {
			h.kill(1)
			h.elect(2)
			return err
		})
		before := h.runs.Load()
		topics := []controller.TopicRef{{ID: mustTopic(t, first, "t").ID}} // which else are asked for again
		wantCode(t, "of which nobody knows", first.DeleteTopics(under(of.TagIn(first.Image())), topics)[0].Err, metadata.RequestTimedOut)
		synctest.Wait()
		if runs := h.runs.Load() - before; runs != 1 {
			t.Errorf("run %d times", runs)
		}
	})
}

// A body that is none, or of a method that there is not, is refused.
func TestConditionsOfNonsense(t *testing.T) {
	h := newHouse(t, 1)
	unknown, err := encode(conditionalQ{Method: "Nonsense"})
	if err != nil {
		t.Fatal(err)
	}
	nested, err := encode(conditionalQ{Method: conditional, Body: unknown})
	if err != nil {
		t.Fatal(err)
	}
	large, err := encode(conditionalQ{Method: "Nonsense", Tags: strings.Repeat(",", rpc.MaxCall/2)})
	if err != nil {
		t.Fatal(err)
	}
	for what, body := range map[string][]byte{"no body": nil, "no gob": []byte("nonsense"), "unknown": unknown, "nested": nested, "large": large, "cut": unknown[:len(unknown)-1]} {
		var a rpc.Answer
		took := allocated(func() { a = h.member(1).server.Call(t.Context(), rpc.Call{Method: conditional, Body: body}) })
		if a.Refused == nil || took > 16<<20 {
			t.Errorf("%s: %+v, %d bytes taken", what, a, took)
		}
	}
}
