package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/rpc"
)

// Versions of Kafka's requests as brokers send them to each other.
const (
	peerMarkers       = 2
	peerAddPartitions = 5
)

// Requests of the brokers' own, with bodies in JSON; Kafka has no such keys.
const (
	peerListGroups int16 = 20_000 + iota
	peerDescribeGroup
	peerDeleteGroup
	peerResetOffsets
	peerGroupPartitions
	peerOffsetMoves
	peerLifeBegan
	peerAuditAppend
	peerAuditRead
	peerAuditHead
	peerAppendSent // its body is no JSON: deliver.go
	peerHoldings   // from here on operators may ask too: front.go
	peerPeek
	peerOperatorGroups
	peerOperatorGroup
	peerOperatorDelete
	peerOperatorReset
	peerOperatorAudit
	peerOperatorHeads
	peerOperatorProducer
	peerOperatorAppend
	peerTold
	peerOperatorSend
	peerOperatorTrim
	peerOperatorOffsets
	peerDeleteOffsets
	peerEnd // of these requests

	firstOperatorRequest = peerHoldings
)

const (
	// peerDeadline is after how long a broker that says nothing is given up.
	peerDeadline = 10 * time.Second
	// frontDeadline is that of who asks a broker which may ask others before it answers.
	frontDeadline = peerDeadline + 5*time.Second
	// maxPeerMemory is what requests of other brokers may take, decoded, all together.
	maxPeerMemory = 64 << 20
	// ownMemory is what a byte of the brokers' own requests takes, decoded, at most.
	ownMemory = 24
)

// errAlone says that there is no way to other brokers.
var errAlone = fmt.Errorf("this broker asks no other: %w", rpc.ErrPeerUnreachable)

// ledElsewhere returns the broker that leads a partition, if another than self does.
func ledElsewhere(image *metadata.Image, self int32, topic string, index int32) (at int32, elsewhere bool) {
	t, ok := image.Topic(topic)
	if !ok {
		return 0, false
	}
	p := t.Partition(index)
	if p == nil || p.Leader == metadata.NoLeader || p.Leader == self {
		return 0, false
	}
	return p.Leader, true
}

// coordinatedElsewhere returns the broker that coordinates what belongs to a partition,
// if another than this does.
func (b *Broker) coordinatedElsewhere(topic string, partition int32) (at int32, elsewhere bool) {
	return ledElsewhere(b.images.image(), b.opt.NodeID, topic, partition)
}

// callPeer asks another broker, once.
func (b *Broker) callPeer(ctx context.Context, at int32, c *rpc.PeerCall) ([]byte, error) {
	address, err := b.addressPeer(at, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, peerDeadline)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	return b.opt.Peers.Call(ctx, address, c)
}

// addressPeer says in a call who asks which broker, under which metadata, and returns
// where that is reached.
func (b *Broker) addressPeer(at int32, c *rpc.PeerCall) (address string, err error) {
	if b.opt.Peers == nil {
		return "", errAlone
	}
	image := b.images.image()
	broker, ok := image.Broker(at)
	if !ok {
		return "", fmt.Errorf("broker %d is not registered: %w", at, rpc.ErrPeerUnreachable)
	}
	if address, ok = peerAddress(broker); !ok {
		return "", fmt.Errorf("broker %d has no address for other brokers: %w", at, rpc.ErrPeerUnreachable)
	}
	epoch := b.registration.epoch.Load()
	c.From, c.To = rpc.PeerBroker{ID: b.opt.NodeID, Epoch: epoch}, rpc.PeerBroker{ID: at, Epoch: broker.Epoch}
	c.MetadataOffset = max(image.Offset(), uint64(epoch)) // it is to know the caller
	return address, nil
}

// askPeer has another broker serve a request, once, and waits for its answer.
func askPeer[P kmsg.Response](ctx context.Context, b *Broker, at int32, q kmsg.Request) (P, error) {
	p := q.ResponseKind().(P)
	p.SetVersion(q.GetVersion())
	body, err := b.callPeer(ctx, at, &rpc.PeerCall{
		Key: q.Key(), Version: q.GetVersion(), Body: q.AppendTo(nil), Ordered: q.Key() == kmsg.WriteTxnMarkers.Int16(),
	})
	if err != nil {
		return p, err
	}
	if err := p.ReadFrom(body); err != nil {
		return p, fmt.Errorf("read the answer of broker %d to %s: %w: %w", at, kmsg.NameForKey(q.Key()), rpc.ErrPeerUnreachable, err)
	}
	return p, nil
}

// AdmitPeer implements [rpc.PeerHandler].
func (b *Broker) AdmitPeer(ctx context.Context, c *rpc.PeerCall) error {
	own := b.registration.epoch.Load()
	if c.To.ID != b.opt.NodeID || !guard.Check("broker.peer-target", c.To.Epoch == 0 || c.To.Epoch == own) || b.registration.lost.Load() {
		return fmt.Errorf("this is broker %d, registered at %d; broker %d, registered at %d, was asked: %w", b.opt.NodeID, own, c.To.ID, c.To.Epoch, rpc.ErrPeerRefused)
	}
	if err := b.images.wait(ctx, c.MetadataOffset); err != nil {
		return fmt.Errorf("wait for the metadata up to %d: %w", c.MetadataOffset, err)
	}
	if c.From.ID == rpc.OperatorID {
		if !guard.Check("broker.operator-asks", c.Key >= firstOperatorRequest && c.Key < peerEnd) {
			return fmt.Errorf("request %d is none of an operator: %w", c.Key, rpc.ErrPeerRefused)
		}
		return nil
	}
	from, ok := b.images.image().Broker(c.From.ID)
	if !guard.Check("broker.peer-epoch", ok && from.Epoch == c.From.Epoch) {
		return fmt.Errorf("broker %d is not registered at %d, or not any more: %w", c.From.ID, c.From.Epoch, rpc.ErrPeerRefused)
	}
	return nil
}

