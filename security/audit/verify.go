package audit

import (
	"fmt"
	"slices"
	"strings"

	"rustmq.dev/rustmq/storage/guard"
)

// FaultKind is in what way a chain is broken.
type FaultKind string

// Kinds of faults.
const (
	FaultAltered   FaultKind = "altered"   // a record is not as it was written
	FaultMissing   FaultKind = "missing"   // records of a chain are not there
	FaultReordered FaultKind = "reordered" // a record stands behind one that came later
	FaultRepeated  FaultKind = "repeated"  // a record is there twice
	FaultForeign   FaultKind = "foreign"   // it is of no chain that belongs here
	FaultTruncated FaultKind = "truncated" // the end of a chain, or a head that was kept, is not there
)

// Fault is one place where the log is not as it was written.
type Fault struct {
	Kind   FaultKind `json:"kind"`
	Offset int64     `json:"offset" doc:"in the topic, where it shows; -1: nowhere"`
	Node   int32     `json:"node,omitempty"`
	Life   string    `json:"life,omitempty"`
	What   string    `json:"what"`
}

// Report is what a verification found.
type Report struct {
	Whole   bool    `json:"whole" doc:"nothing is broken"`
	Records int64   `json:"records"`
	Events  int64   `json:"events"`
	Lost    int64   `json:"lost" doc:"events that could not be recorded, as the log says itself"`
	Lives   int     `json:"lives" doc:"chains: one for each start of a process that recorded something"`
	Start   int64   `json:"start" doc:"first offset of the topic"`
	End     int64   `json:"end" doc:"offset behind the last record"`
	Cut     bool    `json:"cut" doc:"older records were deleted by retention"`
	Heads   []Head  `json:"heads" doc:"the newest record of each node's newest chain; kept elsewhere, they show later that nothing before them was rewritten"`
	Faults  []Fault `json:"faults,omitempty"`
	Broken  int64   `json:"broken" doc:"how many faults there are, of which the first hundred are told"`
}

// Bounds of a verification.
const (
	maxFaults = 100
	maxLives  = 1 << 17 // a start a minute of one node for 90 days
)

// Expected is what is known of the log from elsewhere.
type Expected struct {
	// Live are the newest records of nodes that run, as they say.
	Live []Head
	// Hashes are of records that were there once.
	Hashes []string
}

// lifeState is how far a verification has followed a life.
type lifeState struct {
	head   Head
	offset int64 // of head's record
	began  int64 // offset of its first record
	behind map[int64]bool
}

// Verifier follows the chains of a log. It is for one goroutine, and does no I/O.
type Verifier struct {
	start  int64
	next   int64 // offset that is due; -1: any
	lives  map[string]*lifeState
	newest map[int32]string  // life of each node that began last
	heirs  map[string]string // by life, the one that began after it
	live   map[string]Head   // by life
	met    map[string]bool   // lives of live whose head's record was there
	hashes map[string]bool   // expected; true: it was there
	report Report
}

// NewVerifier begins with a log whose first offset is start.
func NewVerifier(start int64, x Expected) *Verifier {
	v := &Verifier{
		start: start, next: start, lives: map[string]*lifeState{}, newest: map[int32]string{}, heirs: map[string]string{},
		live: map[string]Head{}, met: map[string]bool{}, hashes: map[string]bool{}, report: Report{Start: start, End: start, Cut: start > 0},
	}
	for _, h := range x.Live {
		v.live[h.Life] = h
	}
	for _, h := range x.Hashes {
		v.hashes[strings.ToLower(h)] = false
	}
	return v
}

func (v *Verifier) fault(kind FaultKind, offset int64, node int32, life, format string, args ...any) {
	v.report.Broken++
	if len(v.report.Faults) < maxFaults {
		v.report.Faults = append(v.report.Faults, Fault{kind, offset, node, clean(life, maxWord), fmt.Sprintf(format, args...)})
	}
}

