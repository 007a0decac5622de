package group

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math"
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

// The bytes as Kafka's OffsetCommitKey.json, OffsetCommitValue.json,
// GroupMetadataKey.json and GroupMetadataValue.json lay them out.
const (
	goldenCommitKey = `
		0001           version
		0001 67        group "g"
		0002 7431      topic "t1"
		00000007       partition`
	goldenCommit = `
		0003               version
		000000000000002a   offset 42
		00000005           leader epoch
		0002 6d64          metadata "md"
		0000018bcfe56800   committed at 1700000000000`
	goldenExpiringCommit = `
		0001               version
		000000000000002a   offset 42
		0002 6d64          metadata "md"
		0000018bcfe56800   committed at 1700000000000
		0000018bcfe65260   expires a minute later`
	goldenGroupKey = `
		0002           version
		0001 67        group "g"`
	goldenGroup = `
		0003                    version
		0008 636f6e73756d6572   protocol type "consumer"
		00000003                generation
		0005 72616e6765         protocol "range"
		0003 612d31             leader "a-1"
		0000018bcfe56800        in this state since 1700000000000
		00000002                members
		  0003 612d31           member "a-1"
		  ffff                  instance id: null
		  0001 61               client id "a"
		  0002 2f68             client host "/h"
		  00004e20              rebalance time-out 20000 ms
		  00002710              session time-out 10000 ms
		  00000001 53           subscription
		  00000002 5831         assignment "X1"
		  0003 692d32           member "i-2"
		  0001 69               instance id "i"
		  0001 62               client id "b"
		  0002 2f68             client host "/h"
		  00004e20              rebalance time-out
		  00002710              session time-out
		  00000001 54           subscription
		  00000000              assignment: none`
	goldenEmptyGroup = `
		0003                    version
		0008 636f6e73756d6572   protocol type "consumer"
		00000004                generation
		ffff                    protocol: null
		ffff                    leader: null
		0000018bcfe56800        in this state since 1700000000000
		00000000                members`
)

