package object

import "rustmq.dev/rustmq/storage"

// Fetch is one ranged read of consecutive blocks.
type Fetch struct {
	First, Last int // blocks, both included
	Position    int64
	Length      int64 // bytes
}

// PlanOptions bound a plan. The zero value plans one block.
type PlanOptions struct {
	MaxBytes int64 // of blocks that are wanted; the first one is planned whatever its size
	MaxFetch int64 // of one fetch, unless one block alone is larger; 0: no bound
	Gap      int64 // bytes of blocks that are there already and are read again, to save a request

	// Have reports whether a block need not be read. nil: none is there.
	Have func(block int) bool
}

// Plan says what to read, in order, so that the blocks from offset on are there:
// as few requests as the bounds allow. It is empty when none is missing, or
// nothing lies from offset on.
func (x *Index) Plan(offset storage.Offset, o PlanOptions) []Fetch {
	var plan []Fetch
	budget := o.MaxBytes
	for first, i := x.Find(offset), x.Find(offset); i < len(x.Blocks); i++ {
		k := &x.Blocks[i]
		if i > first && int64(k.Length) > budget {
			break
		}
		budget -= int64(k.Length)
		if o.Have != nil && o.Have(i) {
			continue
		}
		end := k.Position + int64(k.Length)
		if n := len(plan); n > 0 {
			f := &plan[n-1]
			if k.Position-(f.Position+f.Length) <= o.Gap && (o.MaxFetch == 0 || end-f.Position <= o.MaxFetch) {
				f.Last, f.Length = i, end-f.Position
				continue
			}
		}
		plan = append(plan, Fetch{First: i, Last: i, Position: k.Position, Length: int64(k.Length)})
	}
	return plan
}
