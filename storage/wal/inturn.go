package wal

// inTurn reads segments one after the other, each while the one before is looked at: the
// disk and the processor take about as long.
type inTurn struct {
	scans      []*scan // that are not read, the one under way included
	now, other []byte  // what is looked at, and what is read to
	done       chan error
	under      bool // a read is under way
}

// readInTurn begins with the first. One buffer is given, of a segment's size.
func readInTurn(scans []*scan, buf []byte) *inTurn {
	t := &inTurn{scans: scans, other: buf, done: make(chan error, 1)}
	if len(scans) > 1 {
		t.now = make([]byte, len(buf))
	}
	t.begin()
	return t
}

// begin reads the next segment, if there is one. The goroutine blocks on the disk.
func (t *inTurn) begin() {
	if t.under = len(t.scans) > 0; t.under {
		file, buf := t.scans[0].seg.file, t.other
		go func() { t.done <- readWhole(file, buf) }()
	}
}

// next returns the bytes of the next segment, until it is called again.
func (t *inTurn) next() ([]byte, error) {
	if err := <-t.done; err != nil {
		t.under = false
		return nil, err
	}
	t.scans, t.now, t.other = t.scans[1:], t.other, t.now
	t.begin()
	return t.now, nil
}

// stop returns once nothing is read any more.
func (t *inTurn) stop() {
	if t.under {
		<-t.done
	}
}
