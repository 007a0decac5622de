package recovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

const (
	askPause    = time.Second // between two looks for an answer
	maxLifeText = 256         // of a question or an answer
)

// LivesError says that the cluster that is to be brought back lives.
type LivesError struct{ By string }

// Error says who answered, and what to do.
func (e *LivesError) Error() string {
	return fmt.Sprintf("this cluster lives: %s leads its controllers, and has answered through the bucket. Nothing was changed. If controllers are there, start the others with the disks that they have, or replace them (docs/cluster.md); a recovery would shut out all of it. If that is what you want, stop all nodes, or give --force", e.By)
}

// Ask asks through the bucket whether a controller of the life that the plan is of lives, and
// waits for an answer as long as one takes that reaches the bucket: longer by what requests take
// here, for where they are slow it has as many to make. A *LivesError: it does,
// and what was asked is gone again. Other errors are the bucket's.
func (p *Plan) Ask(ctx context.Context) error {
	var question [16]byte
	rand.Read(question[:]) // never fails: it would end the process
	prefix := controller.LogPrefix(p.options.Prefix, p.Cluster, p.Incarnation)
	began := time.Now()
	if err := p.question(ctx, question); err != nil {
		return err
	}
	asked := time.Now()
	slowest := asked.Sub(began)
	ticker := time.NewTicker(askPause)
	defer ticker.Stop()
	for {
		looked := time.Now()
		waited := looked.Sub(asked)
		over := waited >= controller.LifePatience && guard.Check("recovery.slow-bucket", waited >= controller.LifePatience+controller.LifeRequests*slowest)
		raw, err := bucket.ReadAll(ctx, p.options.Bucket, controller.AnswerKey(prefix), maxLifeText)
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return fmt.Errorf("look whether a controller answers: %w", err)
		}
		if err == nil {
			to, by, err := controller.ParseLife(raw)
			if !guard.Check("recovery.living-cluster", err != nil || to != question) {
				return errors.Join(&LivesError{By: by}, p.takeBack(ctx, prefix))
			}
		}
		if took := time.Since(looked); took > slowest { // it may take an answer as much longer
			slowest, over = took, false
		}
		if over {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// question puts a question, or another one in place of one that was asked before.
func (p *Plan) question(ctx context.Context, is [16]byte) error {
	key := controller.QuestionKey(controller.LogPrefix(p.options.Prefix, p.Cluster, p.Incarnation))
	if err := p.options.Bucket.Put(ctx, key, bucket.Bytes(controller.LifeText(is, "recovery"))); err != nil {
		return fmt.Errorf("ask whether a controller lives: %w", err)
	}
	return nil
}

// takeBack removes a question and its answer.
func (p *Plan) takeBack(ctx context.Context, prefix string) error {
	var errs []error
	for _, key := range []string{controller.QuestionKey(prefix), controller.AnswerKey(prefix)} {
		if err := p.options.Bucket.Delete(ctx, key); err != nil && !errors.Is(err, bucket.ErrNotFound) {
			errs = append(errs, fmt.Errorf("take the question back: %w", err))
		}
	}
	return errors.Join(errs...)
}
