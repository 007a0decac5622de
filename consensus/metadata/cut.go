package metadata

import (
	"fmt"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Cut has another life of a cluster begin with less of a partition than its bucket has.
type Cut struct {
	Partition storage.PartitionID
	At        storage.Offset // what lies here and behind is no part of it
	// Rewritten is the range that takes the place of the one that At lies within, up to there, in
	// an object of its own; nil: At is where a range ends, or the log begins.
	Rewritten *Rewritten
}

// Rewritten is a range that was made for a recovery. Its object's id is one of
// [RecoverableIDs].
type Rewritten struct {
	Size  int64
	Range Range
}

// RecoverableIDs are ids that no command has given out, nor will: first to last. Objects that
// are written before another life begins have them.
func (m *Image) RecoverableIDs() (first, last storage.ObjectID) {
	return m.lastObjectID + objectLeap/2, m.lastObjectID + objectLeap
}

// MayCut says why a partition cannot be cut at an offset; nil: it can.
func (p *Partition) MayCut(at storage.Offset) error {
	if filed := p.Filed(); len(filed) > 0 && at <= filed[len(filed)-1].End {
		return fmt.Errorf("what lies behind %d is listed in manifests already", at)
	}
	if at < p.LogStart || at > p.CommittedEnd() {
		return fmt.Errorf("%d is not of what it has, from %d to %d", at, p.LogStart, p.CommittedEnd())
	}
	return nil
}

// cut takes off what cuts say, of m, the image of a life that begins; last has the ids that
// were issued before.
func (m *Image) cut(cuts []Cut, last *Image) error {
	for _, c := range cuts {
		if r := c.Rewritten; r != nil {
			first, end := last.RecoverableIDs()
			_, known := m.Object(r.Range.Object)
			if !guard.Check("metadata.cut-own-object", !known && first <= r.Range.Object && r.Range.Object <= end) || r.Size < 1 || r.Size > maxObjectBytes || r.Range.Bytes < 0 || r.Range.Bytes > r.Size {
				return fmt.Errorf("metadata: cut %s: object %s of %d bytes", c.Partition, r.Range.Object, r.Size)
			}
			m.putObject(&Object{ID: r.Range.Object, State: Prepared, Since: m.offset})
		}
	}
	edit := m.editCatalogue(m.offset)
	for _, c := range cuts {
		_, p, refused := edit.find(c.Partition)
		if refused != nil {
			return fmt.Errorf("metadata: cut %s: %w", c.Partition, refused)
		}
		if err := p.MayCut(c.At); err != nil {
			return fmt.Errorf("metadata: cut %s: %w", c.Partition, err)
		}
		if err := edit.cut(p, &c); err != nil {
			return fmt.Errorf("metadata: cut %s at %d: %w", c.Partition, c.At, err)
		}
	}
	edit.end()
	return nil
}

func (e *catalogueEdit) cut(p *Partition, c *Cut) error {
	p = e.change(p)
	l := p.Ranges()
	from := l.index(l.above(c.At))
	var instead []Range
	if within, is := l.Find(c.At); is && within.Base < c.At && c.At > p.LogStart {
		r := c.Rewritten
		if !guard.Check("metadata.cut-whole", r != nil && r.Range.Base == within.Base && r.Range.End == c.At) {
			return fmt.Errorf("it lies within [%d, %d), and nothing takes the place of what is before it", within.Base, within.End)
		}
		instead = []Range{r.Range}
		e.commit(e.object(r.Range.Object), r.Size, false)
		e.gain(r.Range)
	} else if c.Rewritten != nil {
		return fmt.Errorf("it lies within no range, and [%d, %d) would take the place of one", c.Rewritten.Range.Base, c.Rewritten.Range.End)
	}
	if from == l.Len() {
		return nil
	}
	e.lose(l, from, l.Len()-from)
	p.setRanges(l.splice(from, l.Len(), instead...))
	if is := p.Cleaning(); max(is.To, is.Round, is.Next) > c.At {
		p.cleaning = nil // it begins anew
	}
	return nil
}
