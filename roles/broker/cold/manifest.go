package cold

import (
	"slices"
	"sort"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
)

// windowRanges is how many ranges of a manifest a stream holds at once: enough to
// read ahead by, and little beside the manifest.
const windowRanges = 64

// manifestAt returns the manifest with the ranges from an offset on; nil: the image
// has them itself.
func manifestAt(filed []metadata.Manifest, offset storage.Offset) *metadata.Manifest {
	i := sort.Search(len(filed), func(i int) bool { return filed[i].End > offset })
	if i == len(filed) {
		return nil
	}
	return &filed[i]
}

// sameManifests compares what two images say of a partition: only the first and the
// last of its manifests are ever made anew.
func sameManifests(a, b []metadata.Manifest) bool {
	n := len(a)
	return n == len(b) && (n == 0 || a[0].ID == b[0].ID && a[n-1].ID == b[n-1].ID)
}

func wantManifest(id storage.PartitionID, of *metadata.Manifest) want {
	return want{key: key{of.ID, id, of.CRC, manifestPiece}, manifest: of}
}

// decodeManifest reads what a want of a manifest brought.
func (it *item) decodeManifest(b []byte) (*layout, error) {
	m, err := object.DecodeManifest(b, it.key.object, it.key.partition, it.manifest.ManifestRef)
	if err != nil {
		return nil, err
	}
	ranges := make([]metadata.Range, len(m.Ranges))
	for i := range ranges {
		ranges[i] = metadata.RangeOf(&m.Ranges[i])
	}
	l := metadata.NewRanges(ranges...)
	return &layout{filed: &l}, nil
}

// window returns the first ranges of a manifest from an offset on.
func (l *layout) window(offset storage.Offset) metadata.Ranges {
	some := make([]metadata.Range, 0, windowRanges)
	for r := range l.filed.From(offset) {
		if some = append(some, r); len(some) == windowRanges {
			break
		}
	}
	return metadata.NewRanges(some...)
}

// spare has a manifest given up at the end of the walk, which may come to it twice: the
// cache has it, but need not keep it.
func (k *walk) spare(it *item) {
	if !slices.Contains(k.manifests, it) {
		k.manifests = append(k.manifests, it)
	}
}

// enter has the walk go on by the ranges from where it is on: the image's, or some of
// a manifest, which may have to be brought. false: it is not here.
func (k *walk) enter() (ok bool, err error) {
	s := k.s
	m := manifestAt(s.filed, k.out.Next)
	if m == nil {
		s.ranges, s.by = s.image, 0
		return true, nil
	}
	w := wantManifest(s.id, m)
	if last, some := s.ranges.Last(); some && s.by == m.ID && last.End > k.out.Next {
		// It slides on before the stream comes to its end, if that costs nothing.
		if last.End < m.End && s.ranges.At(windowRanges/2).Base <= k.out.Next {
			if l, here := k.r.indexes.Get(w.key); here {
				s.ranges = l.window(k.out.Next)
			}
		}
		return true, nil
	}
	it, err := k.get(&w)
	if it == nil {
		return false, err
	}
	s.ranges, s.by = it.layout.window(k.out.Next), m.ID
	k.spare(it) // the stream has what it needs
	return true, nil
}
