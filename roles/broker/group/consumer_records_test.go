package group

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// The bytes as Kafka's ConsumerGroup*Key.json and ConsumerGroup*Value.json lay
// them out (4.1).
const (
	goldenConsumerKey = `
		0003           kind
		0001 67        group "g"`
	goldenConsumerGroup = `
		0000               version
		00000007           epoch 7
		01                 tagged fields
		  00 08            metadata hash
		  0000000000000009`
	goldenConsumerMemberKey = `
		0005           kind
		0001 67        group "g"
		0002 6d31      member "m1"`
	goldenConsumerMember = `
		0000           version
		02 69          instance id "i"
		00             rack: null
		02 63          client id "c"
		03 2f68        client host "/h"
		02 02 61       subscribed: "a"
		03 622e        pattern "b."
		00004e20       rebalance time-out 20000 ms
		06 72616e6765  assignor "range"
		00             no tagged fields`
	goldenClassicMember = `
		0000           version
		00             instance id: null
		02 72          rack "r"
		02 63          client id "c"
		03 2f68        client host "/h"
		02 02 61       subscribed: "a"
		01             pattern: ""
		00004e20       rebalance time-out 20000 ms
		00             assignor: null
		01             tagged fields
		  00 10        classic member, 16 bytes
		  01           not null
		  00002710     session time-out 10000 ms
		  02           one protocol
		    06 72616e6765  "range"
		    02 53          metadata "S"
		    00
		  00`
	goldenTargetEpochKey = `
		0006           kind
		0001 67        group "g"`
	goldenTargetEpoch = `
		0000           version
		00000007       epoch 7
		00             no tagged fields`
	goldenTargetKey = `
		0007           kind
		0001 67        group "g"
		0002 6d31      member "m1"`
	goldenTarget = `
		0000           version
		02             one topic
		  0a000000 00000000 00000000 00000000
		  03 00000000 00000002
		  00
		00`
	goldenCurrentKey = `
		0008           kind
		0001 67        group "g"
		0002 6d31      member "m1"`
	goldenCurrent = `
		0000           version
		00000006       epoch 6
		00000005       the one before
		01             has to let go
		02             assigned: one topic
		  0a000000 00000000 00000000 00000000
		  02 00000000
		  01 00 05     since epoch
		    02 00000004
		02             to let go: one topic
		  0a000000 00000000 00000000 00000000
		  02 00000001
		  00
		00`
	goldenPatternKey = `
		0010           kind
		0001 67        group "g"
		0002 622e      pattern "b."`
	goldenPattern = `
		0000               version
		02 03 6231         topics: "b1"
		0000000000000003   in the metadata of version 3
		0000018bcfe56800   at 1700000000000
		00`
)

// goldens are keys and values of one group.
var goldens = [][2]string{
	{goldenConsumerKey, goldenConsumerGroup}, {goldenConsumerMemberKey, goldenConsumerMember}, {goldenTargetEpochKey, goldenTargetEpoch},
	{goldenTargetKey, goldenTarget}, {goldenCurrentKey, goldenCurrent}, {goldenPatternKey, goldenPattern},
}

