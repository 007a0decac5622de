package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc"
)

// frontTries is how many brokers are asked a question that changes nothing, one after the
// other, before whoever asks is told that none answers.
const frontTries = 3

// Front asks brokers what only they know, for people who call a process that is none. Which
// broker is asked does not matter for the answer: it asks others in its turn. The front keeps
// nothing, and is safe for concurrent use.
type Front struct {
	image func() *metadata.Image
	peers Peers
	turn  atomic.Uint32
}

// NewFront returns a front that finds brokers in the image of the moment.
func NewFront(image func() *metadata.Image, peers Peers) *Front {
	return &Front{image: image, peers: peers}
}

// AuditSink returns where the account of a process is written to that is no broker, by a
// controller, which makes the topic; log is told what does not keep it from that.
func (f *Front) AuditSink(keeps AuditRetention, topics auditTopics, log *slog.Logger) audit.Sink {
	return newAuditSink(keeps, auditWays{
		ends: context.Background(), image: f.image, controller: topics, settle: func(context.Context) {}, now: time.Now, log: log,
		producerID: func(ctx context.Context) (int64, error) {
			return ask1[int64](ctx, f, peerOperatorProducer, struct{}{}, true)
		},
		// A batch of a producer is taken once, however often it comes.
		append: func(ctx context.Context, records batch.Batch) (storage.Offset, error) {
			return ask1[storage.Offset](ctx, f, peerOperatorAppend, auditAppend{records}, true)
		},
	})
}

// answeredHeads is what peerOperatorHeads answers.
type answeredHeads struct {
	Heads   []audit.Head `json:"heads"`
	Unasked []int32      `json:"unasked"`
}

// operatorRequest is [Broker.ownPeerRequest] for what operators may ask through a process that
// is no broker. What another broker knows is asked of that from here.
func (b *Broker) operatorRequest(key int16) func(context.Context, []byte) ([]byte, error) {
	switch key {
	case peerHoldings:
		return own(func(_ context.Context, q []partitionNamed) ([]Holding, error) { return b.holdingsHere(q), nil })
	case peerPeek:
		return own(b.peekHere)
	case peerOperatorSend:
		return own(b.sendHere)
	case peerOperatorTrim:
		return own(b.trimHere)
	case peerOperatorGroups:
		return own(func(ctx context.Context, _ struct{}) ([]GroupSummary, error) { return b.ListGroups(ctx) })
	case peerOperatorGroup:
		return own(func(ctx context.Context, q groupAsked) (*GroupDescription, error) {
			return b.DescribeGroup(ctx, q.Group)
		})
	case peerOperatorDelete:
		return own(func(ctx context.Context, q groupAsked) (struct{}, error) {
			return struct{}{}, b.DeleteGroup(ctx, q.Group)
		})
	case peerOperatorReset:
		return own(func(ctx context.Context, q groupAsked) (*OffsetPlan, error) {
			if q.Reset == nil {
				return nil, &GroupError{kerr.InvalidRequest, "no reset is asked for"}
			}
			return b.ResetOffsets(ctx, q.Group, *q.Reset)
		})
	case peerOperatorOffsets:
		return own(func(ctx context.Context, q groupAsked) (struct{}, error) {
			return struct{}{}, b.DeleteOffsets(ctx, q.Group, q.Topic)
		})
	case peerDeleteOffsets:
		return own(func(ctx context.Context, q groupAsked) (struct{}, error) {
			return struct{}{}, b.deleteOffsets(ctx, q.Group, q.Topic)
		})
	case peerOperatorAudit:
		return own(func(ctx context.Context, q auditRead) (AuditPage, error) { return b.ReadAudit(ctx, q.From) })
	case peerOperatorProducer:
		return own(func(ctx context.Context, _ struct{}) (int64, error) { return b.takeProducerID(ctx) })
	case peerOperatorAppend:
		return own(func(ctx context.Context, q auditAppend) (storage.Offset, error) {
			return b.appendForeignAudit(ctx, q.Batch)
		})
	case peerTold:
		return own(b.tell)
	case peerOperatorHeads:
		return own(func(ctx context.Context, _ struct{}) (is answeredHeads, err error) {
			is.Heads, is.Unasked = b.AuditHeads(ctx)
			return is, nil
		})
	}
	return nil
}

// ListGroups is as of [Broker.ListGroups].
func (f *Front) ListGroups(ctx context.Context) ([]GroupSummary, error) {
	return ask1[[]GroupSummary](ctx, f, peerOperatorGroups, struct{}{}, true)
}

// DescribeGroup is as of [Broker.DescribeGroup].
func (f *Front) DescribeGroup(ctx context.Context, id string) (*GroupDescription, error) {
	return ask1[*GroupDescription](ctx, f, peerOperatorGroup, groupAsked{Group: id}, true)
}

// DeleteGroup is as of [Broker.DeleteGroup].
func (f *Front) DeleteGroup(ctx context.Context, id string) error {
	_, err := ask1[struct{}](ctx, f, peerOperatorDelete, groupAsked{Group: id}, false)
	return err
}

