package group

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
)

// Versions of the records written, those that Kafka 4 writes for such groups.
const (
	commitKeyVersion      = 1
	groupKeyVersion       = 2
	commitVersion         = 3
	expiringCommitVersion = 1 // of clients that give a retention time themselves
	groupVersion          = 3
)

// topicCommitVersion is the newest value of an offset commit that is read.
const topicCommitVersion = 4

var errShort = errors.New("shorter than its version is")

// RecordError is a record of the topic that cannot be read.
type RecordError struct {
	Partition int32
	Offset    storage.Offset
	Err       error
}

// Error names the record.
func (e *RecordError) Error() string {
	return fmt.Sprintf("record at offset %d of %s-%d: %v", e.Offset, Topic, e.Partition, e.Err)
}

// Unwrap returns what is wrong with it.
func (e *RecordError) Unwrap() error { return e.Err }

func commitKey(group string, s slot) []byte {
	k := kmsg.OffsetCommitKey{Version: commitKeyVersion, Group: group, Topic: s.topic, Partition: s.partition}
	return k.AppendTo(nil)
}

// topicHeader is the header of an offset commit that says for which topic it is: its id.
// Kafka's value has that since version 4, which what knows 3 cannot read; headers it
// passes over.
const topicHeader = "topic-id"

// beforeHeader is the header of an offset commit that is written once more in a later life of the
// cluster than it was committed in: a leader epoch, 4 bytes, that the life which committed it
// did not reach.
const beforeHeader = "before-leader-epoch"

// headers returns what a record says besides its key and value.
func (r Record) headers() (all []batch.Header) {
	if !r.TopicID.IsZero() {
		all = append(all, batch.Header{Key: []byte(topicHeader), Value: r.TopicID[:]})
	}
	if !guard.Check("group.commit-life", r.Before == 0) {
		all = append(all, batch.Header{Key: []byte(beforeHeader), Value: binary.BigEndian.AppendUint32(nil, uint32(r.Before))})
	}
	return all
}

// size is about how many bytes a record takes.
func (r Record) size() int {
	n := len(r.Key) + len(r.Value)
	if !r.TopicID.IsZero() {
		n += len(topicHeader) + len(r.TopicID)
	}
	if r.Before != 0 {
		n += len(beforeHeader) + 4
	}
	return n
}

// recordOf reads a record of the log, whose bytes it shares.
func recordOf(r *batch.Record) (Record, error) {
	out := Record{Key: r.Key, Value: r.Value}
	var err error
	r.Headers(func(h batch.Header) bool {
		switch string(h.Key) {
		case topicHeader:
			if !guard.Check("group.topic-header", len(h.Value) == len(out.TopicID)) {
				err = fmt.Errorf("header %s of %d bytes", topicHeader, len(h.Value))
				return false
			}
			out.TopicID = storage.TopicID(h.Value)
		case beforeHeader:
			if len(h.Value) == 4 {
				out.Before = storage.Epoch(binary.BigEndian.Uint32(h.Value))
			}
			if !guard.Check("group.life-header", out.Before > 0) {
				err = fmt.Errorf("header %s is %x", beforeHeader, h.Value)
				return false
			}
		}
		return true
	})
	return out, err
}

func encodeCommit(group string, s slot, o commit) Record {
	v := kmsg.OffsetCommitValue{
		Version: commitVersion, Offset: o.offset, LeaderEpoch: o.leaderEpoch,
		Metadata: o.metadata, CommitTimestamp: o.timestamp, ExpireTimestamp: o.expires,
	}
	if o.expires >= 0 {
		v.Version = expiringCommitVersion
	}
	return Record{Key: commitKey(group, s), Value: v.AppendTo(nil), TopicID: o.topicID, Before: o.before}
}

func groupKey(group string) []byte {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: group}
	return k.AppendTo(nil)
}

// encodeGroup is the record of g with these assignments, by member id; nil
// stands for those the members have.
func encodeGroup(g *group, assignments map[string][]byte) Record {
	v := kmsg.GroupMetadataValue{
		Version: groupVersion, ProtocolType: g.protocolType, Generation: g.generation,
		CurrentStateTimestamp: g.since,
	}
	if len(g.members) > 0 {
		v.Protocol, v.Leader = &g.protocol, &g.leader
	}
	for _, m := range g.ordered() {
		assignment := m.assignment
		if assignments != nil {
			assignment = assignments[m.id]
		}
		v.Members = append(v.Members, kmsg.GroupMetadataValueMember{
			MemberID: m.id, InstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeoutMillis: int32(m.rebalance.Milliseconds()), SessionTimeoutMillis: int32(m.session.Milliseconds()),
			Subscription: m.metadata(g.protocol), Assignment: assignment,
		})
	}
	return Record{Key: groupKey(g.id), Value: v.AppendTo(nil)}
}