// Skip says that what stands in the topic from one offset up to another is the mark of a
// transaction, and no record. No node writes one there: it is in the place of records.
func (v *Verifier) Skip(from, to int64) {
	if !guard.Check("audit.skipped", false) {
		v.fault(FaultForeign, from, 0, "", "the topic has no record from offset %d to %d, but marks of transactions, which no node writes", from, to)
	}
	if v.next == from {
		v.next = to
	}
}

// Add takes the record at an offset. Offsets grow.
func (v *Verifier) Add(offset int64, value []byte) {
	if !guard.Check("audit.offset-hole", offset == v.next) {
		v.fault(FaultMissing, v.next, 0, "", "the topic has nothing from offset %d to %d", v.next, offset)
	}
	v.next, v.report.End = offset+1, offset+1
	v.report.Records++
	r, err := Parse(value)
	if err != nil {
		v.fault(FaultForeign, offset, 0, "", "%v", err)
		return
	}
	switch r.Kind {
	case kindEvent:
		v.report.Events++
	case kindGap:
		v.report.Lost += r.Lost
	}
	if !r.whole {
		v.fault(FaultAltered, offset, r.Node, r.Life, "record %d is not as it was written: its hash is another", r.Seq)
	}
	if _, expected := v.hashes[r.Hash]; expected {
		v.hashes[r.Hash] = true
	}
	v.meet(offset, r)
	if is := v.lives[r.Life]; is != nil {
		v.follow(offset, r, is)
		return
	}
	v.enter(offset, r)
}

// meet compares a record with what its writer says its newest is.
func (v *Verifier) meet(offset int64, r *Record) {
	h, live := v.live[r.Life]
	switch {
	case !live:
	case r.Node != h.Node:
		v.fault(FaultForeign, offset, r.Node, r.Life, "node %d writes in the chain of node %d", r.Node, h.Node)
	case r.Seq == h.Seq:
		v.met[r.Life] = true
		if !guard.Check("audit.live-head", r.Hash == h.Hash) {
			v.fault(FaultAltered, offset, r.Node, r.Life, "record %d is not the one that node %d has written", r.Seq, r.Node)
		}
	}
}

// enter begins to follow a life.
func (v *Verifier) enter(offset int64, r *Record) {
	if len(v.lives) >= maxLives {
		v.fault(FaultForeign, offset, r.Node, r.Life, "there are more than %d chains", maxLives)
		return
	}
	v.lives[r.Life] = &lifeState{head: Head{r.Node, r.Life, r.Seq, r.Hash, offset}, offset: offset, began: offset}
	v.report.Lives++
	defer func() { v.newest[r.Node] = r.Life }()
	if r.Kind != kindBegin {
		before, lived := v.newest[r.Node]
		switch {
		case !guard.Check("audit.begun", v.start > 0):
			v.fault(FaultMissing, offset, r.Node, r.Life, "the chain begins with record %d, and the topic has all from its first on", r.Seq)
		case !guard.Check("audit.begun-later", !lived): // a node has one life at a time
			v.fault(FaultMissing, offset, r.Node, r.Life, "the chain begins with record %d, and the topic has the end of the node's chain before, %.32s", r.Seq, before)
		}
		return
	}
	if r.prev != "" {
		v.fault(FaultAltered, offset, r.Node, r.Life, "a chain begins behind another record")
	}
	v.inherit(offset, r)
}

