package recovery

import (
	"context"
	"errors"
	"fmt"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// findUploads reads the objects of ids that were issued and not committed. One that is not
// there, or not whole, is none: nobody was told that it is.
func findUploads(ctx context.Context, b bucket.Bucket, prefix string, image *metadata.Image) (found []metadata.FoundObject, damaged []string, err error) {
	for o := range image.ObjectsIn(metadata.Prepared) {
		key := object.Key(prefix, image.ClusterID(), controller.FirstIncarnation, o.ID)
		info, err := b.Stat(ctx, key)
		if errors.Is(err, bucket.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look for uploads that were not committed: %w", err)
		}
		f, err := readUpload(ctx, b, key, image.ClusterID(), o.ID, info.Size)
		corrupt, unknown := (*object.CorruptionError)(nil), (*object.UnknownFormatError)(nil)
		switch {
		case err == nil:
			found = append(found, f)
		case errors.As(err, &corrupt), errors.As(err, &unknown):
			damaged = append(damaged, fmt.Sprintf("%s: %v", key, err))
		default:
			return nil, nil, fmt.Errorf("read an upload that was not committed: %w", err)
		}
	}
	return found, damaged, nil
}

// readUpload reads an object whole, and what it holds.
func readUpload(ctx context.Context, b bucket.Bucket, key, cluster string, id storage.ObjectID, size int64) (f metadata.FoundObject, err error) {
	readAt := func(p []byte, off int64) error { return b.ReadAt(ctx, key, p, off) }
	h, err := object.Verify(size, readAt, func(error) {})
	if err != nil {
		return f, err
	}
	if !guard.Check("recovery.upload-identity", h.ID == id && h.Cluster == cluster) {
		return f, &object.CorruptionError{Object: id, Reason: fmt.Sprintf("object %s of cluster %s stands there", h.ID, h.Cluster)}
	}
	d, err := object.ReadDirectory(size, readAt)
	if err != nil {
		return f, err
	}
	f = metadata.FoundObject{ID: id, Size: size, Mixed: len(d.Entries) > 1}
	for _, e := range d.Entries {
		raw := make([]byte, e.Index.Length)
		if err := readAt(raw, e.Index.Position); err != nil {
			return f, err
		}
		x, err := object.DecodeIndex(raw, id, e)
		if err != nil {
			return f, err
		}
		r := metadata.FoundRange{Partition: e.Partition, Range: metadata.Range{
			Base: x.Base, End: x.End, Bytes: x.Bytes, MaxTimestamp: x.MaxTimestamp,
			IndexPosition: e.Index.Position, IndexLength: e.Index.Length, IndexCRC: e.Index.CRC,
			HasAborts: len(x.Aborted) > 0, OpenTransactions: x.LastStable < x.End,
		}}
		if n := len(x.Epochs); n > 0 {
			r.First, r.Range.Epoch = x.Epochs[0].Epoch, x.Epochs[n-1].Epoch
		}
		f.Ranges = append(f.Ranges, r)
	}
	return f, nil
}
