package broker

import (
	"iter"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/transport/kafka"
)

// offsetsTopic holds the state of consumer groups.
const offsetsTopic = group.Topic

// openGroups makes the coordinator; partitions come to it with leadership.
func (b *Broker) openGroups() (*group.Coordinator, error) {
	o := b.opt.Groups
	o.Log, o.Topics, o.Catalogue = offsetsLog{newCoordinatorLog(b, offsetsTopic)}, groupTopics{b}, b.topicCatalogue
	o.Authorised = b.authorization != nil
	o.Consumer.TimesOf, o.Life = b.groupTimes, b.life
	o.Logger, o.Now, o.Believed = b.log, b.opt.Now, b.opt.Controller.BelievedTime
	if o.CompactBytes == 0 { // of a small WAL, all partitions together a tenth
		o.CompactBytes = min(coordinator.DefaultCompactBytes, b.store.Stats().Capacity/(10*group.Partitions))
	}
	return group.Open(o)
}

// groupTimes returns what was set on a group; zero: nothing.
func (b *Broker) groupTimes(name string) (session, heartbeat time.Duration) {
	set, _ := b.images.image().Config(metadata.Resource{Type: metadata.GroupResource, Name: name})
	return millis(set[configs.GroupSession]), millis(set[configs.GroupHeartbeat])
}

// loader is a coordinator: it loads and unloads partitions of its topic.
type loader interface {
	Load(partition int32, epoch storage.Epoch)
	Unload(partition int32)
}

// coordinatorOf returns the coordinator whose state is kept in a topic; nil: none.
func (b *Broker) coordinatorOf(topic string) loader {
	switch topic {
	case offsetsTopic:
		return b.groups
	case transactionsTopic:
		return b.transactions
	}
	return nil
}

// reserved reports whether a topic is the broker's own, there or not.
func reserved(topic string) bool {
	return topic == offsetsTopic || topic == transactionsTopic || topic == AuditTopic
}

// changeCoordinator loads or unloads what a coordinator keeps in a partition of
// its topic as this broker's role in it changes. Neither waits.
func changeCoordinator(c loader, p *partition, was, now *role) {
	switch {
	case p.index >= coordinatorPartitions:
	case now.log != nil:
		c.Load(p.index, now.epoch)
	case was.log != nil:
		c.Unload(p.index)
	}
}

// groupTopics tells the coordinators which topics exist.
type groupTopics struct{ b *Broker }

// Partitions implements group.Topics.
func (t groupTopics) Partitions(name string) int32 { return t.b.topicCatalogue().Partitions(name) }

// TopicID implements group.Topics.
func (t groupTopics) TopicID(name string) storage.TopicID { return t.b.topicCatalogue().TopicID(name) }

// TopicName implements group.Topics.
func (t groupTopics) TopicName(id storage.TopicID) string { return t.b.topicCatalogue().TopicName(id) }

// Newest implements group.Topics. It asks the newest image, which is not older than the
// one that gave a partition of the groups to this broker, and with that than any topic
// that offsets in it were committed for: what it lacks was deleted.
func (t groupTopics) Newest(name string) storage.TopicID {
	if found, ok := t.b.images.newest.Load().Topic(name); ok {
		return found.ID
	}
	return storage.TopicID{}
}

// topicCatalogue is what can be assigned: the topics of one image.
func (b *Broker) topicCatalogue() group.Catalogue {
	version := b.topicsVersion.Load() // before the image, which is then not older
	return assignableTopics{b.images.image(), version}
}

// assignableTopics implements group.Catalogue.
type assignableTopics struct {
	image   *metadata.Image
	version uint64
}

func (c assignableTopics) Version() uint64 { return c.version }

func (c assignableTopics) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for t := range c.image.Topics() {
			if !yield(t.Name) {
				return
			}
		}
	}
}

func (c assignableTopics) Partitions(name string) int32 {
	if found, ok := c.image.Topic(name); ok {
		return int32(found.Partitions.Len())
	}
	return 0
}