// inherit compares what the first record of a life says of the life before with that.
func (v *Verifier) inherit(offset int64, r *Record) {
	if r.after == nil {
		return
	}
	if heir, taken := v.heirs[r.after.Life]; taken {
		v.fault(FaultForeign, offset, r.Node, r.Life, "it follows the chain %.32s, which %.32s follows already", clean(r.after.Life, maxWord), heir)
	}
	v.heirs[r.after.Life] = r.Life
	before := v.lives[r.after.Life]
	switch {
	case before == nil:
		if guard.Check("audit.life-before", r.after.Offset < v.start) {
			return
		}
		v.fault(FaultMissing, offset, r.Node, r.Life, "the chain before, %.32s, which had come to offset %d, is not there", clean(r.after.Life, maxWord), r.after.Offset)
	case before.head.Node != r.Node:
		v.fault(FaultForeign, offset, r.Node, r.Life, "it follows a chain of node %d", before.head.Node)
	case !guard.Check("audit.life-end", before.head.Seq >= r.after.Seq):
		v.fault(FaultTruncated, offset, r.Node, r.Life, "the chain before, %.32s, had come to record %d, and ends with %d at offset %d", before.head.Life, r.after.Seq, before.head.Seq, before.offset)
	case before.head.Seq == r.after.Seq && before.head.Hash != r.after.Hash:
		v.fault(FaultAltered, before.offset, r.Node, before.head.Life, "record %d is not the one that the node's next chain follows", before.head.Seq)
	}
}

// follow compares a record with the one before it in its life.
func (v *Verifier) follow(offset int64, r *Record, is *lifeState) {
	last := is.head
	switch {
	case r.Node != last.Node:
		v.fault(FaultForeign, offset, r.Node, r.Life, "node %d writes in the chain of node %d", r.Node, last.Node)
		return
	case r.Seq <= last.Seq && is.behind[r.Seq]:
		v.fault(FaultReordered, offset, r.Node, r.Life, "record %d, which was missing, stands behind record %d", r.Seq, last.Seq)
		delete(is.behind, r.Seq)
		return
	case r.Seq <= last.Seq:
		v.fault(FaultRepeated, offset, r.Node, r.Life, "record %d was there before: the chain had come to %d at offset %d", r.Seq, last.Seq, is.offset)
		return
	case !guard.Check("audit.sequence", r.Seq == last.Seq+1):
		v.fault(FaultMissing, offset, r.Node, r.Life, "records %d to %d are not between offsets %d and %d", last.Seq+1, r.Seq-1, is.offset, offset)
		is.lack(last.Seq+1, r.Seq)
	case !guard.Check("audit.chain", r.prev == last.Hash):
		v.fault(FaultAltered, is.offset, r.Node, r.Life, "record %d is not the one that record %d, at offset %d, was written behind", last.Seq, r.Seq, offset)
	}
	is.head, is.offset = Head{r.Node, r.Life, r.Seq, r.Hash, offset}, offset
}

// lack remembers which records are missing, as far as that is few.
func (is *lifeState) lack(from, to int64) {
	const few = 1024
	if is.behind == nil {
		is.behind = map[int64]bool{}
	}
	for seq := from; seq < to && len(is.behind) < few; seq++ {
		is.behind[seq] = true
	}
}

// Report ends the verification at the end of the log.
func (v *Verifier) Report() Report {
	for life, h := range v.live {
		is := v.lives[life]
		switch {
		case !guard.Check("audit.live-there", v.met[life] || h.Offset < v.start):
			v.fault(FaultTruncated, h.Offset, h.Node, life, "node %d has written record %d there, and it is not in the topic", h.Node, h.Seq)
		case is != nil && !guard.Check("audit.live-newest", v.newest[h.Node] == life):
			other := v.newest[h.Node]
			v.fault(FaultForeign, v.lives[other].began, h.Node, other, "node %d did not write it: it writes %.32s", h.Node, life)
		}
	}
	for hash, was := range v.hashes {
		if !guard.Check("audit.kept-head", was) {
			v.fault(FaultTruncated, -1, 0, "", "no record has the hash %.64s: it was deleted, by retention or otherwise, or all was written anew", clean(hash, hexLength))
		}
	}
	for _, life := range v.newest {
		v.report.Heads = append(v.report.Heads, v.lives[life].head)
	}
	slices.SortFunc(v.report.Heads, func(a, b Head) int { return int(a.Node) - int(b.Node) })
	slices.SortStableFunc(v.report.Faults, func(a, b Fault) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	v.report.Whole = v.report.Broken == 0
	return v.report
}
