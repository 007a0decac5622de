//go:build seeds

package seeds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// members are a group that reads a topic together. They come and go.
type members struct {
	w     *world
	of    *history
	group string
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	given   map[int32]map[int64]bool // offsets that a member was given
	offsets map[int32][]porcupine.Operation
	at      map[int32]int64 // the highest that was acked
	told    error
	commits int
	joined  int
}

// offsetCall is what was asked of a committed offset: set, or read.
type offsetCall struct {
	set     bool
	offset  int64
	unknown bool // nobody has answered
}

// register is a committed offset as the members see it.
var register = porcupine.Model{
	Init: func() any { return int64(-1) },
	Step: func(state, input, output any) (bool, any) {
		c := output.(offsetCall)
		switch {
		case c.set && !c.unknown && c.offset < state.(int64):
			return false, state // a member has committed less than was committed before
		case c.set:
			return true, c.offset
		}
		return c.offset == state, state
	},
	DescribeOperation: func(_, output any) string {
		c := output.(offsetCall)
		switch {
		case c.set && c.unknown:
			return fmt.Sprintf("commit(%d): no answer", c.offset)
		case c.set:
			return fmt.Sprintf("commit(%d)", c.offset)
		}
		return fmt.Sprintf("fetch: %d", c.offset)
	},
}

func (w *world) join(of *history, n int) *members {
	ctx, stop := context.WithCancel(context.Background())
	g := &members{w: w, of: of, group: "members", stop: stop, given: map[int32]map[int64]bool{}, offsets: map[int32][]porcupine.Operation{}, at: map[int32]int64{}}
	for p := range int32(partitions) {
		g.given[p] = map[int64]bool{}
	}
	for range n {
		rng := w.dice()
		g.wg.Go(func() {
			for ctx.Err() == nil {
				m := &member{speaker: w.speak(rng.IntN(2) == 0), g: g, rng: rng}
				life, end := context.WithTimeout(ctx, time.Duration(4+rng.IntN(25))*time.Second)
				err := m.run(life)
				if rng.IntN(2) == 0 && ctx.Err() == nil {
					m.leave(ctx) // or its session ends
				}
				end()
				m.close()
				if err != nil {
					g.mu.Lock()
					g.told = err
					g.mu.Unlock()
				}
				w.sleep(ctx, time.Duration(rng.Int64N(int64(3*time.Second))))
			}
		})
	}
	return g
}

// note remembers what was asked of a committed offset.
func (g *members) note(partition int32, called time.Time, c offsetCall) {
	op := porcupine.Operation{Call: called.Sub(g.w.began).Nanoseconds(), Return: time.Since(g.w.began).Nanoseconds(), Output: c}
	if c.unknown {
		op.Return = math.MaxInt64
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offsets[partition] = append(g.offsets[partition], op)
	if c.set && !c.unknown {
		g.commits++
		g.at[partition] = max(g.at[partition], c.offset)
	}
}

// finish waits until the group has committed all that there is, and judges what it was given.
func (g *members) finish(ctx context.Context) error {
	defer g.wg.Wait()
	defer g.stop()
	for p := range int32(partitions) {
		for {
			g.mu.Lock()
			at, told := g.at[p], g.told
			g.mu.Unlock()
			known := g.of.known(p)
			if at == known {
				break
			}
			if at > known {
				return fmt.Errorf("the group has committed %d of %s-%d, which ends at %d", at, g.of.topic, p, known)
			}
			if !g.w.sleep(ctx, 100*time.Millisecond) {
				return fmt.Errorf("the group is stuck: it has committed %d of %s-%d, which ends at %d: %w", at, g.of.topic, p, known, told)
			}
		}
		g.mu.Lock()
		for o := range g.of.known(p) {
			if !g.given[p][o] {
				g.w.problem("no member was given offset %d of %s-%d, and the group has committed %d", o, g.of.topic, p, g.at[p])
				break
			}
		}
		g.mu.Unlock()
	}
	return nil
}

// member is one of them, once.
type member struct {
	*speaker
	g          *members
	rng        *rand.Rand
	id         string
	generation int32
	at         map[int32]int64 // what it has of its partitions
	begun      map[int32]int64 // where it has begun them
}

// late commits where an earlier generation began, in its name, which must be refused.
func (m *member) late(ctx context.Context, generation int32, begun map[int32]int64) {
	for p, o := range begun {
		if generation == m.generation {
			return
		}
		if r, err := m.send(ctx, generation, p, o); err == nil && r == nil {
			m.w.problem("a member has committed %d of partition %d as of generation %d, after it joined generation %d", o, p, generation, m.generation)
		}
	}
}

var errAnew = errors.New("the members are told to join again")

// run joins as long as it lives.
func (m *member) run(ctx context.Context) (last error) {
	for ctx.Err() == nil {
		was, begun := m.generation, m.begun
		err := m.join(ctx)
		if err == nil {
			m.late(ctx, was, begun)
			err = m.live(ctx)
		}
		if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.FencedInstanceID) {
			m.id = ""
		}
		if err != nil && !errors.Is(err, errAnew) && ctx.Err() == nil {
			last = err
			m.forget(0, m.g.group)
			m.w.sleep(ctx, 100*time.Millisecond)
		}
	}
	return last
}

