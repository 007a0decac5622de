package cold

import (
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// mostAborts bounds what a stream remembers for later of transactions that begin
// behind what is read now: a megabyte's third, where a transaction was open for
// long and thousands of others were aborted meanwhile.
const mostAborts = 10_000

// aborts is what a stream knows of aborted transactions: those whose marker lies
// between where it was read from last and next. Reader.mu guards it.
type aborts struct {
	from, next storage.Offset
	// stable: transactions that began before it are decided by markers before next.
	stable storage.Offset
	known  []abort // in order of Last
	// until: of transactions that begin from here on, some were left out; 0: none.
	until storage.Offset
}

// abort is an aborted transaction, and the object whose index lists it.
type abort struct {
	object.Aborted
	in storage.ObjectID
}

// forward lets go of what a reader from an offset on has no use for.
func (a *aborts) forward(offset storage.Offset) {
	if offset < a.from || offset > a.next {
		*a = aborts{from: offset, next: offset}
		return
	}
	a.from = offset
	gone := 0
	for gone < len(a.known) && a.known[gone].Last < offset {
		gone++
	}
	if a.known = a.known[gone:]; len(a.known) == 0 {
		a.known = nil
	}
}

// aborted finds the transactions that were aborted, and have records in what the
// walk found, or before: their marker may lie in a later range, and what is not
// decided up to there, in one after that (RULES 5.4). One index is looked at after
// the other, and not held. whole: it is all, as far as the bucket is asked.
func (k *walk) aborted() (whole bool, err error) {
	a := &k.s.aborts
	// In a hole lies no marker, and nothing that one concerns; what would tell so may be
	// a manifest that ends with it, which the stream has left behind.
	from := max(k.q.Offset, k.s.hole.Until)
	a.forward(from)
	if a.until > 0 && k.out.Next > a.until {
		*a = aborts{from: from, next: from}
	}
	for again := false; ; again = true {
		if whole, err := k.lookForAborts(); !whole {
			return false, err
		}
		if again || guard.Check("cold.aborts-current", k.abortsCurrent()) {
			break
		}
		*a = aborts{from: from, next: from}
	}
	for _, t := range a.known {
		if k.tells(&t) {
			k.out.Aborted = append(k.out.Aborted, t.Aborted)
		}
	}
	return true, nil
}

// tells reports whether who reads has to know a transaction.
func (k *walk) tells(t *abort) bool { return t.First < k.out.Next && t.Last < k.q.Markers }

// abortsCurrent reports whether the transactions that are to be told are in the indexes
// of the request's image: compaction by key may have taken one away since, with its
// marker. Who was told of it would skip what its producer commits behind that. What is
// filed is not compacted by key.
func (k *walk) abortsCurrent() bool {
	for i := range k.s.aborts.known {
		t := &k.s.aborts.known[i]
		if !k.tells(t) || manifestAt(k.s.filed, t.Last) != nil {
			continue
		}
		if r, ok := k.s.image.Find(t.Last); !ok || r.Object != t.in {
			return false
		}
	}
	return true
}

// lookForAborts looks for what the stream does not know yet, as far as the request needs.
func (k *walk) lookForAborts() (whole bool, err error) {
	a := &k.s.aborts
	for !guard.Check("cold.undecided", a.stable >= k.out.Next) && a.next < k.q.Markers {
		ranges, err := k.rangesAt(a.next)
		if ranges == nil {
			return false, err
		}
		from := a.next
		for e := range ranges.From(a.next) {
			if a.stable >= k.out.Next || e.Base >= k.q.Markers {
				break
			}
			if known, err := k.abortedIn(&e); !known {
				return false, err
			}
		}
		if a.next == from {
			return false, ErrLookAgain // by an image that knows all that the log has given up
		}
	}
	return true, nil
}

// rangesAt returns ranges from an offset on, the image's or those of a manifest;
// nil: it is being brought.
func (k *walk) rangesAt(offset storage.Offset) (*metadata.Ranges, error) {
	m := manifestAt(k.s.filed, offset)
	if m == nil {
		return &k.s.image, nil
	}
	w := wantManifest(k.s.id, m)
	it, err := k.r.need(k.s, &w)
	if err != nil || it.state != loaded {
		return nil, err
	}
	ranges := it.layout.filed
	k.spare(it)
	return ranges, nil
}

// abortedIn takes note of the transactions whose marker lies in a range. known:
// the index is here, or needs no look.
func (k *walk) abortedIn(e *metadata.Range) (known bool, err error) {
	a := &k.s.aborts
	w := wantIndex(k.s.id, e)
	l := k.s.layoutOf(&w) // by which it is being read, perhaps
	if l == nil && e.HasAborts {
		if l, err = k.layout(&w); l == nil {
			return false, err
		}
	}
	switch {
	case l != nil:
		for _, t := range l.Aborted {
			if t.Last >= a.next {
				a.add(abort{t, e.Object}, k.out.Next)
			}
		}
		a.stable = max(a.stable, l.LastStable)
	case !e.OpenTransactions:
		a.stable = max(a.stable, e.End)
	}
	a.next = e.End
	return true, nil
}

// add notes a transaction. One that begins behind what is read now may be left out.
func (a *aborts) add(t abort, next storage.Offset) {
	if t.First >= next && len(a.known) >= mostAborts {
		if a.until == 0 || t.First < a.until {
			a.until = t.First
		}
		return
	}
	a.known = append(a.known, t)
}

// layout returns an index, which the stream does not keep; nil: it is being
// brought.
func (k *walk) layout(w *want) (*layout, error) {
	it, err := k.r.need(k.s, w)
	if err != nil || it.state != loaded {
		return nil, err
	}
	l := it.layout
	if it.first >= k.out.Next { // else it may be held to read by
		k.r.drop(k.s, it)
	}
	return l, nil
}

// withhold gives out nothing of what the walk found: it is not known yet which of
// it was aborted.
func (k *walk) withhold() {
	k.giveBack()
	k.runs, k.n = nil, 0
	k.out = Result{Next: k.q.Offset, Pending: true}
}
