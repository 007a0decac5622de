package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/storage"
)

// loadWait is how long, at most, coordinators are outwaited that read their logs, all
// together: an operator who asks a node that has just started is not to ask again.
const loadWait = 5 * time.Second

// GroupError is why a group cannot be shown or changed, and what to do.
type GroupError struct {
	Code   *kerr.Error
	Detail string
}

func (e *GroupError) Error() string { return e.Code.Message + ": " + e.Detail }

// Unwrap returns Kafka's error.
func (e *GroupError) Unwrap() error { return e.Code }

// GroupSummary is a group as a list shows it.
type GroupSummary struct {
	Group        string `json:"group"`
	Kind         string `json:"kind" doc:"classic, or consumer (KIP-848)"`
	ProtocolType string `json:"protocol_type" doc:"consumer, connect or another; empty: only offsets were committed"`
	State        string `json:"state"`
	Members      int    `json:"members"`
	Partitions   int    `json:"partitions" doc:"with a committed offset"`
	Lag          int64  `json:"lag_records" doc:"of all partitions whose leaders can be asked"`

	Topics []string `json:"topics" doc:"of those partitions, in order; without what the caller may not describe"`
}

// GroupDescription is a group with its members and offsets.
type GroupDescription struct {
	GroupSummary
	MemberList    []GroupMember    `json:"member_list"`
	PartitionList []GroupPartition `json:"partition_list"`
}

// GroupMember is a member of a group.
type GroupMember struct {
	ID         string            `json:"member_id"`
	InstanceID string            `json:"instance_id,omitempty" doc:"of a static member"`
	ClientID   string            `json:"client_id"`
	Host       string            `json:"host"`
	Assigned   []PartitionsTaken `json:"assigned"`
}

// PartitionsTaken are the partitions of a topic that a member consumes.
type PartitionsTaken struct {
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
}

// GroupPartition is how far a group is in a partition.
type GroupPartition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Committed *int64   `json:"committed,omitempty" doc:"left out: nothing is committed"`
	Start     int64    `json:"log_start"`
	End       int64    `json:"end" doc:"the high watermark"`
	Lag       *int64   `json:"lag_records,omitempty" doc:"left out: not known"`
	Behind    *float64 `json:"lag_seconds,omitempty" doc:"since the first record that is not consumed was appended, as metrics estimate it; left out: not known"`
	MemberID  string   `json:"member_id,omitempty" doc:"who consumes it"`
	Note      string   `json:"note,omitempty" doc:"what is not as it should be"`
}

// ListGroups shows all groups, in order of their ids.
func (b *Broker) ListGroups(ctx context.Context) ([]GroupSummary, error) {
	all, err := b.listGroupsHere(ctx)
	if err != nil {
		return nil, err
	}
	if n := b.unledGroups(); n > 0 {
		return nil, &GroupError{kerr.CoordinatorNotAvailable, fmt.Sprintf("%d of the %d partitions of %s have no leader, and whose groups they hold is not known: `rustmq admin cluster health` says what they need", n, group.Partitions, offsetsTopic)}
	}
	for _, at := range b.otherCoordinators() {
		theirs, err := askOwn[[]GroupSummary](ctx, b, at, peerListGroups, struct{}{})
		if err != nil {
			return nil, unaskedGroups(at, err, "the groups that broker %d coordinates cannot be listed now", at)
		}
		all = append(all, theirs...)
	}
	slices.SortFunc(all, func(a, b GroupSummary) int { return cmp.Compare(a.Group, b.Group) })
	return all, nil
}

// unledGroups is how many partitions of the groups have no leader.
func (b *Broker) unledGroups() (n int) {
	if t, ok := b.images.image().Topic(offsetsTopic); ok {
		for p := range t.Partitions.All() {
			if p.Leader == metadata.NoLeader {
				n++
			}
		}
	}
	return n
}