func TestConsumerRecordsAreKafkas(t *testing.T) {
	opt := Options{Log: new(memoryLog)}
	if err := opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := NewCore(opt)
	for _, record := range goldens {
		if err := c.Replay(Record{Key: unhex(t, record[0]), Value: unhex(t, record[1])}); err != nil {
			t.Fatal(err)
		}
	}
	c.Loaded(time.Now())
	g := c.groups["g"]
	if c.Skipped() != 0 || g == nil || g.consumer == nil {
		t.Fatalf("%d skipped, %+v", c.Skipped(), g)
	}
	cg := g.consumer
	m := cg.members["m1"]
	a := storage.TopicID{0x0a}
	switch {
	case cg.epoch != 7 || cg.hash != 9 || m == nil || cg.instances["i"] != m:
		t.Fatalf("%+v", cg)
	case m.epoch != 6 || m.previous != 5 || m.state != memberUnrevoked || m.rebalance != 20*time.Second || m.assignor != "range":
		t.Fatalf("%+v", m)
	case !m.assigned.equal(assignment{a: {0}}) || !m.revoking.equal(assignment{a: {1}}) || !m.target.equal(assignment{a: {0, 2}}):
		t.Fatalf("%+v", m)
	case m.since[place{a, 0}] != 4:
		t.Fatalf("%+v", m.since)
	case cg.patterns["b."] == nil || cg.patterns["b."].topics[0] != "b1" || len(cg.owners) != 2:
		t.Fatalf("%+v", cg)
	}
	// And it is written as it was read.
	g.committed = nil
	cg.touched["m1"], cg.renewed["b."], cg.advanced = true, true, true
	cg.queue()
	if len(g.queued) != len(goldens) {
		t.Fatalf("%d records", len(g.queued))
	}
	for _, record := range goldens {
		wantBytes(t, record[0], g.queued[string(unhex(t, record[0]))], record[1])
	}
	classic := &consumerMember{
		rack: new("r"), clientID: "c", clientHost: "/h", topics: []string{"a"}, rebalance: 20 * time.Second,
		classic: &classicMember{session: 10 * time.Second, protocols: []protocol{{"range", []byte("S")}}},
	}
	wantBytes(t, "classic member", classic.encode(), goldenClassicMember)
	r, err := decodeConsumer(unhex(t, goldenConsumerMemberKey), unhex(t, goldenClassicMember))
	if err != nil || r.member.classic == nil || r.member.classic.session != 10*time.Second || string(r.member.classic.protocols[0].metadata) != "S" {
		t.Fatalf("%v, %+v", err, r.member)
	}
}

// Kafka 4.0 wrote what the topics were; it is read over. What a later version
// adds by tagged fields is, too.
func TestNewerAndOlderConsumerRecordsAreRead(t *testing.T) {
	opt := Options{Log: new(memoryLog)}
	if err := opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := NewCore(opt)
	for key, value := range map[string]string{
		"0004 0001 67": "0000 01 00",
		"0003 0001 67": "0000 00000007 02  00 08 0000000000000009  01 08 0000018bcfe56800",
		"0006 0001 67": "0000 00000007 01  00 08 0000018bcfe56800",
	} {
		if err := c.Replay(Record{Key: unhex(t, key), Value: unhex(t, value)}); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	c.Loaded(time.Now())
	if c.Skipped() != 0 || c.groups["g"].consumer.epoch != 7 {
		t.Fatalf("%d skipped", c.Skipped())
	}
}

// Damage is never read as absence: what does not decode fails the load.
func TestDamagedConsumerRecordFailsTheLoad(t *testing.T) {
	for _, record := range goldens {
		key, value := unhex(t, record[0]), unhex(t, record[1])
		for _, damaged := range []struct{ Key, Value []byte }{
			{key, value[:len(value)-1]}, {key, append(value[:len(value):len(value)], 0)}, {key[:len(key)-1], value}, {key, value[:1]},
			{key, append([]byte{0, 1}, value[2:]...)},
		} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t)
				var bld batch.Builder
				bld.Add(stamp, damaged.Key, damaged.Value)
				b, err := bld.Build()
				if err != nil {
					t.Fatal(err)
				}
				h.log.Append(Partition("g"), 0, b, log.Guard{}, func(storage.Offset, error) {})
				h.load(1)
				wantCode(t, "heartbeat", h.heartbeat("g", "m", 1), kerr.CoordinatorLoadInProgress)
			})
		}
	}
}

