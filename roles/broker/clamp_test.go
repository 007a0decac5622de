package broker

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/roles/broker/group"
)

// TestOnlyWhatLiesBehindTheEndIsSetBack: an offset at the end is that of a group which has
// consumed all, and of a partition that nobody has answered for nothing is known.
func TestOnlyWhatLiesBehindTheEndIsSetBack(t *testing.T) {
	of := func(partition int32, offset int64) group.EarlierOffset {
		return group.EarlierOffset{Group: "g", Topic: "t", Partition: partition, Offset: offset}
	}
	began := map[topicPartition]int64{{"t", 0}: 40, {"t", 1}: 40, {"t", 2}: 40, {"t", 4}: math.MaxInt64}
	got := clampsOf([]group.EarlierOffset{of(0, 39), of(1, 40), of(2, 41), of(3, 1000), of(4, 1000)}, began)
	if want := []group.Clamp{{EarlierOffset: of(2, 41), To: 40}}; !slices.Equal(got, want) {
		t.Errorf("set back are %+v, want %+v", got, want)
	}
}

// TestALeaderKnowsWhereALifeBegan: nobody else does.
func TestALeaderKnowsWhereALifeBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startReplicas(t, 2)
		c.createTopic("events")
		c.produced("events", numbered("a", 3)...)
		leads := c.partition("events").Leader
		asked := []partitionAsked{{Topic: "events"}, {Topic: "another"}}
		if got := c.nodes[leads].lifesBeganHere(asked); !got[0].Known || got[0].Offset != 0 || got[1].Known {
			t.Errorf("its leader says %+v", got)
		}
		if got := c.nodes[leads%2+1].lifesBeganHere(asked); got[0].Known {
			t.Errorf("who does not lead says %+v", got)
		}
	})
}
