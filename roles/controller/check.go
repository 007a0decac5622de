package controller

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// What a check may find.
const (
	FoundMissing   = "missing"    // the catalogue names it, and the bucket does not have it
	FoundWrongSize = "wrong-size" // the catalogue names it with another size
	FoundCorrupt   = "corrupt"    // bytes of it differ from their checksums, or from what the catalogue says of it
	FoundOrphan    = "orphan"     // it came after its deletion: nothing names it, and nothing ever will
	FoundForeign   = "foreign"    // its id was never issued here, or its key is none of an object
)

// Finding is one thing that a check found.
type Finding struct {
	Kind     string        `json:"kind" enum:"missing,wrong-size,corrupt,orphan,foreign"`
	Key      string        `json:"key"`
	Object   string        `json:"object,omitempty"`
	Size     int64         `json:"size" doc:"bytes in the bucket; 0 when it is missing"`
	Want     int64         `json:"want,omitempty" doc:"bytes by the catalogue, if it names the object"`
	Position int64         `json:"position,omitempty" doc:"byte of the object at which it is corrupt"`
	Range    *FindingRange `json:"range,omitempty" doc:"whose records are concerned, where one can tell"`
	Detail   string        `json:"detail"`

	id    storage.ObjectID
	filed *filedObject // what a manifest says of it, if one lists it
}

// FindingRange names records.
type FindingRange struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Base      storage.Offset `json:"base"`
	End       storage.Offset `json:"end" doc:"the offset after the last"`
}

// Tally counts objects.
type Tally struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (t *Tally) add(size int64) {
	t.Objects++
	t.Bytes += size
}

// Compared is how a part of the bucket and the catalogue stand to each other.
type Compared struct {
	Committed Tally `json:"committed" doc:"named by the catalogue, and in the bucket"`
	Prepared  Tally `json:"prepared" doc:"uploads under way, or not committed in time"`
	Condemned Tally `json:"condemned" doc:"named by nothing, and deleted in a while"`
	Orphans   Tally `json:"orphans" doc:"came after their deletion"`
	Unjudged  Tally `json:"unjudged" doc:"a manifest that cannot be read may list them, or they are orphans: never touched"`
	Foreign   Tally `json:"foreign" doc:"of ids that were never issued, or other keys: never touched"`
	Missing   Tally `json:"missing" doc:"named by the catalogue, and not in the bucket"`
	WrongSize Tally `json:"wrong_size" doc:"named by the catalogue with another size"`
}

// stretch is the keys behind after, up to upTo; an empty upTo: to the end.
type stretch struct{ after, upTo string }

func (s stretch) has(key string) bool { return key > s.after && (s.upTo == "" || key <= s.upTo) }

// comparison is what a listing of a stretch shows beside the catalogue.
type comparison struct {
	Compared
	findings []Finding
	orphans  []Finding // in order of key
	// suspects are findings that a listing alone is not believed about: it may lag,
	// and it is older than the catalogue. whole are the objects that are as they
	// should be, by the listing. Both are in order of key.
	suspects, whole []Finding
}

// compare looks at the listing of a stretch, and at a catalogue that is not older
// with what its manifests list there.
// keyOf gives the key of an object; listed is in order of key.
func compare(cat catalogue, filed *filedPart, keyOf func(storage.ObjectID) string, parse func(key string) (storage.ObjectID, error), part stretch, listed []bucket.Info) (c comparison) {
	shown := make(map[storage.ObjectID]struct{}, len(listed))
	for _, i := range listed {
		if !part.has(i.Key) {
			continue
		}
		f := Finding{Key: i.Key, Size: i.Size}
		id, err := parse(i.Key)
		if err != nil {
			f.Kind, f.Detail = FoundForeign, "not a key that rustmq writes"
			c.Foreign.add(i.Size)
			c.findings = append(c.findings, f)
			continue
		}
		f.id, f.Object = id, id.String()
		o, known := cat.Object(id)
		if is, listed := filed.find(id); listed && !known {
			shown[id] = struct{}{}
			c.named(filedFinding(f, is))
			continue
		}
		switch {
		case id >= cat.NextObjectID():
			f.Kind, f.Detail = FoundForeign, "an id that was never issued here: it is left"
			c.Foreign.add(i.Size)
			c.findings = append(c.findings, f)
		case !known && !filed.knows(id):
			c.Unjudged.add(i.Size)
		case !known:
			f.Kind, f.Detail = FoundOrphan, "it came after its deletion, and nothing can name it any more"
			c.Orphans.add(i.Size)
			c.findings = append(c.findings, f)
			c.orphans = append(c.orphans, f)
		case o.State == metadata.Prepared:
			c.Prepared.add(i.Size)
		case o.State == metadata.Condemned:
			c.Condemned.add(i.Size)
		default:
			shown[id] = struct{}{}
			f.Want = o.Size
			c.named(f)
		}
	}
	for o := range cat.ObjectsIn(metadata.Committed) {
		if _, is := shown[o.ID]; is {
			continue
		}
		if key := keyOf(o.ID); part.has(key) {
			c.suspects = append(c.suspects, Finding{Key: key, Object: o.ID.String(), Want: o.Size, id: o.ID})
		}
	}
	for _, is := range filed.objects {
		id := is.Object
		if _, is := shown[id]; is {
			continue
		}
		if _, known := cat.Object(id); known {
			continue
		}
		if key := keyOf(id); part.has(key) {
			c.suspects = append(c.suspects, filedFinding(Finding{Key: key, Object: id.String(), id: id}, is))
		}
	}
	slices.SortFunc(c.suspects, byKey)
	return c
}