// ResetOffsets is as of [Broker.ResetOffsets].
func (f *Front) ResetOffsets(ctx context.Context, id string, r OffsetReset) (*OffsetPlan, error) {
	return ask1[*OffsetPlan](ctx, f, peerOperatorReset, groupAsked{Group: id, Reset: &r}, !r.Execute)
}

// DeleteOffsets is as of [Broker.DeleteOffsets].
func (f *Front) DeleteOffsets(ctx context.Context, id, topic string) error {
	_, err := ask1[struct{}](ctx, f, peerOperatorOffsets, groupAsked{Group: id, Topic: topic}, false)
	return err
}

// ReadAudit is as of [Broker.ReadAudit].
func (f *Front) ReadAudit(ctx context.Context, from int64) (AuditPage, error) {
	if _, there := f.image().Topic(AuditTopic); !there {
		return AuditPage{}, nil
	}
	return ask1[AuditPage](ctx, f, peerOperatorAudit, auditRead{from}, true)
}

// AuditHeads is as of [Broker.AuditHeads]; where no broker answers, all are unasked.
func (f *Front) AuditHeads(ctx context.Context) (heads []audit.Head, unasked []int32) {
	is, err := ask1[answeredHeads](ctx, f, peerOperatorHeads, struct{}{}, true)
	if err != nil {
		return nil, inService(f.image())
	}
	return is.Heads, is.Unasked
}

// Peek is as of [Broker.Peek].
func (f *Front) Peek(ctx context.Context, q PeekRequest) (*Peeked, error) {
	image := f.image()
	at, _ := ledElsewhere(image, metadata.NoBroker, q.Topic, q.Partition)
	return peekAt(image, q, at, func(at int32) (*Peeked, error) { return askFor[*Peeked](ctx, f, at, peerPeek, q) })
}

// Holdings is as of [Broker.Holdings].
func (f *Front) Holdings(ctx context.Context, wanted []PartitionNamed) []Holding {
	return holdings(f.image(), wanted, func(at int32, q []partitionNamed) ([]Holding, error) {
		ctx, cancel := context.WithTimeout(ctx, holdingsWait)
		defer cancel()
		return askFor[[]Holding](ctx, f, at, peerHoldings, q)
	})
}

// inService are the brokers that are, in order of their ids.
func inService(image *metadata.Image) (ids []int32) {
	for is := range image.Brokers() {
		if !is.Fenced {
			ids = append(ids, is.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// ask1 asks one broker after the other until one answers. What changes something is asked
// again only where the one before has certainly done nothing.
func ask1[P any](ctx context.Context, f *Front, key int16, q any, again bool) (answer P, err error) {
	ids := inService(f.image())
	if len(ids) == 0 {
		return answer, &GroupError{kerr.BrokerNotAvailable, "no broker is in service, and only brokers know that: `rustmq admin brokers list` shows those there are"}
	}
	turn := int(f.turn.Add(1) % uint32(len(ids)))
	for n := range min(frontTries, len(ids)) {
		answer, err = askFor[P](ctx, f, ids[(turn+n)%len(ids)], key, q)
		switch {
		case errors.Is(err, rpc.ErrPeerRefused):
		case errors.Is(err, rpc.ErrPeerUnreachable) && again:
		case errors.Is(err, rpc.ErrPeerUnreachable):
			return answer, &GroupError{kerr.BrokerNotAvailable, fmt.Sprintf("what was asked may be done all the same, look before you ask again: %v", err)}
		default:
			return answer, err
		}
	}
	return answer, &GroupError{kerr.BrokerNotAvailable, fmt.Sprintf("no broker that was asked has answered; the last: %v", err)}
}

// askFor asks a broker for an operator, once.
func askFor[P any](ctx context.Context, f *Front, at int32, key int16, q any) (answer P, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer, fmt.Errorf("encode request %d for broker %d: %w", key, at, err)
	}
	image := f.image()
	broker, ok := image.Broker(at)
	if !ok {
		return answer, fmt.Errorf("broker %d is not registered: %w", at, rpc.ErrPeerUnreachable)
	}
	address, ok := peerAddress(broker)
	if !ok {
		return answer, fmt.Errorf("broker %d has no address for other servers: %w", at, rpc.ErrPeerUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, frontDeadline)
	defer cancel()
	raw, err := f.peers.Call(ctx, address, &rpc.PeerCall{
		From: rpc.PeerBroker{ID: rpc.OperatorID}, To: rpc.PeerBroker{ID: at, Epoch: broker.Epoch}, MetadataOffset: image.Offset(), Key: key, Body: body,
	})
	if err != nil {
		return answer, err
	}
	return readOwn[P](raw, at, key)
}

// appendForeignAudit is appendAudit for a process that is no broker: nothing of it was checked.
func (b *Broker) appendForeignAudit(ctx context.Context, records batch.Batch) (first storage.Offset, err error) {
	if err := batch.Validate(records, &batch.Limits{MaxBytes: rpc.MaxPeerBody}); !guard.Check("broker.foreign-audit", err == nil) {
		return 0, err
	}
	if records.IsTransactional() {
		return 0, &GroupError{kerr.InvalidRecord, "records of the audit log are of no transaction"}
	}
	return b.appendAudit(ctx, records)
}
