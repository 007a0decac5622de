package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/log"
)

// AuditTopic keeps the account of who did what, of all nodes, in one partition. Clients read
// it where ACLs let them, and never write to it; nothing but its retention shortens it.
const AuditTopic = metadata.AuditTopic

const auditPartition = 0

// AuditRetention is how long the account is kept; zero values: for ever.
type AuditRetention struct {
	Time  time.Duration
	Bytes int64
}

// configs are those of the topic.
func (a AuditRetention) configs() map[string]string {
	keep := func(n int64) string {
		if n <= 0 {
			n = -1
		}
		return strconv.FormatInt(n, 10)
	}
	return map[string]string{
		"cleanup.policy": "delete", "retention.ms": keep(a.Time.Milliseconds()), "retention.bytes": keep(a.Bytes),
	}
}

// auditSink writes the records of this node's account to the topic, wherever that is led. A
// group that it does not know to be there is sent again as the same batch of one producer,
// which the log takes once. It is for one goroutine.
type auditSink struct {
	by       auditWays
	keeps    AuditRetention
	producer batch.Producer // ID -1: it has none
	under    batch.Batch    // that is to be appended; nil: none
	checked  bool           // the topic has the configs that it is to have
}

// auditWays is how a process reaches what its account is written to.
type auditWays struct {
	ends       context.Context // with the process
	image      func() *metadata.Image
	controller auditTopics
	settle     func(context.Context) // waits until what was decided is known here
	producerID func(context.Context) (int64, error)
	append     func(context.Context, batch.Batch) (first storage.Offset, err error)
	now        func() time.Time
	log        *slog.Logger
}

// auditTopics is what the account asks of the controller.
type auditTopics interface {
	CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult
	AlterConfigs(ctx context.Context, changes []controller.ConfigChange, validateOnly bool) []error
}

// AuditSink returns where the account of this node is written to.
func (b *Broker) AuditSink(keeps AuditRetention) audit.Sink {
	return newAuditSink(keeps, auditWays{
		ends: b.ctx, image: b.images.image, controller: b.opt.Controller, settle: b.settle, producerID: b.takeProducerID, append: b.appendAudit, now: b.opt.Now, log: b.log,
	})
}

func newAuditSink(keeps AuditRetention, by auditWays) audit.Sink {
	return &auditSink{by: by, keeps: keeps, producer: batch.Producer{ID: batch.NoProducerID}}
}

// Append implements [audit.Sink].
func (s *auditSink) Append(ctx context.Context, records [][]byte) (first int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.by.ends, cancel)()
	if err := s.prepare(ctx, records); err != nil {
		return 0, err
	}
	offset, err := s.by.append(ctx, slices.Clone(s.under))
	switch {
	case err == nil:
		s.under = nil
		s.producer.BaseSequence = batch.NextSequence(s.producer.BaseSequence, int32(len(records)))
	case forgottenProducer(err):
		s.under, s.producer = nil, batch.Producer{ID: batch.NoProducerID} // nothing of it is there
	}
	return int64(offset), err
}

// prepare makes the topic, if it is not there, and the batch.
func (s *auditSink) prepare(ctx context.Context, records [][]byte) error {
	if err := s.makeTopic(ctx); err != nil {
		return err
	}
	if s.under != nil {
		return nil
	}
	if s.producer.ID == batch.NoProducerID {
		id, err := s.by.producerID(ctx)
		if err != nil {
			return fmt.Errorf("get a producer id: %w", err)
		}
		s.producer = batch.Producer{ID: id}
	}
	producer := s.producer
	w := batch.NewBuilder(batch.BuilderOptions{Producer: &producer})
	now := s.by.now().UnixMilli()
	for _, r := range records {
		w.Add(now, nil, r)
	}
	under, err := w.Build()
	if err != nil {
		return err
	}
	s.under = under
	return nil
}

// makeTopic makes the topic, or gives it the configs that this node is configured with.
func (s *auditSink) makeTopic(ctx context.Context) error {
	t, there := s.by.image().Topic(AuditTopic)
	want := s.keeps.configs()
	if there && (s.checked || maps.Equal(t.Configs, want)) {
		s.checked = true
		return nil
	}
	wait, cancel := controllerContext(ctx, 0)
	defer cancel()
	if !there {
		made := s.by.controller.CreateTopics(wait, []controller.NewTopic{{Name: AuditTopic, Partitions: 1, ReplicationFactor: -1, Internal: true, Configs: want}}, false)
		if err := made[0].Err; err != nil && metadata.CodeOf(err) != metadata.TopicAlreadyExists {
			return fmt.Errorf("make topic %s: %w", AuditTopic, err)
		}
		s.by.settle(wait)
		return nil
	}
	change := controller.ConfigChange{Type: metadata.TopicResource, Name: AuditTopic}
	for key, value := range want {
		change.Ops = append(change.Ops, controller.ConfigOp{Key: key, Op: controller.SetConfig, Value: value})
	}
	if err := s.by.controller.AlterConfigs(wait, []controller.ConfigChange{change}, false)[0]; err != nil {
		s.by.log.Warn("the audit topic keeps the retention that it has", "error", err)
	}
	s.checked = true
	return nil
}

// forgottenProducer reports whether a batch was refused for what its producer sent before:
// the topic was made anew, or has not heard of it for long.
func forgottenProducer(err error) bool {
	if errors.Is(err, log.ErrOutOfOrderSequence) || errors.Is(err, log.ErrInvalidProducerEpoch) {
		return true
	}
	refused, is := errors.AsType[*GroupError](err)
	return is && (refused.Code == kerr.OutOfOrderSequenceNumber || refused.Code == kerr.InvalidProducerEpoch)
}

// auditAppend is what one broker asks of the one that leads the audit topic.
type auditAppend struct {
	Batch []byte `json:"batch"`
}

// appendAudit appends a batch where the topic is led, and returns once it is committed.
func (b *Broker) appendAudit(ctx context.Context, records batch.Batch) (first storage.Offset, err error) {
	if at, elsewhere := ledElsewhere(b.images.image(), b.opt.NodeID, AuditTopic, auditPartition); elsewhere {
		return askOwn[storage.Offset](ctx, b, at, peerAuditAppend, auditAppend{records})
	}
	return b.appendAuditHere(ctx, records)
}

// appendAuditHere is appendAudit by the leader. It has room in the WAL when neither
// producers nor coordinators have.
func (b *Broker) appendAuditHere(ctx context.Context, records batch.Batch) (first storage.Offset, err error) {
	p, err := b.partitionOf(AuditTopic, auditPartition)
	if err != nil {
		return 0, err
	}
	l, r, err := p.leading()
	if err != nil {
		return 0, err
	}
	if err := b.store.AdmitAudit(ctx, len(records)); err != nil {
		return 0, err
	}
	done := make(auditAppended, 1)
	l.Append(b.opt.Now(), records, log.AppendOptions{Epoch: r.epoch, Internal: true}, done)
	select {
	case result := <-done:
		return result.Base, result.Err
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the audit log to be committed: %w", context.Cause(ctx))
	}
}

// auditAppended tells how an append ended; it has room for one.
type auditAppended chan log.AppendResult

// Appended implements log.Appended.
func (a auditAppended) Appended(result log.AppendResult) { a <- result }