// listGroupsHere shows the groups that are coordinated here.
func (b *Broker) listGroupsHere(ctx context.Context) ([]GroupSummary, error) {
	all := []GroupSummary{}
	loaded, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	for i := range int32(group.Partitions) {
		b.groups.AwaitLoad(loaded, i)
		s, err := b.survey(ctx, i, math.MaxInt)
		if err != nil {
			return nil, err
		}
		if s.Code != 0 && s.Code != kerr.NotCoordinator.Code {
			return nil, groupRefused(s.Code, fmt.Sprintf("the groups of %s-%d cannot be listed now; try again", offsetsTopic, i))
		}
		var committed []group.Committed // of all, lest each is a round trip to each leader
		for _, g := range s.Groups {
			committed = append(committed, g.Offsets...)
		}
		positions := b.positions(ctx, committed)
		for _, g := range s.Groups {
			all = append(all, summaryOf(g, positions[:len(g.Offsets)]))
			positions = positions[len(g.Offsets):]
		}
	}
	return all, nil
}

func summaryOf(g group.Surveyed, positions []GroupPartition) GroupSummary {
	out := GroupSummary{Group: g.ID, Kind: g.Type, ProtocolType: g.ProtocolType, State: g.State, Members: g.Members, Partitions: len(g.Offsets)}
	for _, p := range positions {
		if p.Lag != nil {
			out.Lag += *p.Lag
		}
	}
	topics := map[string]bool{}
	for _, o := range g.Offsets {
		topics[o.Topic] = true
	}
	out.Topics = slices.AppendSeq([]string{}, maps.Keys(topics))
	slices.Sort(out.Topics)
	return out
}

// DescribeGroup shows a group, or a [*GroupError].
func (b *Broker) DescribeGroup(ctx context.Context, id string) (*GroupDescription, error) {
	if at, elsewhere := b.coordinatedElsewhere(offsetsTopic, group.Partition(id)); elsewhere {
		d, err := askOwn[*GroupDescription](ctx, b, at, peerDescribeGroup, groupAsked{Group: id})
		return d, unaskedGroups(at, err, "group %s, which broker %d coordinates, cannot be shown now", id, at)
	}
	return b.describeGroup(ctx, id)
}

// describeGroup shows a group that is coordinated here.
func (b *Broker) describeGroup(ctx context.Context, id string) (*GroupDescription, error) {
	loaded, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	b.groups.AwaitLoad(loaded, group.Partition(id))
	s, err := b.survey(ctx, group.Partition(id), math.MaxInt)
	if err != nil {
		return nil, err
	}
	if _, there := b.images.image().Topic(offsetsTopic); s.Code != 0 && there {
		return nil, groupRefused(s.Code, "group "+id+" cannot be shown now, or is coordinated by another broker; try again")
	}
	at := slices.IndexFunc(s.Groups, func(g group.Surveyed) bool { return g.ID == id })
	if at < 0 {
		return nil, unknownGroup(id)
	}
	g := s.Groups[at]
	d := &GroupDescription{MemberList: []GroupMember{}, PartitionList: []GroupPartition{}}
	if d.MemberList, err = b.groupMembers(ctx, g); err != nil {
		return nil, err
	}
	d.PartitionList = append(d.PartitionList, b.positions(ctx, g.Offsets)...)
	d.GroupSummary = summaryOf(g, d.PartitionList)
	d.Members = len(d.MemberList)
	d.tellOwners(ctx, b)
	return d, nil
}

// groupPartition says where a group is in a partition; committed is nil where it
// has committed nothing.
func (b *Broker) groupPartition(topic string, index int32, committed *int64) GroupPartition {
	p := GroupPartition{Topic: topic, Partition: index, Committed: committed}
	l, _, err := b.leaderOf(topic, index, storage.NoEpoch)
	if err != nil {
		p.Note = "not known here: " + err.Error()
		return p
	}
	p.Start, p.End = int64(l.LogStart()), int64(l.HighWatermark())
	if committed == nil {
		return p
	}
	is := b.lagOf(l, *committed)
	p.Lag, p.Behind = &is.records, is.seconds()
	switch {
	case *committed > p.End:
		p.Note = "committed beyond the end: consumers begin where their auto.offset.reset says"
	case *committed < p.Start:
		p.Note = "committed before the log start: consumers begin where their auto.offset.reset says"
	}
	return p
}

