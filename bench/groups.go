package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// offsetsOfGroup is how many partitions each group of the load has committed.
	offsetsOfGroup = 10
	// memberBeat is between two heartbeats of a member that waits for its assignment:
	// short, so that what is measured is the coordinator.
	memberBeat = 100 * time.Millisecond

	classicProtocol  = "classic"
	consumerProtocol = "consumer"
)

// groupName is the name of group i of a load.
func (s shape) groupName(i int) string { return fmt.Sprintf("%s-%d", s.groups, i) }

// eachShare runs f for the numbers below n, by as many at once as there are connections.
func eachShare(ctx context.Context, s shape, n int, f func(w *wire, i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range s.connections {
		wg.Go(func() {
			w, err := dialWire(ctx, s.broker)
			if err != nil {
				failed.CompareAndSwap(nil, &err)
				return
			}
			defer w.close()
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() == nil; i = next.Add(1) - 1 {
				if err := f(w, int(i)); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// seat is a member of a group of the load.
type seat struct {
	group, member string
	generation    int32
}

// loadGroups makes so many groups of one member each, which commits offsets, and then
// sends heartbeats for some seconds; those are counted as records.
func loadGroups(ctx context.Context, s shape) (loadResult, error) {
	if s.groups == "" {
		s.groups = fmt.Sprintf("bench-%d", time.Now().UnixNano())
	}
	seats := make([]seat, s.records)
	if err := eachShare(ctx, s, len(seats), func(w *wire, i int) (err error) {
		seats[i], err = s.sit(ctx, w, s.groupName(i))
		return err
	}); err != nil {
		return loadResult{}, err
	}
	until := time.Now().Add(time.Duration(s.seconds) * time.Second)
	var beats atomic.Int64
	began := time.Now()
	if err := eachShare(ctx, s, s.connections, func(w *wire, share int) error {
		for i := share; time.Now().Before(until); i += s.connections {
			at := seats[i%len(seats)]
			q := kmsg.NewPtrHeartbeatRequest()
			q.Group, q.MemberID, q.Generation = at.group, at.member, at.generation
			p, err := ask[*kmsg.HeartbeatResponse](w, 4, q)
			if err == nil {
				err = kerr.ErrorForCode(p.ErrorCode)
			}
			if err != nil {
				return fmt.Errorf("heartbeat of %s: %w", at.group, err)
			}
			beats.Add(1)
		}
		return nil
	}); err != nil {
		return loadResult{}, err
	}
	return loadResult{Records: beats.Load(), Seconds: time.Since(began).Seconds()}, nil
}

// sit makes a group with one member, which commits offsets.
func (s shape) sit(ctx context.Context, w *wire, group string) (seat, error) {
	at := seat{group: group}
	joined, err := join(ctx, w, group, &at.member, 30*time.Minute)
	if err != nil {
		return at, err
	}
	at.generation = joined.Generation
	sync, err := syncGroup(w, at, joined)
	if err == nil {
		err = kerr.ErrorForCode(sync.ErrorCode)
	}
	if err != nil {
		return at, fmt.Errorf("sync %s: %w", group, err)
	}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID, commit.Generation = group, at.member, at.generation
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = s.topic
	for p := range offsetsOfGroup {
		partition := kmsg.NewOffsetCommitRequestTopicPartition()
		partition.Partition = int32(p)
		topic.Partitions = append(topic.Partitions, partition)
	}
	commit.Topics = append(commit.Topics, topic)
	committed, err := ask[*kmsg.OffsetCommitResponse](w, 8, commit)
	if err == nil {
		err = kerr.ErrorForCode(committed.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		return at, fmt.Errorf("commit offsets of %s: %w", group, err)
	}
	return at, nil
}

// join joins as member, which is given an id where it has none.
func join(ctx context.Context, w *wire, group string, member *string, session time.Duration) (*kmsg.JoinGroupResponse, error) {
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{group}
	for {
		if *member == "" {
			if _, err := settled(ctx, func(p *kmsg.FindCoordinatorResponse) int16 { return p.Coordinators[0].ErrorCode }, func() (*kmsg.FindCoordinatorResponse, error) {
				return ask[*kmsg.FindCoordinatorResponse](w, 4, find)
			}); err != nil {
				return nil, err
			}
		}
		p, err := settled(ctx, func(p *kmsg.JoinGroupResponse) int16 { return p.ErrorCode }, func() (*kmsg.JoinGroupResponse, error) {
			q := kmsg.NewPtrJoinGroupRequest()
			q.Group, q.MemberID, q.ProtocolType = group, *member, "consumer"
			q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = int32(session.Milliseconds()), 60_000
			protocol := kmsg.NewJoinGroupRequestProtocol()
			protocol.Name = "range"
			q.Protocols = append(q.Protocols, protocol)
			return ask[*kmsg.JoinGroupResponse](w, 9, q)
		})
		if err != nil {
			return nil, err
		}
		*member = p.MemberID
		switch err := kerr.ErrorForCode(p.ErrorCode); err {
		case nil:
			return p, nil
		case kerr.MemberIDRequired, kerr.RebalanceInProgress:
		default:
			return nil, fmt.Errorf("join %s: %w", group, err)
		}
	}
}

// syncGroup asks for the member's assignment; the leader gives each one byte.
func syncGroup(w *wire, at seat, joined *kmsg.JoinGroupResponse) (*kmsg.SyncGroupResponse, error) {
	q := kmsg.NewPtrSyncGroupRequest()
	q.Group, q.MemberID, q.Generation = at.group, at.member, at.generation
	q.ProtocolType, q.Protocol = joined.ProtocolType, joined.Protocol
	for _, m := range joined.Members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = m.MemberID, []byte{0}
		q.GroupAssignment = append(q.GroupAssignment, a)
	}
	return ask[*kmsg.SyncGroupResponse](w, 5, q)
}

// loadFound asks for each of so many groups until its coordinator has it: how long
// after a start that is.
func loadFound(ctx context.Context, s shape) (loadResult, error) {
	began := time.Now()
	err := eachShare(ctx, s, s.records, func(w *wire, i int) error {
		q := kmsg.NewPtrDescribeGroupsRequest()
		q.Groups = []string{s.groupName(i)}
		p, err := settled(ctx, func(p *kmsg.DescribeGroupsResponse) int16 { return p.Groups[0].ErrorCode }, func() (*kmsg.DescribeGroupsResponse, error) {
			return ask[*kmsg.DescribeGroupsResponse](w, 5, q)
		})
		if err != nil {
			return err
		}
		if g := p.Groups[0]; g.ErrorCode != 0 || len(g.Members) != 1 {
			return fmt.Errorf("group %s: %w, %d members", g.Group, kerr.ErrorForCode(g.ErrorCode), len(g.Members))
		}
		return nil
	})
	return loadResult{Records: int64(s.records), Seconds: time.Since(began).Seconds()}, err
}

// loadJoin has so many members, each with a connection of its own, join one group at
// once, and ends when all have been assigned in the same generation.
func loadJoin(ctx context.Context, s shape) (loadResult, error) {
	done, err := withTopic(ctx, &s)
	if err != nil {
		return loadResult{}, err
	}
	defer done()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wires := make([]*wire, s.connections)
	for i := range wires {
		if wires[i], err = dialWire(ctx, s.broker); err != nil {
			return loadResult{}, err
		}
		defer wires[i].close()
	}
	// The coordinator's topic is there before the clock runs.
	var first string
	if _, err := join(ctx, wires[0], "first-"+s.topic, &first, time.Minute); err != nil {
		return loadResult{}, err
	}
	crew := &crew{ctx: ctx, s: s, group: "crew-" + s.topic, at: make([]standing, len(wires)), all: make(chan struct{})}
	be := crew.classic
	if s.protocol == consumerProtocol {
		be = crew.consumer
	}
	began := time.Now()
	failed := make(chan error, len(wires))
	for i, w := range wires {
		go func() {
			if err := be(w, i); err != nil {
				failed <- err
			}
		}()
	}
	select {
	case <-crew.all:
	case err := <-failed:
		return loadResult{}, fmt.Errorf("a member of %d: %w", len(wires), err)
	case <-ctx.Done():
		return loadResult{}, fmt.Errorf("%d members join: %w", len(wires), ctx.Err())
	}
	return loadResult{Records: int64(len(wires)), Seconds: time.Since(began).Seconds()}, nil
}

// standing is what a member was last assigned.
type standing struct {
	generation int32 // 0: nothing yet
	partitions int
}

// crew is the members of one group that join at once.
type crew struct {
	ctx   context.Context
	s     shape
	group string
	all   chan struct{} // closed when all stand

	mu  sync.Mutex
	at  []standing // guarded by mu
	met bool       // guarded by mu
}

// stands notes what member i was assigned, and whether all now are.
func (c *crew) stands(i int, now standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[i] = now
	partitions := 0
	for _, at := range c.at {
		if at.generation == 0 || at.generation != now.generation {
			return
		}
		partitions += at.partitions
	}
	if (c.s.protocol == classicProtocol || partitions == c.s.partitions) && !c.met {
		c.met = true
		close(c.all)
	}
}

// pause is between two heartbeats; false: it is over.
func (c *crew) pause() bool {
	select {
	case <-c.all:
		return false
	case <-c.ctx.Done():
		return false
	case <-time.After(memberBeat):
		return true
	}
}

// classic is one member of the classic protocol.
func (c *crew) classic(w *wire, i int) error {
	at := seat{group: c.group}
	for {
		joined, err := join(c.ctx, w, c.group, &at.member, time.Minute)
		if err != nil {
			return err
		}
		at.generation = joined.Generation
		p, err := syncGroup(w, at, joined)
		if err != nil {
			return err
		}
		if p.ErrorCode == 0 {
			c.stands(i, standing{generation: at.generation})
		}
		for code := p.ErrorCode; code == 0; {
			if !c.pause() {
				return nil
			}
			q := kmsg.NewPtrHeartbeatRequest()
			q.Group, q.MemberID, q.Generation = at.group, at.member, at.generation
			beat, err := ask[*kmsg.HeartbeatResponse](w, 4, q)
			if err != nil {
				return err
			}
			code = beat.ErrorCode
		}
	}
}

// consumer is one member of the consumer protocol (KIP-848).
func (c *crew) consumer(w *wire, i int) error {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.RebalanceTimeoutMillis = c.group, fmt.Sprintf("member-%d", i), 60_000
	q.SubscribedTopicNames, q.Topics = []string{c.s.topic}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{c.group}
	if _, err := settled(c.ctx, func(p *kmsg.FindCoordinatorResponse) int16 { return p.Coordinators[0].ErrorCode }, func() (*kmsg.FindCoordinatorResponse, error) {
		return ask[*kmsg.FindCoordinatorResponse](w, 4, find)
	}); err != nil {
		return err
	}
	has := 0
	for {
		p, err := settled(c.ctx, func(p *kmsg.ConsumerGroupHeartbeatResponse) int16 { return p.ErrorCode }, func() (*kmsg.ConsumerGroupHeartbeatResponse, error) {
			return ask[*kmsg.ConsumerGroupHeartbeatResponse](w, 1, q)
		})
		if err == nil {
			err = kerr.ErrorForCode(p.ErrorCode)
		}
		if err != nil {
			return err
		}
		q.MemberEpoch, q.Topics = p.MemberEpoch, nil
		q.SubscribedTopicNames, q.RebalanceTimeoutMillis = nil, -1
		if p.Assignment != nil {
			has, q.Topics = 0, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			for _, t := range p.Assignment.Topics {
				owned := kmsg.NewConsumerGroupHeartbeatRequestTopic()
				owned.TopicID, owned.Partitions = t.TopicID, t.Partitions
				q.Topics = append(q.Topics, owned)
				has += len(t.Partitions)
			}
		}
		c.stands(i, standing{p.MemberEpoch, has})
		if p.Assignment == nil && !c.pause() {
			return nil
		}
	}
}

// groups is K1: many partitions and groups on one node, beside Apache Kafka where it
// can be asked the same.
func (r *run) groups() error {
	const partitions, groups, members = 10_000, 1_000, 500
	ours, err := startRustmq("rustmq", "controller.max_partitions=20000")
	if err != nil {
		return err
	}
	defer ours.stop()
	bare, err := ours.rss()
	if err != nil {
		return err
	}
	if _, err := ours.load("partitions", args("topic", "many", "partitions", partitions)...); err != nil {
		return err
	}
	filled, err := ours.rss()
	if err != nil {
		return err
	}
	theirs, err := startKafka()
	if err != nil {
		return err
	}
	defer theirs.stop()
	if _, err := theirs.load("partitions", args("topic", "many", "partitions", 100)...); err != nil {
		return err
	}
	r.add(summarise(row{Figure: "K1", Name: "memory of an idle partition, of 10,000", Unit: "KiB"}, []float64{float64(filled-bare) / 1024 / partitions}))
	beats := args("topic", "many", "records", groups, "connections", 64, "seconds", 5)
	if _, err := ours.load("groups", args("topic", "many", "records", groups, "groups", "kept", "connections", 64, "seconds", 0)...); err != nil {
		return err
	}
	grouped, err := ours.rss()
	if err != nil {
		return err
	}
	r.add(summarise(row{Figure: "K1", Name: "memory of a group of one member that has committed ten offsets, of 1,000 beside 10,000 partitions", Unit: "KiB"}, []float64{float64(grouped-filled) / 1024 / groups}))
	var ready, found []float64
	for range r.pairs {
		if err := ours.restart(); err != nil {
			return err
		}
		l, err := ours.load("found", args("records", groups, "groups", "kept", "connections", 8)...)
		if err != nil {
			return err
		}
		ready, found = append(ready, ours.started.Seconds()), append(found, ours.started.Seconds()+l.Seconds)
	}
	r.add(summarise(row{Figure: "K1", Name: "start to readyz with them", Unit: "s"}, ready))
	r.add(summarise(row{Figure: "K1", Name: "start until every group has been described", Unit: "s"}, found))
	if err := r.pair(row{Figure: "K1", Name: "heartbeats of 1,000 groups over 64 connections, against Kafka", Unit: "×"},
		on(ours, "groups", beats...), on(theirs.process, "groups", beats...), rateRatio, rates("rustmq", "Kafka")); err != nil {
		return err
	}
	for _, protocol := range []string{classicProtocol, consumerProtocol} {
		shape := args("connections", members, "partitions", 2*members, "protocol", protocol)
		if err := r.pair(row{Figure: "K1", Name: fmt.Sprintf("500 members join a group at once until all are assigned (%s protocol), against Kafka", protocol), Unit: "×", Less: true},
			on(ours, "join", shape...), on(theirs.process, "join", shape...),
			func(a, b loadResult) float64 { return a.Seconds / b.Seconds },
			func(a, b loadResult) string { return fmt.Sprintf("%.2f s, Kafka %.2f s", a.Seconds, b.Seconds) }); err != nil {
			return err
		}
	}
	return nil
}