// Replay applies a record of the log, in the log's order, before the first step.
func (c *Core) Replay(r Record) error {
	if len(r.Key) < 2 {
		return fmt.Errorf("key: %w", errShort)
	}
	switch kind := binary.BigEndian.Uint16(r.Key); {
	case kind <= commitKeyVersion:
		return c.replayCommit(r)
	case kind == groupKeyVersion:
		return c.replayGroup(r.Key, r.Value)
	case isConsumerKind(kind):
		return c.replayConsumer(r.Key, r.Value)
	}
	c.skips++
	return nil
}

// ReplayTransactional applies a record of a producer's transaction.
func (c *Core) ReplayTransactional(producerID int64, producerEpoch int16, r Record) error {
	if len(r.Key) < 2 {
		return fmt.Errorf("key: %w", errShort)
	}
	if kind := binary.BigEndian.Uint16(r.Key); kind > commitKeyVersion || r.Value == nil {
		c.skips++ // nothing else has a place in a transaction
		return nil
	}
	group, s, o, err := decodeCommit(r)
	if err != nil {
		return err
	}
	o.before = cmp.Or(o.before, c.earlier)
	c.make(group).enter(producerID, producerEpoch, s, *o)
	return nil
}

// ReplayMarker applies the end of a producer's transaction.
func (c *Core) ReplayMarker(producerID int64, commit bool) { c.ended(producerID, commit) }

func (c *Core) replayCommit(r Record) error {
	group, s, o, err := decodeCommit(r)
	if err != nil {
		return err
	}
	if o != nil {
		o.before = cmp.Or(o.before, c.earlier)
		c.make(group).set(s.topic, s.partition, *o)
	} else if g := c.groups[group]; g != nil {
		g.forget(s)
	}
	return nil
}

// decodeCommit reads the record of a committed offset; nil: it takes one back.
func decodeCommit(r Record) (group string, s slot, _ *commit, _ error) {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(r.Key); !guard.Check("group.record-decodes", err == nil) {
		return "", s, nil, fmt.Errorf("key of an offset commit: %w", err)
	}
	s = slot{k.Topic, k.Partition}
	if r.Value == nil {
		return k.Group, s, nil, nil
	}
	if err := atMost(r.Value, topicCommitVersion); err != nil {
		return "", s, nil, fmt.Errorf("offset commit of group %q: %w", k.Group, err)
	}
	v := kmsg.OffsetCommitValue{}
	if err := v.ReadFrom(r.Value); !guard.Check("group.record-decodes", err == nil) {
		return "", s, nil, fmt.Errorf("offset commit of group %q: %w", k.Group, err)
	}
	o := commit{v.Offset, -1, r.Before, v.Metadata, v.CommitTimestamp, -1, r.TopicID, 0}
	if o.topicID.IsZero() {
		o.topicID = v.TopicID
	}
	if v.Version >= 3 {
		o.leaderEpoch = v.LeaderEpoch
	}
	if v.Version == expiringCommitVersion {
		o.expires = v.ExpireTimestamp
	}
	return k.Group, s, &o, nil
}

func (c *Core) replayGroup(key, value []byte) error {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(key); !guard.Check("group.record-decodes", err == nil) {
		return fmt.Errorf("key of a group: %w", err)
	}
	if value != nil {
		if err := atMost(value, groupVersion); err != nil {
			return fmt.Errorf("group %q: %w", k.Group, err)
		}
	}
	var v kmsg.GroupMetadataValue
	if value != nil {
		if err := v.ReadFrom(value); !guard.Check("group.record-decodes", err == nil) {
			return fmt.Errorf("group %q: %w", k.Group, err)
		}
	}
	g := c.groups[k.Group]
	if g == nil && value == nil {
		return nil
	}
	g = c.make(k.Group)
	for _, m := range g.ordered() {
		g.remove(m)
	}
	g.state = empty
	g.recorded(bytes.Clone(value))
	g.protocolType, g.generation, g.since = v.ProtocolType, v.Generation, v.CurrentStateTimestamp
	g.protocol, g.leader = "", ""
	if len(v.Members) == 0 {
		return nil
	}
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for _, vm := range v.Members {
		if g.members[vm.MemberID] != nil || vm.InstanceID != nil && g.instances[*vm.InstanceID] != nil {
			return fmt.Errorf("group %q: member %q twice", k.Group, vm.MemberID)
		}
		m := &member{
			id: vm.MemberID, instance: vm.InstanceID, clientID: vm.ClientID, clientHost: vm.ClientHost,
			session:   time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
			rebalance: time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
			protocols: []protocol{{g.protocol, bytes.Clone(vm.Subscription)}}, assignment: bytes.Clone(vm.Assignment),
			synced: true,
		}
		if v.Version < 1 || m.rebalance < 0 {
			m.rebalance = m.session
		}
		g.add(m)
	}
	if v.Leader != nil && g.members[*v.Leader] != nil {
		g.leader = *v.Leader
	}
	g.state = stable
	g.readSubscriptions()
	return nil
}

// atMost reports a value of a version that this code does not know.
func atMost(value []byte, known int16) error {
	if len(value) < 2 {
		return errShort
	}
	if v := int16(binary.BigEndian.Uint16(value)); v < 0 || v > known {
		return fmt.Errorf("version %d, known are 0 to %d", v, known)
	}
	return nil
}
