package door

import (
	"context"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// AdvanceLogStart is as of [controller.Controller].
func (d *Door) AdvanceLogStart(ctx context.Context, brokerID int32, brokerEpoch int64, starts []controller.LogStart) []error {
	return errorsOf(callEach(ctx, d, advanceLogStart, starts, func(part []controller.LogStart) advanceLogStartQ {
		return advanceLogStartQ{broker{brokerID, brokerEpoch}, part}
	}, faultAt))
}

// PrepareObjects is as of [controller.Controller]; ids of an answer that is lost are
// condemned in time.
func (d *Door) PrepareObjects(ctx context.Context, brokerID int32, brokerEpoch int64, count int) (first storage.ObjectID, err error) {
	r, err := call(ctx, d, prepareObjects, prepareObjectsQ{broker{brokerID, brokerEpoch}, count})
	if err != nil {
		return 0, err
	}
	return r.First, r.Err.err()
}

// CommitObject is as of [controller.Controller]: after a RequestTimedOut the image says
// what became of the object.
func (d *Door) CommitObject(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, ranges []metadata.PartitionRange) (results []error, err error) {
	return committedBy(call(ctx, d, commitObject, commitObjectQ{broker{brokerID, brokerEpoch}, id, size, ranges}))
}

// ReplaceRanges is as of [controller.Controller].
func (d *Door) ReplaceRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, size int64, replacements []metadata.Replacement) (results []error, err error) {
	return committedBy(call(ctx, d, replaceRanges, replaceRangesQ{broker{brokerID, brokerEpoch}, id, size, replacements}))
}

func committedBy(r committed, err error) ([]error, error) {
	if err == nil {
		err = r.Err.err()
	}
	if err != nil {
		return nil, err
	}
	return errorsOf(r.Results), nil
}

// FileRanges is as of [controller.Controller]. After a RequestTimedOut the image says
// what became of it.
func (d *Door) FileRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error {
	return errOf(call(ctx, d, fileRanges, fileRangesQ{broker{brokerID, brokerEpoch}, id, ref, *f}))
}

// RecordCleaning is as of [controller.Controller]. After a RequestTimedOut the image
// says what became of it.
func (d *Door) RecordCleaning(ctx context.Context, brokerID int32, brokerEpoch int64, p storage.PartitionID, epoch storage.Epoch, is metadata.Cleaning) error {
	return errOf(call(ctx, d, recordCleaning, recordCleaningQ{broker{brokerID, brokerEpoch}, p, epoch, is}))
}
