package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rustmq.dev/rustmq/roles/broker/pattern"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Kinds of a consumer group's records: the version of the key, as Kafka has it.
const (
	consumerGroupKind   = 3
	topicMetadataKind   = 4 // Kafka 4.0 wrote it; what it says is looked up here
	consumerMemberKind  = 5
	targetEpochKind     = 6
	targetMemberKind    = 7
	currentMemberKind   = 8
	patternKind         = 16
	consumerValue       = 0 // the version of each value
	metadataHashTag     = 0 // of a group
	classicMemberTag    = 0 // of a member
	assignmentEpochsTag = 0 // of a topic that a member has
	firstConsumerRecord = consumerGroupKind
	lastConsumerRecord  = currentMemberKind
)

// isConsumerKind reports whether a record is part of a consumer group.
func isConsumerKind(kind uint16) bool {
	return kind >= firstConsumerRecord && kind <= lastConsumerRecord || kind == patternKind
}

// consumerKey is the key of a record: of the group, of a member of it or of a
// pattern.
func consumerKey(kind uint16, group string, of ...string) []byte {
	key := binary.BigEndian.AppendUint16(nil, kind)
	for _, s := range append([]string{group}, of...) {
		key = binary.BigEndian.AppendUint16(key, uint16(len(s)))
		key = append(key, s...)
	}
	return key
}

// fields is a value under construction, flexible as Kafka's are since KIP-482.
type fields []byte

func newFields() fields { return fields{0, consumerValue} }

func (f *fields) uvarint(v uint64) { *f = binary.AppendUvarint(*f, v) }
func (f *fields) int8(v int8)      { *f = append(*f, byte(v)) }
func (f *fields) int32(v int32)    { *f = binary.BigEndian.AppendUint32(*f, uint32(v)) }
func (f *fields) int64(v int64)    { *f = binary.BigEndian.AppendUint64(*f, uint64(v)) }
func (f *fields) length(n int)     { f.uvarint(uint64(n) + 1) }
func (f *fields) noTags()          { f.uvarint(0) }
func (f *fields) string(s string)  { f.length(len(s)); *f = append(*f, s...) }
func (f *fields) bytes(b []byte)   { f.length(len(b)); *f = append(*f, b...) }
func (f *fields) tag(n int, of []byte) {
	f.uvarint(uint64(n))
	f.uvarint(uint64(len(of)))
	*f = append(*f, of...)
}

func (f *fields) nullable(s *string) {
	if s == nil {
		f.uvarint(0)
		return
	}
	f.string(*s)
}

func (f *fields) strings(all []string) {
	f.length(len(all))
	for _, s := range all {
		f.string(s)
	}
}

// assignment appends partitions, each with the epoch that it was given in unless
// since is nil (KIP-1251).
func (f *fields) assignment(a assignment, since map[place]int32) {
	f.length(len(a))
	for _, topic := range a.topics() {
		*f = append(*f, topic[:]...)
		f.length(len(a[topic]))
		for _, p := range a[topic] {
			f.int32(p)
		}
		if since == nil {
			f.noTags()
			continue
		}
		var epochs fields
		epochs.length(len(a[topic]))
		for _, p := range a[topic] {
			epochs.int32(since[place{topic, p}])
		}
		f.uvarint(1)
		f.tag(assignmentEpochsTag, epochs)
	}
}

// queue puts the records of all that was touched into the log's queue.
func (cg *consumerGroup) queue() {
	id, log := cg.group.id, &cg.group.consumerLog
	if cg.advanced {
		log.put(consumerKey(consumerGroupKind, id), cg.encode())
		f := newFields()
		f.int32(cg.epoch)
		f.noTags()
		log.put(consumerKey(targetEpochKind, id), f)
	}
	for member := range cg.touched {
		var metadata, target, current []byte
		if m := cg.members[member]; m != nil {
			metadata, target, current = m.encode(), m.encodeTarget(), m.encodeCurrent()
		}
		log.put(consumerKey(consumerMemberKind, id, member), metadata)
		log.put(consumerKey(targetMemberKind, id, member), target)
		log.put(consumerKey(currentMemberKind, id, member), current)
	}
	for source := range cg.renewed {
		var value []byte
		if p := cg.patterns[source]; p != nil {
			value = p.encode()
		}
		log.put(consumerKey(patternKind, id, source), value)
	}
	clear(cg.touched)
	clear(cg.renewed)
	cg.advanced = false
}

func (cg *consumerGroup) encode() []byte {
	f := newFields()
	f.int32(cg.epoch)
	if cg.hash == 0 {
		f.noTags()
		return f
	}
	f.uvarint(1)
	f.tag(metadataHashTag, binary.BigEndian.AppendUint64(nil, uint64(cg.hash)))
	return f
}