// ServePeer implements [rpc.PeerHandler].
func (b *Broker) ServePeer(ctx context.Context, c *rpc.PeerCall) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	serve := b.ownPeerRequest(c.Key)
	memory := int64(len(c.Body)) * ownMemory
	if c.Key == peerAppendSent {
		serve, memory = b.serveSent, int64(len(c.Body))*deliveryMemory
	}
	var q kmsg.Request
	var err error
	if serve == nil {
		if q, memory, err = peerRequest(c); err != nil {
			return nil, err
		}
	}
	defer b.peerMemory.Add(-memory)
	if all := b.peerMemory.Add(memory); !guard.Check("broker.peer-memory", all <= maxPeerMemory) {
		return nil, fmt.Errorf("requests of other brokers take %d bytes, at most %d: %w", all, maxPeerMemory, rpc.ErrPeerRefused)
	}
	if serve != nil {
		return serve(ctx, c.Body)
	}
	if err := q.ReadFrom(c.Body); err != nil {
		return nil, fmt.Errorf("decode %s v%d: %w: %w", kmsg.NameForKey(c.Key), c.Version, rpc.ErrPeerRefused, err)
	}
	var p kmsg.Response
	switch q := q.(type) {
	case *kmsg.WriteTxnMarkersRequest:
		p = b.markersFor(ctx, q)
	case *kmsg.AddPartitionsToTxnRequest:
		p, err = await(ctx, func(answer func(*kmsg.AddPartitionsToTxnResponse)) { b.transactions.AddPartitionsToTxn(ctx, q, answer) })
	}
	if err != nil {
		return nil, err
	}
	p.SetVersion(c.Version)
	return p.AppendTo(nil), nil
}

// peerRequest returns what a body is to be decoded into, of what only brokers ask of each
// other, in the version that they do, and what that will take.
func peerRequest(c *rpc.PeerCall) (q kmsg.Request, memory int64, err error) {
	switch {
	case c.Key == kmsg.WriteTxnMarkers.Int16() && c.Version == peerMarkers:
		q = kmsg.NewPtrWriteTxnMarkersRequest()
	case c.Key == kmsg.AddPartitionsToTxn.Int16() && c.Version == peerAddPartitions:
		q = kmsg.NewPtrAddPartitionsToTxnRequest()
	default:
		return nil, 0, fmt.Errorf("%s v%d is not served to brokers: %w", kmsg.NameForKey(c.Key), c.Version, rpc.ErrPeerRefused)
	}
	if memory, err = wire.Check(c.Key, c.Version, c.Body); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", rpc.ErrPeerRefused, err)
	}
	q.SetVersion(c.Version)
	return q, memory, nil
}

// peerAnswer is how the brokers' own requests are answered, in JSON.
type peerAnswer[P any] struct {
	Answer P      `json:"answer"`
	Code   int16  `json:"code,omitempty"` // of Kafka's errors: of a [GroupError]
	Detail string `json:"detail,omitempty"`
}

// askOwn has another broker serve one of the brokers' own requests, once.
func askOwn[P any](ctx context.Context, b *Broker, at int32, key int16, q any) (answer P, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer, fmt.Errorf("encode request %d for broker %d: %w", key, at, err)
	}
	if body, err = b.callPeer(ctx, at, &rpc.PeerCall{Key: key, Body: body}); err != nil {
		return answer, err
	}
	return readOwn[P](body, at, key)
}

// readOwn reads the answer of a broker to one of these.
func readOwn[P any](body []byte, at int32, key int16) (answer P, err error) {
	var p peerAnswer[P]
	if err := json.Unmarshal(body, &p); err != nil {
		return answer, fmt.Errorf("read the answer of broker %d to request %d: %w: %w", at, key, rpc.ErrPeerUnreachable, err)
	}
	if p.Code != 0 {
		return p.Answer, groupRefused(p.Code, p.Detail)
	}
	return p.Answer, nil
}

// own serves one of the brokers' own requests.
func own[Q, P any](serve func(context.Context, Q) (P, error)) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, body []byte) ([]byte, error) {
		var q Q
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, fmt.Errorf("decode the request: %w: %w", rpc.ErrPeerRefused, err)
		}
		var p peerAnswer[P]
		var err error
		if p.Answer, err = serve(ctx, q); err != nil {
			refused, ok := errors.AsType[*GroupError](err)
			if !ok {
				refused = &GroupError{kafkaError(err), err.Error()}
			}
			p.Code, p.Detail = refused.Code.Code, refused.Detail
			if p.Code == 0 {
				p.Code = kerr.UnknownServerError.Code
			}
		}
		return json.Marshal(p)
	}
}
