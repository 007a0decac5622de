package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// manifestReaders manifests are read at once; none has more than a few hundred KB.
const manifestReaders = 8

// damages are the manifests that are not in the bucket, or not what was written. What
// else they list is not known.
type damages map[storage.ObjectID]damagedManifest

type damagedManifest struct {
	partition storage.PartitionID
	manifest  metadata.Manifest
	err       error
	missing   bool
	dead      bool // see bury
}

// whole reports whether every manifest was read that lists anything a partition names.
func (d damages) whole() bool {
	living := false
	for _, is := range d {
		living = living || !is.dead
	}
	return guard.Check("controller.manifests-whole", !living)
}

// bury marks those that no partition of the image names any more, once the bucket's
// metadata log says so, too. What they list is lost, and dead in any case: objects of
// that partition alone, which were to be condemned. It waits for the bucket, for
// issueWait at most; what is not marked then may be the next time.
func (k *keeper) bury(ctx context.Context, image *metadata.Image, d damages) {
	var dead []storage.ObjectID
	for m := range image.Dying() {
		if is, damaged := d[m.ID]; damaged && !is.dead {
			dead = append(dead, m.ID)
		}
	}
	if len(dead) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, issueWait)
	defer cancel()
	if err := k.shipper.Await(ctx, image.Offset()); !guard.Check("controller.buried-shipped", err == nil) {
		return
	}
	for _, id := range dead {
		is := d[id]
		is.dead = true
		d[id] = is
	}
}

// filedIDs tells of some ids which of them manifests list, in a bit beside each id:
// the image itself knows nothing of these objects, and they may be millions.
type filedIDs struct {
	ids     []storage.ObjectID // in order
	bits    []uint64
	damaged damages
}

func newFiledIDs(ids []storage.ObjectID) *filedIDs {
	return &filedIDs{ids: ids, bits: make([]uint64, (len(ids)+63)/64)}
}

// strike takes note of what a manifest lists.
func (f *filedIDs) strike(ranges []object.Filed) {
	for i := range ranges {
		if at, asked := slices.BinarySearch(f.ids, ranges[i].Object); asked {
			f.bits[at/64] |= 1 << (at % 64)
		}
	}
}

// has reports whether a manifest lists the object, or may do so.
func (f *filedIDs) has(id storage.ObjectID) bool {
	at, asked := slices.BinarySearch(f.ids, id)
	if !guard.Check("controller.filed-asked", asked) {
		return true
	}
	return f.bits[at/64]&(1<<(at%64)) != 0 || !f.damaged.whole()
}

// source is a manifest of an image.
type source struct {
	partition storage.PartitionID
	manifest  *metadata.Manifest
}

// readFiled reads all manifests of an image, for all that they list of some ids, which
// it sorts.
func (k *keeper) readFiled(ctx context.Context, image *metadata.Image, ids []storage.ObjectID) (*filedIDs, error) {
	slices.Sort(ids)
	f := newFiledIDs(ids)
	if len(ids) == 0 {
		return f, nil
	}
	var all []source
	for of, is := range image.Manifests() {
		all = append(all, source{of, is})
	}
	f.damaged = damages{}
	_, err := k.readManifests(ctx, all, func() bool { return false }, func(_ source, ranges []object.Filed) { f.strike(ranges) }, f.damaged)
	k.bury(ctx, image, f.damaged)
	return f, err
}

// readManifests reads some manifests at once, and calls list with each, one after the
// other, until enough says so; one is read in any case. What is damaged is put into
// damaged; an error is another one of the bucket, or says that the image is too old to
// be read by. It reports whether all were read.
func (k *keeper) readManifests(ctx context.Context, todo []source, enough func() bool, list func(source, []object.Filed), damaged damages) (all bool, err error) {
	var (
		mu      sync.Mutex // guards next, err, damaged, and what list does
		next    int
		readers sync.WaitGroup
	)
	take := func() (source, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(todo) || err != nil || next > 0 && enough() {
			return source{}, false
		}
		next++
		return todo[next-1], true
	}
	for range min(manifestReaders, len(todo)) {
		readers.Go(func() {
			for s, more := take(); more; s, more = take() {
				ranges, failed := k.readManifest(ctx, s.partition, s.manifest)
				mu.Lock()
				if failed == nil {
					list(s, ranges)
				} else if d, is := k.damageOf(s, failed); is == nil {
					damaged[s.manifest.ID] = d
				} else if err == nil {
					err = is
				}
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return err == nil && next == len(todo), err
}

// damageOf tells a manifest that is damaged from a bucket that does not answer, and
// from an image that is too old.
func (k *keeper) damageOf(s source, err error) (damagedManifest, error) {
	missing := errors.Is(err, bucket.ErrNotFound)
	if !missing && !isDamage(err) {
		return damagedManifest{}, err
	}
	if o, known := k.c.state.Image().Object(s.manifest.ID); !known || o.State != metadata.Committed {
		return damagedManifest{}, fmt.Errorf("the catalogue has moved on while its manifests were read: %w", err)
	}
	return damagedManifest{partition: s.partition, manifest: *s.manifest, err: err, missing: missing}, nil
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

// unknownTo leaves those of ids that an image knows nothing of.
func unknownTo(image *metadata.Image, ids []storage.ObjectID) []storage.ObjectID {
	return slices.DeleteFunc(ids, func(id storage.ObjectID) bool {
		_, known := image.Object(id)
		return known
	})
}