func (m *consumerMember) encode() []byte {
	f := newFields()
	f.nullable(m.instance)
	f.nullable(m.rack)
	f.string(m.clientID)
	f.string(m.clientHost)
	f.strings(m.topics)
	f.string(m.pattern)
	f.int32(int32(m.rebalance.Milliseconds()))
	if m.assignor == "" {
		f.nullable(nil)
	} else {
		f.string(m.assignor)
	}
	if m.classic == nil {
		f.noTags()
		return f
	}
	var c fields
	c.int8(1) // not null
	c.int32(int32(m.classic.session.Milliseconds()))
	c.length(len(m.classic.protocols))
	for _, p := range m.classic.protocols {
		c.string(p.name)
		c.bytes(p.metadata)
		c.noTags()
	}
	c.noTags()
	f.uvarint(1)
	f.tag(classicMemberTag, c)
	return f
}

func (m *consumerMember) encodeTarget() []byte {
	f := newFields()
	f.assignment(m.target, nil)
	f.noTags()
	return f
}

func (m *consumerMember) encodeCurrent() []byte {
	f := newFields()
	f.int32(m.epoch)
	f.int32(m.previous)
	f.int8(int8(m.state))
	f.assignment(m.assigned, m.since)
	f.assignment(m.revoking, nil)
	f.noTags()
	return f
}

func (p *subscription) encode() []byte {
	f := newFields()
	f.strings(p.topics)
	f.int64(int64(p.version))
	f.int64(p.found)
	f.noTags()
	return f
}

// cut reads what fields wrote. What it returns shares no memory with its input,
// whose bytes bound what it makes.
type cut struct {
	rest []byte
	bad  bool
}

