package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/storage"
)

// Where offsets are reset to.
const (
	ResetToEarliest = "earliest"
	ResetToLatest   = "latest"
	ResetToOffset   = "offset"
	ResetToTime     = "time"
	ResetByShift    = "shift"
)

// OffsetReset says which offsets of a group are to change, and how.
type OffsetReset struct {
	Topics    []ResetTopic `json:"topics,omitempty"`
	AllTopics bool         `json:"all_topics,omitempty" doc:"every partition that the group has committed an offset of, instead of topics"`
	To        string       `json:"to" enum:"earliest,latest,offset,time,shift"`
	Value     int64        `json:"value,omitempty" doc:"the offset; the time, in milliseconds since 1970; or by how many records to shift"`
	Execute   bool         `json:"execute,omitempty" doc:"do it; else only what would be done is answered"`
}

// ResetTopic is a topic, and which of its partitions.
type ResetTopic struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions,omitempty" doc:"none: all"`
}

// OffsetPlan is what a reset does, or has done.
type OffsetPlan struct {
	Group      string       `json:"group"`
	New        bool         `json:"new,omitempty" doc:"there is no such group yet: the reset makes it"`
	Executed   bool         `json:"executed"`
	Partitions []OffsetMove `json:"partitions"`
}

// OffsetMove is the change of one offset.
type OffsetMove struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      *int64 `json:"from,omitempty" doc:"left out: nothing is committed"`
	To        *int64 `json:"to,omitempty" doc:"left out: it stays as it is"`
	Start     int64  `json:"log_start"`
	End       int64  `json:"end"`
	Note      string `json:"note,omitempty"`
}

// ResetOffsets changes committed offsets of a group without members, or says what it
// would change. Errors are [*GroupError] where the request or the group is the reason.
func (b *Broker) ResetOffsets(ctx context.Context, id string, r OffsetReset) (*OffsetPlan, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	if _, there := b.images.image().Topic(offsetsTopic); !there && r.Execute { // the group is new, if all else is right
		dry := r
		dry.Execute = false
		if _, err := b.resetOffsets(ctx, id, dry); err != nil {
			return nil, err
		}
		by, _ := b.coordinatedBy(groupCoordinator)
		if err := b.makeCoordinated(ctx, by); err != nil {
			return nil, err
		}
	}
	if at, elsewhere := b.coordinatedElsewhere(offsetsTopic, group.Partition(id)); elsewhere {
		plan, err := askOwn[*OffsetPlan](ctx, b, at, peerResetOffsets, groupAsked{Group: id, Reset: &r})
		return plan, unaskedGroups(at, err, "offsets of group %s, which broker %d coordinates, may be reset, or not", id, at)
	}
	return b.resetOffsets(ctx, id, r)
}

// resetOffsets resets offsets of a group that is coordinated here.
func (b *Broker) resetOffsets(ctx context.Context, id string, r OffsetReset) (*OffsetPlan, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	plan := &OffsetPlan{Group: id, Partitions: []OffsetMove{}}
	d, err := b.describeGroup(ctx, id)
	switch {
	case errors.Is(err, kerr.GroupIDNotFound) && !r.AllTopics:
		plan.New, d = true, &GroupDescription{}
	case err != nil:
		return nil, err
	case d.Members > 0:
		return nil, peopledGroup(id, fmt.Sprintf(" (%d, the first is client %q at %s)", d.Members, d.MemberList[0].ClientID, d.MemberList[0].Host))
	}
	if plan.Partitions, err = b.movesOf(d, r); err != nil {
		return nil, err
	}
	if err := b.planAll(ctx, plan.Partitions, r); err != nil {
		return nil, err
	}
	if !r.Execute {
		return plan, nil
	}
	plan.Executed = true
	return plan, b.commitMoves(ctx, plan)
}

func (r *OffsetReset) validate() error {
	wrong := func(detail string) error { return &GroupError{kerr.InvalidRequest, detail} }
	switch {
	case r.AllTopics == (len(r.Topics) > 0):
		return wrong("name topics, or take all that the group has committed offsets of")
	case (r.To == ResetToOffset || r.To == ResetToTime) && r.Value < 0:
		return wrong(fmt.Sprintf("%s %d: nothing lies before 0", r.To, r.Value))
	case !slices.Contains([]string{ResetToEarliest, ResetToLatest, ResetToOffset, ResetToTime, ResetByShift}, r.To):
		return wrong(fmt.Sprintf("to %q: want earliest, latest, offset, time or shift", r.To))
	}
	return nil
}

