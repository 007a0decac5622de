package log

// Footprint is the bytes that a partition takes.
type Footprint struct {
	WAL    int64 // of its batches in the WAL
	Memory int64 // those of them that are in memory too
}

// Footprint walks the partition's index; it is meant for a person's question.
func (l *Log) Footprint() Footprint {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f Footprint
	for _, b := range l.index.blocks {
		for i := range b.entries {
			ref := b.entries[i].ref
			f.WAL += int64(ref.Length)
			if l.store.wal.Resident(ref) {
				f.Memory += int64(ref.Length)
			}
		}
	}
	return f
}

// Unuploaded returns how many bytes of the partition the bucket is still to be given, with
// what frames them.
func (l *Log) Unuploaded() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.backlog.held()
}