func (c *cut) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.rest)) {
		c.bad, c.rest = true, nil
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cut) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if c.bad || n <= 0 {
		c.bad, c.rest = true, nil
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cut) int8() int8 {
	if b := c.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (c *cut) int32() int32 {
	if b := c.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (c *cut) int64() int64 {
	if b := c.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// nullable reads a string; null is nil.
func (c *cut) nullable() *string {
	n := c.uvarint()
	if c.bad || n == 0 {
		return nil
	}
	s := string(c.take(n - 1))
	return &s
}

func (c *cut) string() string {
	s := c.nullable()
	if s == nil {
		c.bad = true
		return ""
	}
	return *s
}

// length reads how many elements follow, each of at least size bytes. A null
// array is an empty one.
func (c *cut) length(size int) int {
	n := c.uvarint()
	if n == 0 || c.bad {
		return 0
	}
	if n--; n > uint64(len(c.rest)/size) {
		c.bad = true
		return 0
	}
	return int(n)
}

func (c *cut) strings() []string {
	all := make([]string, 0, c.length(1))
	for range cap(all) {
		all = append(all, c.string())
	}
	return all
}

// tags reads tagged fields: known gets those it wants, the others are skipped, as
// a newer Kafka means them to be.
func (c *cut) tags(known func(tag uint64, of *cut)) {
	for n := c.uvarint(); n > 0 && !c.bad; n-- {
		tag := c.uvarint()
		of := cut{rest: c.take(c.uvarint())}
		if known != nil && !c.bad {
			known(tag, &of)
			c.bad = c.bad || of.bad
		}
	}
}

// assignment reads partitions, and the epochs that they were given in, of those of
// which it is said.
func (c *cut) assignment() (assignment, map[place]int32) {
	var all []place
	since := map[place]int32{}
	for range c.length(18) {
		var topic storage.TopicID
		copy(topic[:], c.take(16))
		first := len(all)
		for range c.length(4) {
			all = append(all, place{topic, c.int32()})
		}
		c.tags(func(tag uint64, of *cut) {
			if tag != assignmentEpochsTag {
				return
			}
			for i := range of.length(4) {
				epoch := of.int32()
				if at := first + i; at < len(all) {
					since[all[at]] = epoch
				}
			}
		})
	}
	return assignmentOf(all), since
}

var errConsumerRecord = errors.New("cut off, or not of the form that its kind has")

// err is what was wrong, or that something is left.
func (c *cut) err() error {
	if c.bad || len(c.rest) > 0 {
		return errConsumerRecord
	}
	return nil
}

// consumerRecord is a record of a consumer group, read.
type consumerRecord struct {
	kind      uint16
	group, of string // of: the member or pattern
	epoch     int32
	hash      int64
	member    *consumerMember // of kind 5; of 8: what it says
	target    assignment
	pattern   subscription
}

// decodeConsumer reads a record; of a nil value only the key.
func decodeConsumer(key, value []byte) (r consumerRecord, err error) {
	k := cut{rest: key}
	r.kind = binary.BigEndian.Uint16(k.take(2))
	short := func() string {
		b := k.take(2)
		if b == nil {
			return ""
		}
		return string(k.take(uint64(binary.BigEndian.Uint16(b))))
	}
	r.group = short()
	if r.kind >= consumerMemberKind && r.kind != targetEpochKind {
		r.of = short()
	}
	if err := k.err(); !guard.Check("group.consumer-record-decodes", err == nil) {
		return r, fmt.Errorf("key of kind %d: %w", r.kind, err)
	}
	if value == nil || r.kind == topicMetadataKind {
		return r, nil
	}
	if err := atMost(value, consumerValue); err != nil {
		return r, fmt.Errorf("record of kind %d of group %q: %w", r.kind, r.group, err)
	}
	v := cut{rest: value[2:]}
	r.value(&v)
	if err := v.err(); !guard.Check("group.consumer-record-decodes", err == nil) {
		return r, fmt.Errorf("record of kind %d of group %q: %w", r.kind, r.group, err)
	}
	return r, nil
}

func (r *consumerRecord) value(v *cut) {
	switch r.kind {
	case consumerGroupKind:
		r.epoch = v.int32()
		v.tags(func(tag uint64, of *cut) {
			if tag == metadataHashTag {
				r.hash = of.int64()
			}
		})
		return
	case targetEpochKind:
		r.epoch = v.int32()
	case consumerMemberKind:
		r.member = decodeMember(v)
		return
	case targetMemberKind:
		r.target, _ = v.assignment()
	case currentMemberKind:
		m := &consumerMember{epoch: v.int32(), previous: v.int32(), state: memberState(v.int8())}
		m.assigned, m.since = v.assignment()
		m.revoking, _ = v.assignment()
		r.member = m
	case patternKind:
		r.pattern = subscription{topics: v.strings(), version: uint64(v.int64()), found: v.int64(), resolved: true}
		slices.Sort(r.pattern.topics)
	}
	v.tags(nil)
}

func decodeMember(v *cut) *consumerMember {
	m := &consumerMember{instance: v.nullable(), rack: v.nullable(), clientID: v.string(), clientHost: v.string()}
	m.topics = v.strings()
	slices.Sort(m.topics)
	if p := v.nullable(); p != nil {
		m.pattern = *p
	}
	m.rebalance = time.Duration(v.int32()) * time.Millisecond
	if a := v.nullable(); a != nil {
		m.assignor = *a
	}
	v.tags(func(tag uint64, of *cut) {
		if tag != classicMemberTag || of.int8() < 0 {
			return
		}
		m.classic = &classicMember{session: time.Duration(of.int32()) * time.Millisecond}
		for range of.length(3) {
			p := protocol{name: of.string()}
			p.metadata = slices.Clone(of.take(uint64(of.length(1))))
			of.tags(nil)
			m.classic.protocols = append(m.classic.protocols, p)
		}
		of.tags(nil)
	})
	return m
}

// replayConsumer notes a record of the log. What they say together is read when
// all are there.
func (c *Core) replayConsumer(key, value []byte) error {
	r, err := decodeConsumer(key, value)
	if err != nil {
		return err
	}
	if value == nil && c.groups[r.group] == nil {
		return nil
	}
	if r.kind == topicMetadataKind {
		return nil
	}
	g := c.make(r.group)
	if value != nil {
		value = slices.Clone(value)
	}
	g.noteCommitted(strings.Clone(string(key)), value)
	return nil
}

// isPattern reports whether members are subscribed by what is recorded as a pattern: an
// earlier version, or another server, may have taken what is not taken here.
func isPattern(source string) bool {
	if source == "" || len(source) > maxKeyString {
		return false
	}
	_, err := pattern.Compile(source)
	return guard.Check("group.recorded-pattern", err == nil)
}

// rebuild makes of the committed records the consumer group that they say, if
// they do. Sessions begin now.
func (g *group) rebuild(now time.Time) {
	if _, ok := g.committed[string(consumerKey(consumerGroupKind, g.id))]; !ok {
		return
	}
	cg := newConsumerGroup(g, 0)
	targets, currents := map[string]assignment{}, map[string]*consumerMember{}
	for key, value := range g.committed {
		r, err := decodeConsumer([]byte(key), value)
		if err != nil {
			panic(fmt.Sprintf("group: a record that was replayed or written does not decode: %v", err))
		}
		switch r.kind {
		case consumerGroupKind:
			cg.epoch, cg.hash = r.epoch, r.hash
		case consumerMemberKind:
			r.member.id = r.of
			cg.add(r.member)
		case targetMemberKind:
			targets[r.of] = r.target
		case currentMemberKind:
			currents[r.of] = r.member
		case patternKind:
			if isPattern(r.of) {
				cg.patterns[r.of] = &r.pattern
			}
		}
	}
	for _, m := range cg.members {
		if cg.patterns[m.pattern] == nil && isPattern(m.pattern) {
			cg.patterns[m.pattern] = &subscription{} // what it matches is not on record
		}
	}
	for _, m := range cg.sorted() {
		m.target = targets[m.id]
		if is := currents[m.id]; is != nil {
			m.epoch, m.previous, m.state = is.epoch, is.previous, is.state
			m.since = is.since
			for p := range is.assigned.places {
				if _, ok := m.since[p]; !ok { // before KIP-1251
					m.since[p] = m.epoch
				}
			}
			cg.own(m, is.assigned, is.revoking)
		}
		if m.state == memberUnrevoked {
			m.revokeBy = now.Add(m.rebalance)
			cg.wakeBy(m.revokeBy)
		}
		cg.beat(now, m)
	}
	clear(cg.touched)
	g.protocolType = consumerProtocol
	g.consumer = cg
}
