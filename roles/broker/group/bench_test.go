package group

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func benchCore(b *testing.B) *Core {
	b.Helper()
	opt := Options{Log: new(memoryLog), NewID: newUUID}
	if err := opt.setDefaults(); err != nil {
		b.Fatal(err)
	}
	return NewCore(opt)
}

// commitAll commits whatever a step wrote, and what that brings about.
func commitAll(c *Core, at time.Time, fx Effects) []Answer {
	answers := fx.Answers
	for len(fx.Writes) > 0 {
		var ids []WriteID
		for _, w := range fx.Writes {
			ids = append(ids, w.ID)
		}
		fx = c.Step(at, Written{IDs: ids})
		answers = append(answers, fx.Answers...)
	}
	return answers
}

// form makes a stable group of n members, and returns their ids.
func form(b *testing.B, c *Core, group string, n int, at time.Time) []string {
	b.Helper()
	var call Call
	ids := make([]string, 0, n)
	var last []Answer
	ask := func(body any) []Answer {
		call++
		return commitAll(c, at, c.Step(at, Request{Call: call, ClientID: "client", ClientHost: "/127.0.0.1", Wall: at, Body: body}))
	}
	for range n { // KIP-394: all have ids before the first joins
		req := joinRequest(group, "")
		req.Version = 5
		ids = append(ids, ask(req)[0].Body.(*kmsg.JoinGroupResponse).MemberID)
	}
	for _, id := range ids {
		req := joinRequest(group, id)
		req.Version = 5
		last = ask(req)
	}
	if len(last) != n {
		b.Fatalf("%d of %d have joined", len(last), n)
	}
	resp := last[0].Body.(*kmsg.JoinGroupResponse)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID = 3, group, resp.Generation, resp.LeaderID
	for _, m := range resp.Members {
		sync.GroupAssignment = append(sync.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: make([]byte, 40)})
	}
	ask(sync)
	for _, id := range ids[1:] {
		follow := *sync
		follow.MemberID, follow.GroupAssignment = id, nil
		ask(&follow)
	}
	return ids
}

// BenchmarkForm makes a whole group, from the first join to the last assignment.
func BenchmarkForm(b *testing.B) {
	for _, n := range []int{1, 10, 500} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			at := time.Unix(1_700_000_000, 0)
			for b.Loop() {
				form(b, benchCore(b), "g", n, at)
			}
		})
	}
}

// BenchmarkHeartbeat is one heartbeat of one of 500 members.
func BenchmarkHeartbeat(b *testing.B) {
	at := time.Unix(1_700_000_000, 0)
	c := benchCore(b)
	ids := form(b, c, "g", 500, at)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation = "g", 1
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		req.MemberID = ids[i%len(ids)]
		at = at.Add(time.Microsecond)
		c.Step(at, Request{Call: 1, Wall: at, Body: req})
	}
}

// BenchmarkCommit is one commit of ten partitions, and its completion.
func BenchmarkCommit(b *testing.B) {
	at := time.Unix(1_700_000_000, 0)
	c := benchCore(b)
	req := commitRequest("g", 1)
	p := req.Topics[0].Partitions[0]
	for i := range int32(9) {
		p.Partition = i + 1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
	}
	b.ReportAllocs()
	for b.Loop() {
		commitAll(c, at, c.Step(at, Request{Call: 1, Wall: at, Body: req}))
	}
}

// BenchmarkReplay reads the state of 1,000 groups of ten members with a hundred
// offsets each, and says what a group takes in memory.
func BenchmarkReplay(b *testing.B) {
	at := time.Unix(1_700_000_000, 0)
	c := benchCore(b)
	var records []Record
	for i := range 1000 {
		id := fmt.Sprintf("group-%d", i)
		form(b, c, id, 10, at)
		records = append(records, encodeGroup(c.groups[id], nil))
		for p := range int32(100) {
			records = append(records, encodeCommit(id, slot{"some.topic", p}, commit{offset: 1 << 30, leaderEpoch: 3, timestamp: stamp, expires: -1}))
		}
	}
	before := heapBytes()
	var again *Core
	for b.Loop() {
		again = benchCore(b)
		for _, r := range records {
			if err := again.Replay(r); err != nil {
				b.Fatal(err)
			}
		}
		again.Loaded(at)
	}
	_, estimate := again.Size()
	b.ReportMetric(float64(heapBytes()-before)/1000, "B/group")
	b.ReportMetric(float64(estimate)/1000, "estimated-B/group")
	b.ReportMetric(float64(len(records)), "records/op")
	runtime.KeepAlive(again)
	runtime.KeepAlive(c)
	runtime.KeepAlive(records)
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