func (c assignableTopics) TopicID(name string) storage.TopicID {
	if found, ok := c.image.Topic(name); ok {
		return found.ID
	}
	return storage.TopicID{}
}

func (c assignableTopics) TopicName(id storage.TopicID) string {
	if found, ok := c.image.TopicByID(id); ok {
		return found.Name
	}
	return ""
}

// Changed looks at what the two images do not share.
func (c assignableTopics) Changed(earlier group.Catalogue) (names []string, known bool) {
	before, ok := earlier.(assignableTopics)
	if !ok {
		return nil, false
	}
	for was, is := range c.image.ChangedTopics(before.image) {
		switch {
		case was == nil:
			names = append(names, is.Name)
		case is == nil:
			names = append(names, was.Name)
		}
	}
	return names, true
}

// assignable reports whether two images differ in what can be assigned to members
// of groups.
func assignable(before, image *metadata.Image) bool {
	for was, is := range image.ChangedTopics(before) {
		if was == nil || is == nil || was.ID != is.ID || was.Partitions.Len() != is.Partitions.Len() {
			return true
		}
	}
	return false
}

// answered serves an API by one of a coordinator's methods, which answers later.
func answered[Q kmsg.Request, P kmsg.Response](serve func(*Broker, *kafka.Request, Q, func(P)), gates ...gate[Q, P]) starter {
	return unwaiting(func(b *Broker, r *kafka.Request) {
		q, ok := decode[Q](b, r)
		if !ok {
			return
		}
		amend, ok := admitted(b, r, q, gates)
		if !ok {
			return
		}
		b.requests.Add(1)
		serve(b, r, q, func(p P) {
			p = amend.to(p)
			b.account(r, q, p)
			b.respond(r, p)
			b.requests.Done()
		})
	})
}

func (b *Broker) joinGroup(r *kafka.Request, q *kmsg.JoinGroupRequest, answer func(*kmsg.JoinGroupResponse)) {
	if !parkJoin(r, q) {
		p := q.ResponseKind().(*kmsg.JoinGroupResponse)
		p.ErrorCode, p.MemberID, p.Generation = errNoRoomToWait.Code, q.MemberID, -1
		answer(p)
		return
	}
	b.groups.JoinGroup(r.Context(), r.ClientID, clientHost(r), q, answer)
}

func (b *Broker) syncGroup(r *kafka.Request, q *kmsg.SyncGroupRequest, answer func(*kmsg.SyncGroupResponse)) {
	if !parkSync(r, q) {
		p := q.ResponseKind().(*kmsg.SyncGroupResponse)
		p.ErrorCode, p.MemberAssignment = errNoRoomToWait.Code, []byte{}
		answer(p)
		return
	}
	b.groups.SyncGroup(r.Context(), q, answer)
}

func (b *Broker) heartbeat(r *kafka.Request, q *kmsg.HeartbeatRequest, answer func(*kmsg.HeartbeatResponse)) {
	b.groups.Heartbeat(r.Context(), q, answer)
}

func (b *Broker) leaveGroup(r *kafka.Request, q *kmsg.LeaveGroupRequest, answer func(*kmsg.LeaveGroupResponse)) {
	b.groups.LeaveGroup(r.Context(), q, answer)
}

func (b *Broker) consumerGroupHeartbeat(r *kafka.Request, q *kmsg.ConsumerGroupHeartbeatRequest, answer func(*kmsg.ConsumerGroupHeartbeatResponse)) {
	b.groups.ConsumerGroupHeartbeat(r.Context(), r.ClientID, clientHost(r), b.topicRights(r), q, answer)
}

// topicRights are what r's client may know of topics now; nil: nobody authorises.
func (b *Broker) topicRights(r *kafka.Request) group.Rights {
	c := b.client(r)
	if c == nil {
		return nil
	}
	return topicRights{c.View()}
}

// topicRights implements group.Rights.
type topicRights struct{ of acl.View }

func (r topicRights) Describes(topic string) bool {
	return r.of.Allowed(acl.Describe, acl.Topic, topic)
}