// movesOf lists the partitions that a reset is of, each once, with what is committed.
func (b *Broker) movesOf(d *GroupDescription, r OffsetReset) ([]OffsetMove, error) {
	var moves []OffsetMove
	committed := map[string]map[int32]*int64{}
	for _, p := range d.PartitionList {
		if p.Committed == nil {
			continue
		}
		if committed[p.Topic] == nil {
			committed[p.Topic] = map[int32]*int64{}
		}
		committed[p.Topic][p.Partition] = p.Committed
		if r.AllTopics {
			moves = append(moves, OffsetMove{Topic: p.Topic, Partition: p.Partition, From: p.Committed})
		}
	}
	image := b.images.image()
	seen := map[string]map[int32]bool{}
	for _, t := range r.Topics {
		of, ok := image.Topic(t.Topic)
		if !ok {
			return nil, &GroupError{kerr.UnknownTopicOrPartition, "there is no topic " + t.Topic + "; `rustmq admin topics list` shows those there are"}
		}
		partitions := t.Partitions
		if len(partitions) == 0 {
			for i := range of.Partitions.Len() {
				partitions = append(partitions, int32(i))
			}
		}
		if seen[t.Topic] == nil {
			seen[t.Topic] = map[int32]bool{}
		}
		for _, p := range partitions {
			if p < 0 || int(p) >= of.Partitions.Len() {
				return nil, &GroupError{kerr.UnknownTopicOrPartition, fmt.Sprintf("topic %s has no partition %d: it has %d, from 0 on", t.Topic, p, of.Partitions.Len())}
			}
			if !seen[t.Topic][p] {
				seen[t.Topic][p] = true
				moves = append(moves, OffsetMove{Topic: t.Topic, Partition: p, From: committed[t.Topic][p]})
			}
		}
	}
	return moves, nil
}

// plan finds out where an offset is to go. It may read the bucket, for a time.
func (b *Broker) plan(ctx context.Context, m *OffsetMove, r OffsetReset) error {
	l, _, err := b.leaderOf(m.Topic, m.Partition, storage.NoEpoch)
	if errors.Is(err, errUnknownTopic) {
		m.Note = "the topic is gone: left as it is"
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the offsets of %s-%d: %w; try again", m.Topic, m.Partition, err)
	}
	var found *int64
	if r.To == ResetToTime {
		offset, _, ok, err := b.offsetForTime(ctx, l, r.Value)
		if err != nil {
			return fmt.Errorf("look in %s-%d for %s: %w; try again", m.Topic, m.Partition, time.UnixMilli(r.Value).UTC().Format(time.RFC3339Nano), err)
		}
		if ok {
			found = new(int64(offset))
		}
	}
	m.Start, m.End = int64(l.LogStart()), int64(l.HighWatermark())
	m.aim(r, found)
	return nil
}

// aim sets To, within the log, and says what was not as asked for. found is the first
// record of the time that was asked for; nil: there is none.
func (m *OffsetMove) aim(r OffsetReset, found *int64) {
	var to int64
	switch r.To {
	case ResetToEarliest:
		to = m.Start
	case ResetToLatest:
		to = m.End
	case ResetToOffset:
		to = r.Value
	case ResetToTime:
		if to = m.End; found != nil {
			to = *found
		} else {
			m.Note = "no record is that young: the end"
		}
	case ResetByShift:
		if m.From == nil {
			m.Note = "nothing is committed that could be shifted"
			return
		}
		base := min(max(*m.From, m.Start), m.End)
		if base != *m.From {
			m.Note = fmt.Sprintf("%d lies outside of the log: shifted from %d", *m.From, base)
		}
		if to = base + r.Value; r.Value > 0 && to < base {
			to = m.End
		}
	}
	within := min(max(to, m.Start), m.End)
	if within != to {
		end := "the end"
		if within == m.Start && to < m.Start {
			end = "the log start"
		}
		if m.Note != "" {
			m.Note += "; "
		}
		m.Note += fmt.Sprintf("%d lies outside of the log: %s", to, end)
	}
	m.To = &within
}

// commitMoves commits what is planned, as a consumer does that assigns partitions to
// itself: the coordinator refuses that if members have come meanwhile.
func (b *Broker) commitMoves(ctx context.Context, plan *OffsetPlan) error {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Version, q.Group, q.Generation = 9, plan.Group, -1
	for _, m := range plan.Partitions {
		if m.To == nil {
			continue
		}
		if n := len(q.Topics); n == 0 || q.Topics[n-1].Topic != m.Topic {
			q.Topics = append(q.Topics, kmsg.OffsetCommitRequestTopic{Topic: m.Topic})
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = m.Partition, *m.To, -1
		t := &q.Topics[len(q.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	if len(q.Topics) == 0 {
		return nil
	}
	p, err := await(ctx, func(answer func(*kmsg.OffsetCommitResponse)) { b.groups.OffsetCommit(ctx, q, answer) })
	if err != nil {
		return fmt.Errorf("commit offsets of group %s: %w; they may be committed all the same", plan.Group, err)
	}
	for _, t := range p.Topics {
		for _, tp := range t.Partitions {
			switch tp.ErrorCode {
			case 0:
			case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code, kerr.RebalanceInProgress.Code, kerr.StaleMemberEpoch.Code:
				return peopledGroup(plan.Group, " by now")
			default:
				return groupRefused(tp.ErrorCode, fmt.Sprintf("the offset of %s-%d was not committed, others may be; try again", t.Topic, tp.Partition))
			}
		}
	}
	return nil
}