// join becomes a member of a generation, and learns what is its own.
func (m *member) join(ctx context.Context) error {
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{m.g.of.topic}
	protocol.Metadata = meta.AppendTo(nil)
	q := kmsg.NewPtrJoinGroupRequest()
	q.Group, q.MemberID, q.ProtocolType, q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = m.g.group, m.id, "consumer", 1500, 1500
	q.Protocols = append(q.Protocols, protocol)
	r, err := toCoordinator[*kmsg.JoinGroupResponse](ctx, m.speaker, 0, m.g.group, q)
	if err != nil {
		return err
	}
	m.id, m.generation = r.MemberID, r.Generation
	switch err := kerr.ErrorForCode(r.ErrorCode); {
	case errors.Is(err, kerr.MemberIDRequired):
		return errAnew
	case err != nil:
		return err
	}
	s := kmsg.NewPtrSyncGroupRequest()
	s.Group, s.MemberID, s.Generation, s.ProtocolType, s.Protocol = m.g.group, m.id, m.generation, &protocolType, &protocol.Name
	if r.LeaderID == r.MemberID {
		for i, member := range r.Members {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			own := kmsg.NewConsumerMemberAssignment()
			topic := kmsg.NewConsumerMemberAssignmentTopic()
			topic.Topic = m.g.of.topic
			for p := range int32(partitions) {
				if int(p)%len(r.Members) == i {
					topic.Partitions = append(topic.Partitions, p)
				}
			}
			own.Topics = append(own.Topics, topic)
			a.MemberID, a.MemberAssignment = member.MemberID, own.AppendTo(nil)
			s.GroupAssignment = append(s.GroupAssignment, a)
		}
	}
	synced, err := toCoordinator[*kmsg.SyncGroupResponse](ctx, m.speaker, 0, m.g.group, s)
	if err == nil {
		err = kerr.ErrorForCode(synced.ErrorCode)
	}
	if err != nil {
		return err
	}
	own := kmsg.NewConsumerMemberAssignment()
	if err := own.ReadFrom(synced.MemberAssignment); err != nil {
		return fmt.Errorf("an assignment of %d bytes: %w", len(synced.MemberAssignment), err)
	}
	m.at = map[int32]int64{}
	for _, topic := range own.Topics {
		for _, p := range topic.Partitions {
			m.at[p] = -1
		}
	}
	return m.begin(ctx)
}

var protocolType = "consumer"

