package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// filed is what the manifests of one image list. The image itself knows nothing of
// these objects: without them nothing may be called an orphan.
type filed struct {
	objects map[storage.ObjectID]filedObject // those that were asked for
	// damaged are the manifests that are not in the bucket, or not what was written.
	// What else they list is not known.
	damaged map[storage.ObjectID]damagedManifest
}

type filedObject struct {
	partition storage.PartitionID
	object.Filed
}

type damagedManifest struct {
	partition storage.PartitionID
	manifest  metadata.Manifest
	err       error
	missing   bool
}

// has reports whether a manifest lists the object, or may do so.
func (f *filed) has(id storage.ObjectID) bool {
	_, listed := f.objects[id]
	return listed || !f.whole()
}

// whole reports whether every manifest was read.
func (f *filed) whole() bool {
	return guard.Check("controller.manifests-whole", len(f.damaged) == 0)
}

// readFiled reads all manifests of an image, and keeps what wanted asks for. What is
// damaged is told; an error is another one of the bucket, or says that the image is
// too old to be read by: nothing is known then.
func (k *keeper) readFiled(ctx context.Context, image *metadata.Image, wanted func(storage.ObjectID) bool) (*filed, error) {
	f := &filed{objects: map[storage.ObjectID]filedObject{}, damaged: map[storage.ObjectID]damagedManifest{}}
	for of, is := range image.Manifests() {
		ranges, err := k.readManifest(ctx, of, is)
		missing := errors.Is(err, bucket.ErrNotFound)
		if err != nil && !missing && !isDamage(err) {
			return nil, err
		}
		if err != nil {
			if o, known := k.c.state.Image().Object(is.ID); !known || o.State != metadata.Committed {
				return nil, fmt.Errorf("the catalogue has moved on while its manifests were read: %w", err)
			}
			f.damaged[is.ID] = damagedManifest{of, *is, err, missing}
			continue
		}
		for _, r := range ranges {
			if wanted(r.Object) {
				f.objects[r.Object] = filedObject{of, r}
			}
		}
	}
	return f, nil
}

// readManifest reads a manifest and checks it. What is damaged is read once more: it
// may have been damaged on its way.
func (k *keeper) readManifest(ctx context.Context, of storage.PartitionID, is *metadata.Manifest) ([]object.Filed, error) {
	for again := false; ; again = true {
		b := make([]byte, is.Size())
		err := k.o.Bucket.ReadAt(ctx, k.key(is.ID), b, 0)
		if errors.Is(err, io.ErrUnexpectedEOF) && !bucket.IsTemporary(err) {
			err = &object.CorruptionError{Object: is.ID, Reason: "it is cut off: " + err.Error()}
		}
		var m *object.Manifest
		if err == nil {
			m, err = object.DecodeManifest(b, is.ID, of, is.ManifestRef)
		}
		if err == nil {
			return m.Ranges, nil
		}
		if again || !isDamage(err) {
			return nil, fmt.Errorf("read manifest %s of %s: %w", is.ID, of, err)
		}
	}
}

// dissolve condemns what a manifest lists that no partition names any more.
func (k *keeper) dissolve(ctx context.Context, d *metadata.Dying) error {
	ranges, err := k.readManifest(ctx, d.Partition, &d.Manifest)
	if err != nil {
		return fmt.Errorf("objects stay in the bucket, for what lists them cannot be read: %w", err)
	}
	command := &pb.DissolveManifest{ObjectId: uint64(d.ID)}
	for i := range ranges {
		command.Entries = object.AppendFiled(command.Entries, &ranges[i])
	}
	if _, err = k.c.propose(ctx, command); metadata.CodeOf(err) == metadata.ResourceNotFound {
		return nil // by another try, whose answer was lost
	}
	return err
}

// FileRanges names a manifest, which stands in the bucket, in the place of what it
// lists. It is refused whole if anything of that has changed. After a RequestTimedOut
// the image says what became of it.
func (c *Controller) FileRanges(ctx context.Context, brokerID int32, brokerEpoch int64, id storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error {
	if err := c.mayCommit(); err != nil {
		return err
	}
	_, err := c.propose(ctx, metadata.NewFileRanges(brokerID, brokerEpoch, id, ref, f))
	return err
}

// unknownTo returns those of ids that an image knows nothing of.
func unknownTo(image *metadata.Image, ids []storage.ObjectID) (unknown []storage.ObjectID) {
	for _, id := range ids {
		if _, known := image.Object(id); !known {
			unknown = append(unknown, id)
		}
	}
	slices.Sort(unknown)
	return unknown
}
