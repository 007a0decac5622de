package broker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// What modules send to other topics goes to the partitions' leaders, here or on other
// brokers, in batches of no producer, and is there when it is committed (acks=all). It is
// not transformed again, whatever pipelines those topics have: so nothing goes round.

const (
	// deliveryBytes is how large the batches of what is sent elsewhere are made, unless
	// one record is larger; and the topic may take less.
	deliveryBytes = 1 << 20
	// deliveryHead is what stands before the batch in what one broker asks of another:
	// topic id (16), partition (4, big-endian).
	deliveryHead = 20
	// deliveryMemory is what a byte of such a request takes where it is served.
	deliveryMemory = 3
)

// Why a topic takes no records of modules, whoever tries when.
var (
	errTargetUnknown  = errors.New("there is no such topic: make it, or have the module name another")
	errTargetInternal = errors.New("it is the broker's own: have the module name another")
	errTargetLarge    = fmt.Errorf("a record is too large to be sent to another broker, which takes %d bytes: keep it in its topic", rpc.MaxPeerBody-deliveryHead)
)

// isPermanent reports whether what a pipeline sends will not be taken when it comes again:
// somebody has to change something first.
func isPermanent(err error) bool {
	if refused, is := errors.AsType[*batch.Error](err); is {
		return refused.Code != batch.CorruptMessage
	}
	return errors.Is(err, errTargetUnknown) || errors.Is(err, errTargetInternal) || errors.Is(err, errTargetLarge)
}

// takesRecords says why a topic takes no records of modules: nobody's, or, by away, not
// those of a batch that has tried.
func (b *Broker) takesRecords(topic string, away map[string]error) error {
	if err := away[topic]; err != nil {
		return err
	}
	t, there := b.images.image().Topic(topic)
	switch {
	case !there:
		return errTargetUnknown
	case !guard.Check("broker.route-internal", !t.Internal):
		return errTargetInternal
	}
	return nil
}

// parcel is what goes to one partition, in order.
type parcel struct {
	topic   string
	id      storage.TopicID
	index   int32
	builder *batch.Builder
	batches []batch.Batch
	of      []*transforming // whose records it has
	err     error
}

// deliver sends what batches of a partition send elsewhere, and returns when it is
// committed there. What is not marks the batches that it is of.
func (b *Broker) deliver(from *partition, sent []*transforming) {
	ctx, cancel := context.WithTimeout(b.ctx, deliveryPatience)
	defer cancel()
	parcels := b.pack(from, sent)
	var all sync.WaitGroup
	for _, p := range parcels {
		if p.err == nil {
			all.Go(func() { p.err = b.carry(ctx, p) })
		}
	}
	all.Wait()
	for _, p := range parcels {
		if !guard.Check("broker.route-committed", p.err == nil) {
			if b.transforms.says(b.opt.Now()) {
				b.log.Warn("a topic does not take what inline modules send there", "topic", p.topic, "partition", p.index, "from", from.topic.name, "error", p.err)
			}
			for _, it := range p.of {
				it.lose(p.topic, p.err)
			}
		}
	}
}

// lose notes that a topic did not take what the batch sends there.
func (it *transforming) lose(topic string, err error) {
	if it.away == nil {
		it.away = map[string]error{}
	}
	it.away[topic], it.undone = err, true
}

// pack sorts records by the partitions that they go to, in order.
func (b *Broker) pack(from *partition, sent []*transforming) (parcels []*parcel) {
	type place struct {
		topic string
		index int32
	}
	image, at := b.images.image(), map[place]*parcel{}
	for _, it := range sent {
		if !it.sends() {
			continue
		}
		for i := range it.out.Sent {
			s := &it.out.Sent[i]
			t, there := image.Topic(s.Topic)
			if !there {
				it.lose(s.Topic, errTargetUnknown)
				continue
			}
			to := place{s.Topic, pipeline.PartitionOf(s.Key, from.index, int32(t.Partitions.Len()))}
			p := at[to]
			if p == nil {
				p = &parcel{topic: to.topic, id: t.ID, index: to.index, builder: batch.NewBuilder(batch.BuilderOptions{})}
				at[to] = p
				parcels = append(parcels, p)
			}
			if len(p.of) == 0 || p.of[len(p.of)-1] != it {
				p.of = append(p.of, it)
			}
			p.add(s, b.largestOf(t))
		}
	}
	for _, p := range parcels {
		p.close()
	}
	return parcels
}

// largestOf is the largest batch that is made for a topic.
func (b *Broker) largestOf(t *metadata.Topic) int {
	for _, key := range b.topicKeys {
		if key.Name == "max.message.bytes" {
			return min(int(number(valueOf(t, key))), deliveryBytes)
		}
	}
	return deliveryBytes
}

