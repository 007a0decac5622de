package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// metadata answers at once, unless topics are to be made first.
func (b *Broker) metadata(r *kafka.Request) {
	null := r.Version == 0 && len(r.Body) >= 4 && int32(binary.BigEndian.Uint32(r.Body)) < 0 // kmsg reads it as empty
	q, ok := decode[*kmsg.MetadataRequest](b, r)
	if !ok {
		return
	}
	if null {
		r.Close(errNullTopics)
		return
	}
	if beforeIDs(q) {
		b.respond(r, refusedMetadata(q, kerr.InvalidRequest))
		return
	}
	c := b.client(r)
	missing := b.missingTopics(r, c, q)
	if len(missing) == 0 {
		b.respond(r, b.metadataResponse(r, c, q))
		return
	}
	b.spawn(r, func(ctx context.Context) {
		counted := b.mutating(r, 0) // topics that are held back are unknown for now
		b.createMissing(ctx, missing, counted, eventOf(r.Conn, r.ClientID))
		p := b.metadataResponse(r, c, q)
		p.ThrottleMillis = counted.millis()
		b.respond(r, p)
	})
}

// errNullTopics ends a connection: an empty list stands for all topics in version 0,
// where the list may not be null.
var errNullTopics = errors.New("metadata v0: a null list of topics")

// firstByID is the version from which on a topic may be asked for by its id. The two
// before have the field, and no use for it (KIP-516).
const firstByID = 12

func beforeIDs(q *kmsg.MetadataRequest) bool {
	return q.Version < firstByID && slices.ContainsFunc(q.Topics, func(t kmsg.MetadataRequestTopic) bool {
		return t.Topic == nil || t.TopicID != [16]byte{}
	})
}

// refusedMetadata answers with an error for each topic, and with nothing of the cluster.
func refusedMetadata(q *kmsg.MetadataRequest, err *kerr.Error) *kmsg.MetadataResponse {
	p := q.ResponseKind().(*kmsg.MetadataResponse)
	for _, want := range q.Topics {
		out := kmsg.NewMetadataResponseTopic()
		out.Topic, out.TopicID, out.ErrorCode = want.Topic, want.TopicID, err.Code
		if out.Topic == nil {
			out.Topic = kmsg.StringPtr("") // not nullable yet
		}
		p.Topics = append(p.Topics, out)
	}
	return p
}

// missingTopics returns the topics to make before the request is answered.
// Nothing is made in 0-RTT: what comes there may be somebody's replay (RULES §8).
func (b *Broker) missingTopics(r *kafka.Request, c *acl.Client, q *kmsg.MetadataRequest) (missing []string) {
	if !b.creates(q) || !guard.Check("broker.early-create", !r.Conn.EarlyData()) {
		return nil
	}
	image := b.images.image()
	for _, t := range q.Topics {
		if t.Topic == nil || reserved(*t.Topic) || len(missing) == maxAutoCreate {
			continue
		}
		if _, known := image.Topic(*t.Topic); known || metadata.ValidTopicName(*t.Topic) != nil {
			continue
		}
		if sees(c, acl.Describe, acl.Topic, *t.Topic) && mayMake(sees, c, *t.Topic) && !slices.Contains(missing, *t.Topic) {
			missing = append(missing, *t.Topic)
		}
	}
	if len(missing) > 0 && !guard.Check("broker.audit-first-use", b.audit.Admit() == nil) {
		return nil // nobody acts unrecorded
	}
	return missing
}

// creates reports whether a request makes topics that are not there.
func (b *Broker) creates(q *kmsg.MetadataRequest) bool {
	return b.live.Load().AutoCreate && (q.Version < 4 || q.AllowAutoTopicCreation)
}

func mayMake(by decision, c *acl.Client, topic string) bool {
	return seesCluster(c, acl.Create) || by(c, acl.Create, acl.Topic, topic)
}

// createMissing makes topics for whoever act is by.
func (b *Broker) createMissing(ctx context.Context, names []string, counted mutations, act audit.Event) {
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	var topics []controller.NewTopic
	for _, name := range names {
		if t := (controller.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}); counted.take(asksFor(t)) == nil {
			topics = append(topics, t)
		}
	}
	if len(topics) == 0 {
		return
	}
	for i, result := range b.opt.Controller.CreateTopics(ctx, topics, false) {
		counted.became(asksFor(topics[i]), result)
		if code, _ := codeAndMessage(result.Err); code != kerr.TopicAlreadyExists.Code { // another client was first
			act.Action, act.ResourceType, act.Resource, act.Detail = "topic.create", "topic", topics[i].Name, "on first use"
			act.Outcome, act.Reason = outcomeOf(code)
			b.audit.Record(act)
		}
		switch {
		case result.Err == nil:
			b.log.Info("topic made on first use", "topic", result.Name, "partitions", result.Partitions)
		case metadata.CodeOf(result.Err) != metadata.TopicAlreadyExists:
			b.log.Warn("topic could not be made on first use", "topic", result.Name, "error", result.Err)
		}
	}
	b.settle(ctx)
}