// begin asks where the group is.
func (m *member) begin(ctx context.Context) error {
	for {
		called := time.Now()
		offsets, err := m.committedOffsets(ctx, m.g.group, m.g.of.topic)
		if err == nil {
			for p, o := range offsets {
				m.g.note(p, called, offsetCall{offset: o})
				if _, own := m.at[p]; own {
					m.at[p] = max(o, 0)
				}
			}
			m.g.mu.Lock()
			m.g.joined++
			m.g.mu.Unlock()
			return nil
		}
		if !again(err) || !m.w.sleep(ctx, 100*time.Millisecond) {
			return err
		}
		m.forget(0, m.g.group)
	}
}

// live reads, commits and is heard of, until the group is to join again.
func (m *member) live(ctx context.Context) error {
	m.begun = maps.Clone(m.at)
	own := make([]int32, 0, len(m.at))
	for p := range m.at {
		own = append(own, p)
	}
	slices.Sort(own)
	committed := map[int32]int64{}
	for p, o := range m.at {
		committed[p] = o
	}
	for ctx.Err() == nil {
		q := kmsg.NewPtrHeartbeatRequest()
		q.Group, q.MemberID, q.Generation = m.g.group, m.id, m.generation
		r, err := toCoordinator[*kmsg.HeartbeatResponse](ctx, m.speaker, 0, m.g.group, q)
		if err == nil {
			err = kerr.ErrorForCode(r.ErrorCode)
		}
		rebalance := errors.Is(err, kerr.RebalanceInProgress)
		if err != nil && !rebalance && !again(err) {
			return err
		}
		if again(err) && !rebalance {
			m.forget(0, m.g.group)
		}
		for _, p := range own {
			records, _, err := m.fetch(ctx, m.g.of.topic, p, m.at[p], false)
			if err != nil && !again(err) {
				m.w.problem("a member was told of %s-%d at %d: %v", m.g.of.topic, p, m.at[p], err)
				return err
			}
			for _, r := range records[:min(len(records), 50)] {
				m.g.of.read(r.value, p, r.offset)
				m.g.mu.Lock()
				m.g.given[p][r.offset] = true
				m.g.mu.Unlock()
				m.at[p] = r.offset + 1
			}
		}
		for _, p := range own {
			if m.at[p] == committed[p] || m.rng.IntN(3) == 0 && !rebalance {
				continue
			}
			if err := m.commit(ctx, p); err != nil {
				if !again(err) {
					return err
				}
				continue
			}
			committed[p] = m.at[p]
		}
		if rebalance {
			return errAnew
		}
		m.w.sleep(ctx, 200*time.Millisecond)
	}
	return nil
}

func (m *member) commit(ctx context.Context, partition int32) error {
	called := time.Now()
	refused, err := m.send(ctx, m.generation, partition, m.at[partition])
	if errors.As(err, new(*unsentError)) {
		return err
	}
	if err == nil {
		err = refused
	}
	c := offsetCall{set: true, offset: m.at[partition], unknown: again(err)}
	if err == nil || c.unknown {
		m.g.note(partition, called, c)
	}
	if c.unknown {
		m.forget(0, m.g.group)
	}
	return err
}

// send commits an offset as of a generation. An error says that nobody has answered.
func (m *member) send(ctx context.Context, generation, partition int32, offset int64) (refused, err error) {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Group, q.MemberID, q.Generation = m.g.group, m.id, generation
	t, p := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	t.Topic, t.Partitions = m.g.of.topic, append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	r, err := toCoordinator[*kmsg.OffsetCommitResponse](ctx, m.speaker, 0, m.g.group, q)
	if err != nil {
		return nil, err
	}
	return kerr.ErrorForCode(r.Topics[0].Partitions[0].ErrorCode), nil
}

func (m *member) leave(ctx context.Context) {
	q := kmsg.NewPtrLeaveGroupRequest()
	q.Group, q.MemberID = m.g.group, m.id
	l := kmsg.NewLeaveGroupRequestMember()
	l.MemberID = m.id
	q.Members = append(q.Members, l)
	_, _ = toCoordinator[*kmsg.LeaveGroupResponse](ctx, m.speaker, 0, m.g.group, q) // or it is forgotten in time
}