// named sorts a listed object that the catalogue names, or a manifest lists.
func (c *comparison) named(f Finding) {
	if f.Size != f.Want {
		c.suspects = append(c.suspects, f)
		return
	}
	c.Committed.add(f.Size)
	c.whole = append(c.whole, f)
}

// filedFinding is about an object that a manifest lists.
func filedFinding(f Finding, is filedObject) Finding {
	f.Want, f.filed = is.Size, &is
	return f
}

func byKey(a, b Finding) int { return cmp.Compare(a.Key, b.Key) }

// confirm counts a suspect by what the store itself says of its key.
func (c *comparison) confirm(f Finding, info bucket.Info, missing bool) {
	switch f.Size = info.Size; {
	case missing:
		f.Kind, f.Detail, f.Size = FoundMissing, "named by the catalogue, and not in the bucket", 0
		c.Missing.add(f.Want)
	case f.Size != f.Want:
		f.Kind, f.Detail = FoundWrongSize, fmt.Sprintf("%d bytes, the catalogue says %d", f.Size, f.Want)
		c.WrongSize.add(f.Size)
	default: // the listing was behind
		c.Committed.add(f.Size)
		return
	}
	c.findings = append(c.findings, f)
}

// namedRange is a range of the catalogue, with whose it is.
type namedRange struct {
	partition storage.PartitionID
	topic     string
	metadata.Range
}

// rangesByObject turns the catalogue round, for the objects that are asked for.
func rangesByObject(image *metadata.Image, of map[storage.ObjectID]struct{}) map[storage.ObjectID][]namedRange {
	named := make(map[storage.ObjectID][]namedRange, len(of))
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			for r := range p.Ranges().All() {
				if _, is := of[r.Object]; is {
					named[r.Object] = append(named[r.Object], namedRange{storage.PartitionID{Topic: t.ID, Index: p.Index}, t.Name, r})
				}
			}
		}
	}
	return named
}

// verify reads every byte of an object and compares it with its checksums, and
// with what the catalogue says. err is that of readAt.
func verify(f Finding, want object.Header, named []namedRange, readAt object.ReadAt) (found []Finding, err error) {
	add := func(at int64, concerned *FindingRange, detail string) {
		f.Kind, f.Position, f.Range, f.Detail = FoundCorrupt, at, concerned, detail
		found = append(found, f)
	}
	header, err := object.Verify(f.Size, readAt, func(damage error) {
		at := int64(0)
		if c, ok := errors.AsType[*object.CorruptionError](damage); ok {
			at = c.Position
		}
		add(at, concerned(f.id, at, named, readAt), damage.Error())
	})
	if err != nil && !isDamage(err) {
		return nil, err
	}
	if header != (object.Header{}) && (header.ID != want.ID || header.Cluster != want.Cluster || header.Incarnation != want.Incarnation) {
		add(0, nil, fmt.Sprintf("it is object %s of cluster %s, incarnation %d", header.ID, header.Cluster, header.Incarnation))
	}
	directory, err := object.ReadDirectory(f.Size, readAt)
	if isDamage(err) {
		return found, nil // Verify has said so
	} else if err != nil {
		return nil, err
	}
	for _, n := range named {
		at := &FindingRange{n.topic, n.partition.Index, n.Base, n.End}
		if e, ok := directory.Find(n.partition); !ok {
			add(n.IndexPosition, at, "the object does not have the range that the catalogue names")
		} else if e != n.Entry(n.partition) {
			add(n.IndexPosition, at, fmt.Sprintf("the object has [%d, %d) with its index of %d bytes, crc32c %08x, at byte %d; the catalogue says %d bytes, %08x, at %d",
				e.Base, e.End, e.Index.Length, e.Index.CRC, e.Index.Position, n.IndexLength, n.IndexCRC, n.IndexPosition))
		}
	}
	return found, nil
}

func isDamage(err error) bool {
	return errors.As(err, new(*object.CorruptionError)) || errors.As(err, new(*object.UnknownFormatError))
}

// concerned says whose records lie at a byte of an object: those of a block, or a
// whole range if its index is meant; nil if no range that is named lies there.
func concerned(id storage.ObjectID, at int64, named []namedRange, readAt object.ReadAt) *FindingRange {
	for _, n := range named {
		whole := &FindingRange{n.topic, n.partition.Index, n.Base, n.End}
		if at >= n.IndexPosition && at < n.IndexPosition+int64(n.IndexLength) {
			return whole
		}
		b := make([]byte, n.IndexLength)
		if readAt(b, n.IndexPosition) != nil {
			continue
		}
		x, err := object.DecodeIndex(b, id, n.Entry(n.partition))
		if err != nil {
			continue
		}
		for _, k := range x.Blocks {
			if at >= k.Position && at < k.Position+int64(k.Length) {
				whole.Base, whole.End = k.First, k.Next
				return whole
			}
		}
	}
	return nil
}