func (r topicRights) SameClient(other group.Rights) bool {
	o, ok := other.(topicRights)
	return ok && r.of.SameClient(o.of)
}

func (b *Broker) consumerGroupDescribe(r *kafka.Request, q *kmsg.ConsumerGroupDescribeRequest, answer func(*kmsg.ConsumerGroupDescribeResponse)) {
	q.Groups = unique(q.Groups, func(g string) string { return g })
	b.groups.ConsumerGroupDescribe(r.Context(), q, func(p *kmsg.ConsumerGroupDescribeResponse) {
		for i := range p.Groups {
			if q.IncludeAuthorizedOperations {
				p.Groups[i].AuthorizedOperations = operations(nil, acl.Group, p.Groups[i].Group)
			}
		}
		answer(p)
	})
}

func (b *Broker) offsetCommit(r *kafka.Request, q *kmsg.OffsetCommitRequest, answer func(*kmsg.OffsetCommitResponse)) {
	b.groups.OffsetCommit(r.Context(), q, answer)
}

func (b *Broker) offsetFetch(r *kafka.Request, q *kmsg.OffsetFetchRequest, answer func(*kmsg.OffsetFetchResponse)) {
	// Each group and partition once, so that a small request has no huge answer.
	type (
		topic   = kmsg.OffsetFetchRequestTopic
		topicOf = kmsg.OffsetFetchRequestGroupTopic
	)
	q.Topics = distinct(q.Topics, func(t *topic) string { return t.Topic }, func(t *topic) *[]int32 { return &t.Partitions }, itself)
	name := func(t *topicOf) string { return t.Topic }
	if q.Version >= 10 {
		name = func(t *topicOf) string { return string(t.TopicID[:]) }
	}
	for i := range q.Groups {
		g := &q.Groups[i]
		g.Topics = distinct(g.Topics, name, func(t *topicOf) *[]int32 { return &t.Partitions }, itself)
	}
	q.Groups = unique(q.Groups, func(g kmsg.OffsetFetchRequestGroup) string { return g.Group })
	b.groups.OffsetFetch(r.Context(), q, answer)
}

func (b *Broker) describeGroups(r *kafka.Request, q *kmsg.DescribeGroupsRequest, answer func(*kmsg.DescribeGroupsResponse)) {
	q.Groups = unique(q.Groups, func(g string) string { return g })
	b.groups.DescribeGroups(r.Context(), q, func(p *kmsg.DescribeGroupsResponse) {
		for i := range p.Groups {
			if q.IncludeAuthorizedOperations {
				p.Groups[i].AuthorizedOperations = operations(nil, acl.Group, p.Groups[i].Group)
			}
		}
		answer(p)
	})
}

func (b *Broker) listGroups(r *kafka.Request, q *kmsg.ListGroupsRequest, answer func(*kmsg.ListGroupsResponse)) {
	b.groups.ListGroups(r.Context(), q, answer)
}

func (b *Broker) deleteGroups(r *kafka.Request, q *kmsg.DeleteGroupsRequest, answer func(*kmsg.DeleteGroupsResponse)) {
	q.Groups = unique(q.Groups, func(g string) string { return g })
	b.groups.DeleteGroups(r.Context(), q, answer)
}

func (b *Broker) offsetDelete(r *kafka.Request, q *kmsg.OffsetDeleteRequest, answer func(*kmsg.OffsetDeleteResponse)) {
	b.groups.OffsetDelete(r.Context(), q, answer)
}

// unique returns the elements whose key none before them has, in s's memory.
func unique[T any](s []T, key func(T) string) []T {
	if len(s) < 2 {
		return s
	}
	seen := make(map[string]bool, len(s))
	return slices.DeleteFunc(s, func(v T) bool {
		k := key(v)
		again := seen[k]
		seen[k] = true
		return again
	})
}

// clientHost is what DescribeGroups shows of a member, as Kafka writes it.
func clientHost(r *kafka.Request) string {
	remote := r.Conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(remote); err == nil {
		remote = host
	}
	return "/" + remote
}