func unhex(t *testing.T, golden string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.SplitSeq(golden, "\n") {
		for word := range strings.FieldsSeq(line) {
			if _, err := hex.DecodeString(word); err != nil {
				break // the comment begins
			}
			digits.WriteString(word)
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantBytes(t *testing.T, what string, got []byte, golden string) {
	t.Helper()
	if want := unhex(t, golden); !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

const stamp = 1_700_000_000_000

// goldenState is a core with the group of the golden bytes.
func goldenState(t *testing.T) (*Core, *group) {
	t.Helper()
	opt := Options{Log: new(memoryLog)}
	if err := opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := NewCore(opt)
	g := c.make("g")
	g.state, g.generation, g.protocolType, g.protocol, g.since = stable, 3, consumerProtocol, "range", stamp
	for _, m := range []*member{
		{id: "a-1", clientID: "a", protocols: []protocol{{"range", []byte("S")}, {"other", []byte("O")}}},
		{id: "i-2", clientID: "b", protocols: []protocol{{"range", []byte("T")}}, instance: new("i")},
	} {
		m.clientHost, m.session, m.rebalance = "/h", 10*time.Second, 20*time.Second
		g.add(m)
	}
	return c, g
}

func TestRecordsAreKafkas(t *testing.T) {
	_, g := goldenState(t)
	r := encodeGroup(g, map[string][]byte{"a-1": []byte("X1"), "stranger": []byte("Y")})
	wantBytes(t, "key of a group", r.Key, goldenGroupKey)
	wantBytes(t, "group", r.Value, goldenGroup)
	for _, m := range g.ordered() {
		g.remove(m)
	}
	g.generation = 4
	wantBytes(t, "empty group", encodeGroup(g, nil).Value, goldenEmptyGroup)

	at := slot{"t1", 7}
	r = encodeCommit("g", at, commit{42, 5, 0, "md", stamp, -1, storage.TopicID{}, 0})
	wantBytes(t, "key of a commit", r.Key, goldenCommitKey)
	wantBytes(t, "commit", r.Value, goldenCommit)
	wantBytes(t, "commit that expires", encodeCommit("g", at, commit{42, 5, 0, "md", stamp, stamp + 60_000, storage.TopicID{}, 0}).Value, goldenExpiringCommit)
}

func TestGoldenRecordsAreReplayed(t *testing.T) {
	opt := Options{Log: new(memoryLog)}
	if err := opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	c := NewCore(opt)
	replay := func(key, value string) {
		t.Helper()
		var v []byte
		if value != "" {
			v = unhex(t, value)
		}
		if err := c.Replay(Record{Key: unhex(t, key), Value: v}); err != nil {
			t.Fatal(err)
		}
	}
	replay(goldenGroupKey, goldenGroup)
	replay(goldenCommitKey, goldenCommit)
	g := c.groups["g"]
	a, i := g.members["a-1"], g.members["i-2"]
	if g.state != stable || g.generation != 3 || g.protocol != "range" || g.leader != "a-1" || g.since != stamp || len(g.members) != 2 {
		t.Fatalf("%+v", g)
	}
	if string(a.assignment) != "X1" || string(a.metadata("range")) != "S" || a.session != 10*time.Second || a.rebalance != 20*time.Second || g.instances["i"] != i {
		t.Fatalf("%+v, %+v", a, i)
	}
	if got, want := g.offsets["t1"][7], (commit{42, 5, 0, "md", stamp, -1, storage.TopicID{}, 1}); got != want {
		t.Fatalf("%+v", got)
	}
	replay(goldenCommitKey, goldenExpiringCommit)
	if got, want := g.offsets["t1"][7], (commit{42, -1, 0, "md", stamp, stamp + 60_000, storage.TopicID{}, 2}); got != want {
		t.Fatalf("%+v", got)
	}
	replay(goldenGroupKey, goldenEmptyGroup)
	if g.state != empty || g.generation != 4 || len(g.members)+len(g.instances) != 0 {
		t.Fatalf("%+v", g)
	}
	replay(goldenCommitKey, "")
	replay(goldenGroupKey, "")
	c.Loaded(time.Time{})
	if groups, bytes := c.Size(); groups != 0 || bytes != 0 {
		t.Fatalf("%d groups, %d bytes are left", groups, bytes)
	}
	if err := c.Replay(Record{Key: []byte{0, 11, 0, 1, 'g'}, Value: []byte("of a share group")}); err != nil || c.Skipped() != 1 {
		t.Fatalf("%v, %d skipped", err, c.Skipped())
	}
}

// Damage is never read as absence: what does not decode fails the load.
func TestDamagedRecordFailsTheLoad(t *testing.T) {
	commitKey, commitValue := unhex(t, goldenCommitKey), unhex(t, goldenCommit)
	groupKey, groupValue := unhex(t, goldenGroupKey), unhex(t, goldenGroup)
	twice := bytes.Replace(groupValue, []byte("i-2"), []byte("a-1"), 1)
	for name, r := range map[string]struct{ Key, Value []byte }{
		"no key":               {nil, commitValue},
		"cut key":              {commitKey[:8], commitValue},
		"cut commit":           {commitKey, commitValue[:20]},
		"empty commit":         {commitKey, []byte{}},
		"commit of version 9":  {commitKey, []byte{0, 9, 0, 0}},
		"cut key of a group":   {groupKey[:3], groupValue},
		"cut group":            {groupKey, groupValue[:60]},
		"group of version 9":   {groupKey, []byte{0, 9}},
		"member that is twice": {groupKey, twice},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(t)
				w := new(batch.Builder)
				w.Add(stamp, r.Key, r.Value)
				b, err := w.Build()
				if err != nil {
					t.Fatal(err)
				}
				h.log.Append(Partition("g"), 0, b, log.Guard{}, func(storage.Offset, error) {})
				h.load(1)
				wantCode(t, "heartbeat", h.heartbeat("g", "m", 1), kerr.CoordinatorLoadInProgress)
				_, _, _, err = h.shard("g").replay()
				var damaged *RecordError
				if !errors.As(err, &damaged) || damaged.Offset != 0 || damaged.Partition != Partition("g") {
					t.Fatalf("%v", err)
				}
			})
		})
	}
}

