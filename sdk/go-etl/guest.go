package etl

import "fmt"

// guest is one instance of a module.
type guest struct {
	make      New
	transform Transform
	buffer    []uint64 // words, for it is aligned to 8 bytes
	decisions decisions
	failed    []byte // what init has returned: the host reads it until the next call
}

// room makes the buffer at least size bytes long.
func (g *guest) room(size uint32) {
	g.buffer = nil // what was there is not kept, and both need not fit
	g.buffer = make([]uint64, max(1, (uint64(size)+7)/8))
}

// init makes the transform. It returns what is wrong with the config, or nil.
func (g *guest) init(config []byte) []byte {
	if g.make == nil {
		g.failed = []byte("the module has no transform: call etl.Register where a variable of main is declared")
		return g.failed
	}
	transform, err := g.make(append([]byte(nil), config...))
	switch {
	case err != nil && err.Error() == "":
		g.failed = []byte("refused, without a reason")
	case err != nil:
		g.failed = []byte(err.Error())
	case transform == nil:
		g.failed = []byte("the module made no transform of its config, and gave no error")
	default:
		g.transform, g.failed = transform, nil
	}
	return g.failed
}

// decide collects the decisions for a batch that lies at base, and says whether there are any.
func (g *guest) decide(batch []byte, base uint32) bool {
	b := Batch{memory: memory{bytes: batch, base: base}}
	count := b.Len()
	if need := headBytes + count*entryBytes; need > len(batch) {
		panic(fmt.Sprintf("etl: a batch of %d records in %d bytes", count, len(batch)))
	}
	g.decisions.reset(count, len(batch))
	if observer, ok := g.transform.(BatchObserver); ok {
		observer.Batch(b)
	}
	for i := range count {
		g.decisions.decide(i, b.Record(i), g.transform)
	}
	if g.decisions.allKept() {
		return false
	}
	g.decisions.grow()
	return true
}
