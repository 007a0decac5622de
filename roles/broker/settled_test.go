package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Who has made, grown or deleted a topic finds it so at whatever broker it asks next. A broker that
// hears nothing holds up nobody for longer than a moment.
func TestAChangeOfTopicsIsKnownEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late *hearing
		c := newCluster(t, 3, false, nil, func(o *Options) {
			if o.NodeID == 3 {
				late = &hearing{testController: o.Controller.(*testController)}
				o.Controller = late
			}
		})
		asks, elsewhere := c.nodes[1].connect(), c.nodes[3].connect()
		known := func() int {
			q := metadataOf("events")
			p := ask[*kmsg.MetadataResponse](elsewhere, 9, q).Topics[0]
			if p.ErrorCode == kerr.UnknownTopicOrPartition.Code {
				return 0
			}
			return len(p.Partitions)
		}
		grown := kmsg.NewPtrCreatePartitionsRequest()
		grown.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "events", Count: 3}}
		deleted := kmsg.NewPtrDeleteTopicsRequest()
		deleted.TopicNames = []string{"events"}
		for _, step := range []struct {
			what    string
			do      func() int16
			want    int
			unheard bool
		}{
			{"made", func() int16 {
				return ask[*kmsg.CreateTopicsResponse](asks, 7, createTopics("events")).Topics[0].ErrorCode
			}, 2, false},
			{"grown", func() int16 { return ask[*kmsg.CreatePartitionsResponse](asks, 3, grown).Topics[0].ErrorCode }, 3, false},
			{"deleted", func() int16 { return ask[*kmsg.DeleteTopicsResponse](asks, 5, deleted).Topics[0].ErrorCode }, 0, false},
			{"made, and it is not heard", func() int16 {
				return ask[*kmsg.CreateTopicsResponse](asks, 7, createTopics("events")).Topics[0].ErrorCode
			}, 0, true},
		} {
			late.reach(false)
			const heard = 100 * time.Millisecond
			if !step.unheard {
				time.AfterFunc(heard, func() { late.reach(true) }) // simulated
			}
			began := time.Now()
			if code := step.do(); code != 0 {
				t.Fatalf("%s: %v", step.what, kerr.ErrorForCode(code))
			}
			took := time.Since(began)
			if got := known(); got != step.want {
				t.Errorf("%s: after %v broker 3 knows %d partitions, want %d", step.what, took, got, step.want)
			}
			if took < heard || took > settleElsewhere {
				t.Errorf("%s: it is answered after %v, want %v to %v", step.what, took, heard, settleElsewhere)
			}
		}
		late.reach(true)
	})
}