func (b *Broker) metadataResponse(r *kafka.Request, c *acl.Client, q *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	image := b.images.image()
	p := q.ResponseKind().(*kmsg.MetadataResponse)
	p.ClusterID = kmsg.StringPtr(image.ClusterID())
	p.ControllerID = b.opt.NodeID // any broker takes requests to the controller further
	for broker := range image.Brokers() {
		if broker.Fenced {
			continue
		}
		e := endpoint(broker, r.Conn.Listener())
		out := kmsg.NewMetadataResponseBroker()
		out.NodeID, out.Host, out.Port = e.ID, e.Host, e.Port
		if e.Rack != "" {
			out.Rack = &e.Rack
		}
		p.Brokers = append(p.Brokers, out)
	}
	if q.IncludeClusterAuthorizedOperations {
		p.AuthorizedOperations = describedOperations(c)
	}
	if q.Topics == nil || q.Version == 0 && len(q.Topics) == 0 {
		p.Topics = make([]kmsg.MetadataResponseTopic, 0, image.NumTopics())
		for t := range image.Topics() {
			if sees(c, acl.Describe, acl.Topic, t.Name) {
				p.Topics = append(p.Topics, b.metadataTopic(image, c, t, q.IncludeTopicAuthorizedOperations))
			}
		}
		return p
	}
	named := map[string]bool{} // once each, so that a small request has no huge answer
	ids := map[[16]byte]bool{}
	for _, want := range q.Topics {
		if byName(want) && named[*want.Topic] || !byName(want) && ids[want.TopicID] {
			continue
		}
		if byName(want) {
			named[*want.Topic] = true
		} else {
			ids[want.TopicID] = true
		}
		p.Topics = append(p.Topics, b.askedTopic(image, c, want, q))
	}
	return p
}

// byName reports whether a topic is asked for by its name. Who asks by id may leave
// the name empty instead of null: Java's consumer does for what it was assigned
// by a pattern.
func byName(want kmsg.MetadataRequestTopic) bool {
	return want.Topic != nil && (*want.Topic != "" || want.TopicID == [16]byte{})
}

// askedTopic tells of a topic that is asked for. Whether one is there that the client may
// not describe is not told, but to who has its id, as in Kafka.
func (b *Broker) askedTopic(image *metadata.Image, c *acl.Client, want kmsg.MetadataRequestTopic, q *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	if !byName(want) {
		t, ok := image.TopicByID(storage.TopicID(want.TopicID))
		switch out.TopicID = want.TopicID; {
		case !ok:
			out.ErrorCode = kerr.UnknownTopicID.Code
		case !may(c, acl.Describe, acl.Topic, t.Name):
			out.ErrorCode = topicDenied
		default:
			return b.metadataTopic(image, c, t, q.IncludeTopicAuthorizedOperations)
		}
		return out
	}
	out.Topic = want.Topic
	if !may(c, acl.Describe, acl.Topic, *want.Topic) {
		out.ErrorCode = topicDenied
		return out
	}
	if t, ok := image.Topic(*want.Topic); ok {
		return b.metadataTopic(image, c, t, q.IncludeTopicAuthorizedOperations)
	}
	switch {
	case b.creates(q) && !mayMake(may, c, *want.Topic):
		out.ErrorCode = topicDenied
	case metadata.ValidTopicName(*want.Topic) != nil:
		out.ErrorCode = kerr.InvalidTopicException.Code
	default:
		out.ErrorCode = kerr.UnknownTopicOrPartition.Code
	}
	return out
}

func (b *Broker) metadataTopic(image *metadata.Image, c *acl.Client, t *metadata.Topic, authorized bool) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, t.Internal
	if authorized {
		out.AuthorizedOperations = operations(c, acl.Topic, t.Name)
	}
	led := b.table.byID(t.ID)
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, t.Partitions.Len())
	for p := range t.Partitions.All() {
		part := kmsg.NewMetadataResponseTopicPartition()
		part.Partition, part.Leader, part.LeaderEpoch = p.Index, p.Leader, int32(p.LeaderEpoch)
		part.Replicas, part.ISR = p.Replicas, p.ISR
		part.OfflineReplicas = offline(image, p.Replicas)
		part.ErrorCode = b.partitionCode(led, p)
		out.Partitions = append(out.Partitions, part)
	}
	return out
}

// partitionCode is what clients are told of a partition beside who leads it: that
// nobody does, or that this broker would, and cannot, for its log is corrupt. tp is
// its topic here; nil: unknown.
func (b *Broker) partitionCode(tp *topic, p *metadata.Partition) int16 {
	if p.Leader == metadata.NoLeader {
		return kerr.LeaderNotAvailable.Code
	}
	if tp == nil || p.Leader != b.opt.NodeID {
		return 0
	}
	if here := tp.partition(p.Index); here != nil {
		if err := here.role.Load().err; isLogDamage(err) {
			return code(err)
		}
	}
	return 0
}

// offline returns the replicas whose broker is not in service.
func offline(image *metadata.Image, replicas []int32) (out []int32) {
	for _, id := range replicas {
		if broker, ok := image.Broker(id); !ok || broker.Fenced {
			out = append(out, id)
		}
	}
	return out
}