// FuzzReplayConsumers replays any record beside those of a group, then lives on
// with what came of it until nobody is left.
func FuzzReplayConsumers(f *testing.F) {
	t := new(testing.T)
	for _, record := range goldens {
		f.Add(unhex(t, record[0]), unhex(t, record[1]))
	}
	f.Add(unhex(t, goldenConsumerMemberKey), unhex(t, goldenClassicMember))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		opt := Options{Log: new(memoryLog), NewID: func() string { return "id" }}
		if err := opt.setDefaults(); err != nil {
			t.Fatal(err)
		}
		c := NewCore(opt)
		for _, record := range goldens {
			if err := c.Replay(Record{Key: unhex(t, record[0]), Value: unhex(t, record[1])}); err != nil {
				t.Fatal(err)
			}
		}
		if c.Replay(Record{Key: key, Value: value}) != nil {
			return
		}
		at := time.UnixMilli(stamp)
		c.Loaded(at)
		all := atlas{0, map[string]int32{}, map[string]storage.TopicID{}}.with("a", 3).with("b1", 1)
		fx := stepMatching(c, at, TopicsChanged{Wall: at, Catalogue: all})
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.RebalanceTimeoutMillis = 1, "g", "x", 1000
		req.SubscribedTopicNames, req.Topics = []string{"a"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		writes := fx.Writes
		for n := range 100 {
			if n == 1 {
				fx = stepMatching(c, at, Request{Call: 1, Wall: at, Body: req})
				writes = append(writes, fx.Writes...)
			}
			if len(writes) == 0 {
				deadline := c.Deadline()
				if deadline.IsZero() {
					break
				}
				if deadline.After(at) {
					at = deadline
				}
				fx = c.Step(at, Tick{Wall: at})
				writes = fx.Writes
				continue
			}
			for _, r := range writes[0].Records {
				if err := NewCore(opt).Replay(r); err != nil {
					t.Fatalf("our own record: %v", err)
				}
			}
			fx = c.Step(at, Written{IDs: []WriteID{writes[0].ID}})
			writes = append(writes[1:], fx.Writes...)
		}
		for _, g := range c.sorted() {
			if g.peopled() {
				t.Fatalf("nobody speaks, and yet it is not empty: %+v", g)
			}
			c.drop(g)
		}
		if _, bytes := c.Size(); bytes != 0 {
			t.Fatalf("%d bytes are left of nothing", bytes)
		}
	})
}

// What is recorded as a pattern and is none, empty or too large subscribes nobody to
// anything, is not asked for, and hurts no other member; what one matches need not be on
// record.
func TestRecordedPatternsThatAreNone(t *testing.T) {
	opt := Options{Log: new(memoryLog)}
	if err := opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := NewCore(opt)
	replay := func(kind uint16, of string, value []byte) {
		t.Helper()
		key := consumerKey(kind, "g", of)
		if kind == consumerGroupKind {
			key = consumerKey(kind, "g")
		}
		if err := c.Replay(Record{Key: key, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	replay(consumerGroupKind, "", (&consumerGroup{epoch: 7}).encode())
	subscribed := map[string]string{
		"named": "", "broken": "(", "large": strings.Repeat("a", 2*maxKeyString), "costly": "(?:a{1000}){11}", "lost": "t.*", "known": "u.*",
	}
	for id, source := range subscribed {
		replay(consumerMemberKind, id, (&consumerMember{id: id, pattern: source, topics: []string{"own"}}).encode())
		if source != "t.*" && len(source) < maxKeyString {
			replay(patternKind, source, (&subscription{topics: []string{"stale"}, resolved: true}).encode())
		}
	}
	c.Loaded(time.Unix(0, 0))
	cg := c.groups["g"].consumer
	fx := c.Step(time.Unix(1, 0), TopicsChanged{Catalogue: someTopics().with("own", 1).with("stale", 1)})
	if slices.Sort(fx.Match); !slices.Equal(slices.Compact(fx.Match), []string{"t.*", "u.*"}) {
		t.Fatalf("%q is asked for", fx.Match)
	}
	c.Step(time.Unix(2, 0), PatternsMatched{Matched: []*Matched{matchedIn(c.catalogue, "t.*"), matchedIn(c.catalogue, "u.*")}})
	for id := range subscribed {
		want := []string{"own"}
		if id == "lost" {
			want = []string{"own", "t"}
		}
		if got := cg.subscribedNames(cg.members[id]); !slices.Equal(got, want) {
			t.Errorf("%s subscribes %q, want %q", id, got, want)
		}
	}
}