// tellOwners notes who consumes which partition, and adds those of which nothing is
// committed.
func (d *GroupDescription) tellOwners(ctx context.Context, b *Broker) {
	owners := map[topicPartition]string{}
	var more []partitionAsked
	for _, m := range d.MemberList {
		for _, taken := range m.Assigned {
			for _, index := range taken.Partitions {
				p := topicPartition{taken.Topic, index}
				if _, again := owners[p]; !again {
					more = append(more, partitionAsked{Topic: p.Topic, Partition: p.Index})
				}
				owners[p] = m.ID
			}
		}
	}
	committed := map[topicPartition]bool{}
	for _, p := range d.PartitionList {
		committed[topicPartition{p.Topic, p.Partition}] = true
	}
	more = slices.DeleteFunc(more, func(p partitionAsked) bool { return committed[topicPartition{p.Topic, p.Partition}] })
	d.PartitionList = append(d.PartitionList, b.groupPartitions(ctx, more)...)
	for i := range d.PartitionList {
		p := &d.PartitionList[i]
		p.MemberID = owners[topicPartition{p.Topic, p.Partition}]
	}
	slices.SortFunc(d.PartitionList, func(a, b GroupPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// groupMembers returns who is in a group, and what each consumes.
func (b *Broker) groupMembers(ctx context.Context, g group.Surveyed) ([]GroupMember, error) {
	members := []GroupMember{}
	instance := func(id *string) string {
		if id == nil {
			return ""
		}
		return *id
	}
	if g.Type == "consumer" {
		q := kmsg.NewPtrConsumerGroupDescribeRequest()
		q.Groups = []string{g.ID}
		p, err := await(ctx, func(answer func(*kmsg.ConsumerGroupDescribeResponse)) { b.groups.ConsumerGroupDescribe(ctx, q, answer) })
		if err != nil {
			return nil, err
		}
		if code := p.Groups[0].ErrorCode; code != 0 {
			return nil, groupRefused(code, "the members of group "+g.ID+" cannot be shown now; try again")
		}
		for _, m := range p.Groups[0].Members {
			is := GroupMember{ID: m.MemberID, InstanceID: instance(m.InstanceID), ClientID: m.ClientID, Host: m.ClientHost, Assigned: []PartitionsTaken{}}
			for _, t := range m.Assignment.TopicPartitions {
				is.Assigned = append(is.Assigned, PartitionsTaken{t.Topic, t.Partitions})
			}
			members = append(members, is)
		}
		return members, nil
	}
	q := kmsg.NewPtrDescribeGroupsRequest()
	q.Groups = []string{g.ID}
	p, err := await(ctx, func(answer func(*kmsg.DescribeGroupsResponse)) { b.groups.DescribeGroups(ctx, q, answer) })
	if err != nil {
		return nil, err
	}
	if code := p.Groups[0].ErrorCode; code != 0 {
		return nil, groupRefused(code, "the members of group "+g.ID+" cannot be shown now; try again")
	}
	for _, m := range p.Groups[0].Members {
		is := GroupMember{ID: m.MemberID, InstanceID: instance(m.InstanceID), ClientID: m.ClientID, Host: m.ClientHost, Assigned: []PartitionsTaken{}}
		// What does not decode is of another protocol than consumers'.
		var assigned kmsg.ConsumerMemberAssignment
		if g.ProtocolType == "consumer" && assigned.ReadFrom(m.MemberAssignment) == nil {
			for _, t := range assigned.Topics {
				is.Assigned = append(is.Assigned, PartitionsTaken{t.Topic, t.Partitions})
			}
		}
		members = append(members, is)
	}
	return members, nil
}

// DeleteGroup forgets a group without members, and what it has committed.
func (b *Broker) DeleteGroup(ctx context.Context, id string) error {
	if at, elsewhere := b.coordinatedElsewhere(offsetsTopic, group.Partition(id)); elsewhere {
		_, err := askOwn[struct{}](ctx, b, at, peerDeleteGroup, groupAsked{Group: id})
		return unaskedGroups(at, err, "group %s, which broker %d coordinates, may be deleted, or not", id, at)
	}
	return b.deleteGroup(ctx, id)
}

// deleteGroup forgets a group that is coordinated here.
func (b *Broker) deleteGroup(ctx context.Context, id string) error {
	if _, err := b.describeGroup(ctx, id); err != nil {
		return err
	}
	q := kmsg.NewPtrDeleteGroupsRequest()
	q.Groups = []string{id}
	p, err := await(ctx, func(answer func(*kmsg.DeleteGroupsResponse)) { b.groups.DeleteGroups(ctx, q, answer) })
	if err != nil {
		return fmt.Errorf("delete group %s: %w; it may be deleted all the same", id, err)
	}
	switch code := p.Groups[0].ErrorCode; code {
	case 0:
		return nil
	case kerr.NonEmptyGroup.Code:
		return peopledGroup(id, "")
	case kerr.GroupIDNotFound.Code:
		return unknownGroup(id)
	default:
		return groupRefused(code, "group "+id+" was not deleted; try again")
	}
}

// DeleteOffsets forgets what a group has committed of a topic that none of its members
// subscribes to.
func (b *Broker) DeleteOffsets(ctx context.Context, id, topic string) error {
	if at, elsewhere := b.coordinatedElsewhere(offsetsTopic, group.Partition(id)); elsewhere {
		_, err := askOwn[struct{}](ctx, b, at, peerDeleteOffsets, groupAsked{Group: id, Topic: topic})
		return unaskedGroups(at, err, "offsets of group %s, which broker %d coordinates, may be deleted, or not", id, at)
	}
	return b.deleteOffsets(ctx, id, topic)
}

// deleteOffsets is DeleteOffsets for a group that is coordinated here.
func (b *Broker) deleteOffsets(ctx context.Context, id, topic string) error {
	d, err := b.describeGroup(ctx, id)
	if err != nil {
		return err
	}
	t := kmsg.NewOffsetDeleteRequestTopic()
	t.Topic = topic
	for _, p := range d.PartitionList {
		if p.Topic == topic && p.Committed != nil {
			t.Partitions = append(t.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: p.Partition})
		}
	}
	if len(t.Partitions) == 0 {
		return &GroupError{kerr.UnknownTopicOrPartition, fmt.Sprintf("group %s has committed nothing of topic %s", id, topic)}
	}
	q := kmsg.NewPtrOffsetDeleteRequest()
	q.Group, q.Topics = id, append(q.Topics, t)
	p, err := await(ctx, func(answer func(*kmsg.OffsetDeleteResponse)) { b.groups.OffsetDelete(ctx, q, answer) })
	if err != nil {
		return fmt.Errorf("delete offsets of group %s: %w; they may be deleted all the same", id, err)
	}
	code := p.ErrorCode
	for _, t := range p.Topics {
		for _, part := range t.Partitions {
			code = cmp.Or(code, part.ErrorCode)
		}
	}
	switch code {
	case 0:
		return nil
	case kerr.GroupSubscribedToTopic.Code:
		return &GroupError{kerr.GroupSubscribedToTopic, fmt.Sprintf("a member of group %s subscribes to topic %s, and would commit again: stop its consumers, and try again", id, topic)}
	default:
		return groupRefused(code, fmt.Sprintf("offsets of group %s in topic %s were not deleted, or not all; try again", id, topic))
	}
}

func unknownGroup(id string) error {
	return &GroupError{kerr.GroupIDNotFound, "there is no group " + id + "; `rustmq admin groups list` shows those there are"}
}

func peopledGroup(id, who string) error {
	return &GroupError{kerr.NonEmptyGroup, "group " + id + " has members" + who +
		", whose next commit would undo this: stop its consumers (one that died without a word leaves when its session times out), and try again"}
}

func groupRefused(code int16, detail string) error {
	if known, ok := errors.AsType[*kerr.Error](kerr.ErrorForCode(code)); ok {
		return &GroupError{known, detail}
	}
	return &GroupError{kerr.UnknownServerError, detail}
}
