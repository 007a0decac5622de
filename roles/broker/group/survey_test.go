package group

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSurveyTellsOfEveryGroup: groups without members and offsets as well, and no
// more offsets than asked for, the rest counted.
func TestSurveyTellsOfEveryGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		ask := func(partition int32, most int) Survey {
			t.Helper()
			return now(t, call(h, func(ctx context.Context, most int, answer func(Survey)) { h.Survey(ctx, partition, most, answer) }, most))
		}
		wantCode(t, "before the load", ask(Partition("g"), 1).Code, kerr.NotCoordinator)
		wantCode(t, "of no partition", ask(Partitions, 1).Code, kerr.NotCoordinator)
		h.load(1)
		if s := ask(Partition("g"), 9); len(s.Groups) != 0 || s.Left != 0 || s.Code != 0 {
			t.Errorf("of nothing: %+v", s)
		}
		q := commitRequest("g", 7)
		for _, p := range []int32{2, 1} {
			more := q.Topics[0]
			more.Topic, more.Partitions = "a", []kmsg.OffsetCommitRequestTopicPartition{{Partition: p, Offset: int64(p)}}
			q.Topics = append(q.Topics, more)
		}
		wantCode(t, "commit", commitCode(now(t, call(h, h.OffsetCommit, q))), nil)
		t0 := q.Topics[0]
		all := []Committed{{"a", 1, 1}, {"a", 2, 2}, {t0.Topic, t0.Partitions[0].Partition, 7}}
		for most := range 4 {
			got := ask(Partition("g"), most)
			if len(got.Groups) != 1 || got.Left != 3-most {
				t.Fatalf("at most %d: %+v", most, got)
			}
			g := got.Groups[0]
			if g.ID != "g" || g.Type != "classic" || g.State != "Empty" || g.Members != 0 || len(g.Offsets) != most ||
				most > 0 && !reflect.DeepEqual(g.Offsets, all[:most]) {
				t.Errorf("at most %d: %+v", most, g)
			}
		}
	})
}