// add puts one more record in.
func (p *parcel) add(s *pipeline.Sent, largest int) {
	headers := make([]batch.Header, len(s.Headers))
	size := len(s.Key) + len(s.Value) + 6*binary.MaxVarintLen64
	for i, h := range s.Headers {
		headers[i] = batch.Header{Key: []byte(h.Name), Value: h.Value}
		size += len(h.Name) + len(h.Value) + 2*binary.MaxVarintLen32
	}
	if p.builder.Len() > 0 && p.builder.Size()+size > largest {
		p.close()
	}
	p.builder.Add(s.Timestamp, s.Key, s.Value, headers...)
}

// close ends the batch that is being built.
func (p *parcel) close() {
	if p.builder.Len() == 0 {
		return
	}
	built, err := p.builder.Build()
	if err != nil {
		p.err = err
		return
	}
	p.batches = append(p.batches, built)
	p.builder.Reset(batch.BuilderOptions{})
}

// carry has the leader of the partition append the batches.
func (b *Broker) carry(ctx context.Context, p *parcel) error {
	at, elsewhere := ledElsewhere(b.images.image(), b.opt.NodeID, p.topic, p.index)
	if !elsewhere {
		return b.appendSent(ctx, p.id, p.index, p.batches)
	}
	for _, one := range p.batches {
		if len(one) > rpc.MaxPeerBody-deliveryHead {
			return errTargetLarge
		}
		body := make([]byte, deliveryHead, deliveryHead+len(one))
		copy(body, p.id[:])
		binary.BigEndian.PutUint32(body[16:], uint32(p.index))
		answer, err := b.callPeer(ctx, at, &rpc.PeerCall{Key: peerAppendSent, Body: append(body, one...)})
		if err != nil {
			return err
		}
		var is peerAnswer[struct{}]
		if err := json.Unmarshal(answer, &is); err != nil {
			return fmt.Errorf("read the answer of broker %d: %w: %w", at, rpc.ErrPeerUnreachable, err)
		}
		if is.Code != 0 {
			return sentRefused(is.Code, is.Detail)
		}
	}
	return nil
}

// sentRefused is what another broker said of records that it did not take: as the errors
// of this one.
func sentRefused(code int16, detail string) error {
	known := kerr.TypedErrorForCode(code)
	for of, is := range batchCodes {
		if is == known {
			return &batch.Error{Code: of, Reason: detail}
		}
	}
	if known == nil {
		known = kerr.UnknownServerError
	}
	return explained{known, detail}
}

// serveSent is how the leader of a partition takes what another broker sends there.
func (b *Broker) serveSent(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) < deliveryHead {
		return nil, fmt.Errorf("%d bytes are no records to append: %w", len(body), rpc.ErrPeerRefused)
	}
	id := storage.TopicID(body[:16])
	index := int32(binary.BigEndian.Uint32(body[16:]))
	var is peerAnswer[struct{}]
	if err := b.appendSent(ctx, id, index, []batch.Batch{batch.Batch(body[deliveryHead:])}); err != nil {
		is.Code, is.Detail = code(err), err.Error()
	}
	return json.Marshal(is)
}

// appendSent appends batches to a partition that is led here, and returns once they are
// committed.
func (b *Broker) appendSent(ctx context.Context, id storage.TopicID, index int32, batches []batch.Batch) error {
	t := b.table.byID(id)
	if t == nil {
		return errNotLeader // it is gone, or not there yet
	}
	if !guard.Check("broker.sent-internal", !t.internal) {
		return errInternalTopic
	}
	p := t.partition(index)
	if p == nil {
		return errNotLeader
	}
	l, r, err := p.leading()
	now := b.opt.Now()
	switch {
	case err != nil:
		return err
	case p.heldUp(r):
		return errFollowerFull
	case r.awaitsBucket && (b.bucketAway(l, now) || !b.leased(p, r)):
		return errBucketAway
	}
	o := log.AppendOptions{Epoch: r.epoch, Deadline: b.appendDeadline(p, now, int32(deliveryPatience.Milliseconds()))}
	done := make(sentAppended, len(batches))
	begun := 0
	for _, one := range batches {
		records, transcoded, failed := l.Transcode(ctx, one, nil)
		if err = failed; err != nil {
			break
		}
		if err = b.store.Admit(ctx, len(records)); err != nil {
			transcoded.Release()
			break
		}
		l.Append(now, records, o, done)
		transcoded.Release()
		begun++
		p.passed.Add(int64(len(one)))
	}
	for range begun { // each is told, at the latest when the broker ends
		if r := <-done; err == nil {
			err = r.Err
		}
	}
	return err
}

// sentAppended tells how appends ended; it has room for all.
type sentAppended chan log.AppendResult

// Appended implements log.Appended.
func (a sentAppended) Appended(result log.AppendResult) { a <- result }
