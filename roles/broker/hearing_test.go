package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
)

// hearing is the controller as one broker has it: it can be out of reach.
type hearing struct {
	*testController
	mu     sync.Mutex
	deaf   bool
	ends   error // what is said of logs' ends fails with
	last   *metadata.Image
	listen func(*metadata.Image)
	mute   atomic.Bool // answers to commits are lost
	fences atomic.Int32
}

var errUnreached = errors.New("the controller is out of reach")

func (h *hearing) isDeaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deaf
}

func (h *hearing) Image() *metadata.Image {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deaf {
		return h.last
	}
	return h.testController.Image()
}

func (h *hearing) Subscribe(f func(*metadata.Image)) func() {
	h.listen = f
	return h.testController.Subscribe(func(image *metadata.Image) {
		if !h.isDeaf() {
			f(image)
		}
	})
}

func (h *hearing) Heartbeat(ctx context.Context, id int32, epoch int64) error {
	if h.isDeaf() {
		return errUnreached
	}
	return h.testController.Heartbeat(ctx, id, epoch)
}

func (h *hearing) FenceBroker(ctx context.Context, id int32, epoch int64) error {
	h.fences.Add(1)
	if h.isDeaf() {
		return errUnreached
	}
	return h.testController.FenceBroker(ctx, id, epoch)
}

func (h *hearing) AlterPartitions(ctx context.Context, id int32, epoch int64, changes []metadata.PartitionChange) []error {
	if h.isDeaf() {
		return slices.Repeat([]error{errUnreached}, len(changes))
	}
	return h.testController.AlterPartitions(ctx, id, epoch, changes)
}

func (h *hearing) PrepareObjects(ctx context.Context, id int32, epoch int64, count int) (storage.ObjectID, error) {
	if h.isDeaf() {
		return 0, errUnreached
	}
	return h.testController.PrepareObjects(ctx, id, epoch, count)
}

func (h *hearing) CommitObject(ctx context.Context, id int32, epoch int64, object storage.ObjectID, size int64, ranges []metadata.PartitionRange) ([]error, error) {
	if h.isDeaf() {
		return nil, errUnreached
	}
	results, err := h.testController.CommitObject(ctx, id, epoch, object, size, ranges)
	if h.mute.Load() {
		return nil, errUnreached
	}
	return results, err
}

func (h *hearing) ReportEnds(ctx context.Context, id int32, epoch int64, ends []metadata.PartitionEnd) error {
	h.mu.Lock()
	err := h.ends
	h.mu.Unlock()
	if err != nil {
		return err
	}
	return h.testController.ReportEnds(ctx, id, epoch, ends)
}

// reach puts the controller out of a broker's reach, or back into it.
func (h *hearing) reach(can bool) {
	image := h.testController.Image()
	h.mu.Lock()
	h.deaf, h.last = !can, image
	h.mu.Unlock()
	if can {
		h.listen(image)
	}
}
