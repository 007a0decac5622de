package object

// Join returns what is known, but for its batches, of a range that takes the place
// of those of the indexes, which follow one another. Producers alone still aliases
// what the last of them that has some was decoded from.
func Join(indexes []*Index) Range {
	first, last := indexes[0], indexes[len(indexes)-1]
	r := Range{
		Partition: last.Partition, Topic: last.Topic, Base: first.Base, End: last.End, LastStable: last.LastStable,
		// Holes of the sources stay.
		Holes: true,
		// Only where a partition begins may a batch begin before its range.
		Cut: true,
	}
	for _, x := range indexes {
		for _, e := range x.Epochs {
			if n := len(r.Epochs); n == 0 || r.Epochs[n-1].Epoch != e.Epoch {
				r.Epochs = append(r.Epochs, e)
			}
		}
		r.Aborted = append(r.Aborted, x.Aborted...)
		if len(x.Producers) > 0 {
			r.Producers = x.Producers
		}
	}
	return r
}