// FuzzReplay replays any record, then lives on with what came of it.
func FuzzReplay(f *testing.F) {
	t := new(testing.T)
	f.Add(unhex(t, goldenCommitKey), unhex(t, goldenCommit))
	f.Add(unhex(t, goldenCommitKey), unhex(t, goldenExpiringCommit))
	f.Add(unhex(t, goldenGroupKey), unhex(t, goldenGroup))
	f.Add(unhex(t, goldenGroupKey), unhex(t, goldenEmptyGroup))
	f.Add(unhex(t, goldenGroupKey), []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		opt := Options{Log: new(memoryLog), NewID: func() string { return "id" }}
		if err := opt.setDefaults(); err != nil {
			t.Fatal(err)
		}
		c := NewCore(opt)
		if err := c.Replay(Record{Key: key, Value: value}); err != nil {
			return
		}
		at := time.UnixMilli(stamp)
		c.Loaded(at)
		if groups, _ := c.Size(); groups == 0 {
			return
		}
		g := c.sorted()[0]
		var calls Call
		ask := func(body any) Effects {
			calls++
			return c.Step(at, Request{Call: calls, Wall: at, Body: body})
		}
		ask(&DescribeGroup{Group: g.id})
		join := joinRequest("x", "")
		join.Group = g.id
		fx := ask(join)
		for n := range 100 {
			for _, w := range fx.Writes {
				for _, r := range w.Records {
					if err := NewCore(opt).Replay(r); err != nil {
						t.Fatalf("our own record: %v", err)
					}
				}
			}
			ids := make([]WriteID, len(fx.Writes))
			for i, w := range fx.Writes {
				ids[i] = w.ID
			}
			if len(ids) > 0 {
				fx = c.Step(at, Written{IDs: ids})
				continue
			}
			deadline := c.Deadline()
			if deadline.IsZero() {
				break
			}
			if deadline.After(at) {
				at = deadline
			}
			if n > 50 {
				// A static member that is away for the whole of a long session is waited
				// for in steps of a rebalance time-out, which may be short.
				at = at.Add(30 * 24 * time.Hour)
			}
			fx = c.Step(at, Tick{Wall: at})
		}
		for _, g := range c.sorted() {
			if g.state != empty {
				t.Fatalf("nobody speaks, and yet it is not empty: %+v", g)
			}
			c.drop(g)
		}
		if _, bytes := c.Size(); bytes != 0 {
			t.Fatalf("%d bytes are left of nothing", bytes)
		}
	})
}

// A record gives a name two bytes for its length. A longer one would make a record
// that says something else, and no load would survive it.
func TestNamesThatNoRecordCanHold(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	synctest.Test(t, func(t *testing.T) {
		h := open(t)
		for p := range int32(Partitions) {
			h.Load(p, 1)
		}
		synctest.Wait()
		wantCode(t, "commit", commitCode(now(t, h.commit(long, 1))), kerr.InvalidGroupID)
		wantCode(t, "transaction", h.txnCommit(txnCommitRequest(long, 7, 1)), kerr.InvalidGroupID)
		wantCode(t, "join", now(t, h.join(long, "")).ErrorCode, kerr.InvalidGroupID)
		for name, change := range map[string]func(*kmsg.JoinGroupRequest){
			"instance": func(q *kmsg.JoinGroupRequest) { q.InstanceID = &long },
			"type":     func(q *kmsg.JoinGroupRequest) { q.ProtocolType = long },
			"protocol": func(q *kmsg.JoinGroupRequest) { q.Protocols[0].Name = long },
		} {
			q := joinRequest("g", "")
			q.Version = 9
			change(q)
			joined := call(h, func(ctx context.Context, q *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
				h.JoinGroup(ctx, "c", "/h", q, answer)
			}, q)
			wantCode(t, name, now(t, joined).ErrorCode, kerr.InvalidRequest)
		}
		client := call(h, func(ctx context.Context, q *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
			h.JoinGroup(ctx, long[:math.MaxInt16], "/h", q, answer)
		}, joinRequest("g", ""))
		wantCode(t, "client", now(t, client).ErrorCode, kerr.InvalidRequest)
		if st := h.Stats(); st.Groups != 0 {
			t.Errorf("%+v", st)
		}
	})
}
