package bucket

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// Op is a kind of call to a bucket, for the faults of [Faulty].
type Op uint8

// Each bit is a kind of call.
const (
	OpPut Op = 1 << iota
	OpPutIfAbsent
	OpRead
	OpStat
	OpList
	OpDelete

	OpAny   Op = 1<<iota - 1
	OpWrite    = OpPut | OpPutIfAbsent
)

// Rule says when a fault happens, and what it is. A call is counted when op and
// prefix match; it is hit when all of Nth, From, Every and Chance that are set
// say so.
type Rule struct {
	Op     Op     // zero: any
	Prefix string // of the key, or of what is listed; empty: any

	Nth    int     // hit the Nth counted call, from 1, only
	From   int     // hit the counted calls from this one on
	Every  int     // hit each Every-th counted call
	Chance float64 // hit with this probability, by Seed
	Seed   uint64
	Limit  int // at most so many hits

	// Hook is called first, without locks: it may wait for as long as ctx lives, and
	// count. Its error is the result, as it is.
	Hook func(ctx context.Context, op Op, key string) error

	Err       error // the result, as *Error; nothing is done
	Temporary bool  // of that error
	Done      bool  // it is done all the same, and only the answer lost

	Short bool  // of a read: half of it, then io.ErrUnexpectedEOF, temporary
	Shift int64 // of a read: these many bytes too far, and nobody says so
	Flip  bool  // of a read: one bit is wrong
	Late  bool  // of a put: no list has the key before Reveal
}

// Faulty is a bucket with faults. Rules are asked in order; the hooks of all that
// hit are called, the first that hit decides about the rest.
type Faulty struct {
	inner Bucket

	mu     sync.Mutex
	rules  []*ruleState
	hidden map[string]bool
}

type ruleState struct {
	Rule
	rng         *rand.Rand
	calls, hits int
}

// NewFaulty returns a bucket that has the faults of the rules.
func NewFaulty(b Bucket, rules ...Rule) *Faulty {
	f := &Faulty{inner: b, hidden: map[string]bool{}}
	f.Set(rules...)
	return f
}

// Set replaces the rules; counting begins anew.
func (f *Faulty) Set(rules ...Rule) {
	states := make([]*ruleState, len(rules))
	for i, r := range rules {
		if r.Op == 0 {
			r.Op = OpAny
		}
		states[i] = &ruleState{Rule: r, rng: rand.New(rand.NewPCG(r.Seed, 0))}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = states
}

// Calls returns how many calls rule i has counted and hit.
func (f *Faulty) Calls(i int) (counted, hit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules[i].calls, f.rules[i].hits
}

// Reveal puts all keys into the lists that were late.
func (f *Faulty) Reveal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.hidden)
}

// fault is what happens to one call; nothing when rule is nil.
type fault struct {
	*Rule
	flip uint64
}

// ask counts a call and says what goes wrong with it; err ends it.
func (f *Faulty) ask(ctx context.Context, op Op, key string) (found fault, err error) {
	var hooks []func(context.Context, Op, string) error
	f.mu.Lock()
	for _, r := range f.rules {
		if !r.hit(op, key) {
			continue
		}
		if r.Hook != nil {
			hooks = append(hooks, r.Hook)
		}
		if found.Rule == nil {
			found = fault{&r.Rule, r.rng.Uint64()}
		}
	}
	f.mu.Unlock()
	for _, hook := range hooks {
		if err := hook(ctx, op, key); err != nil {
			return found, err
		}
	}
	if found.Rule == nil {
		found.Rule = &Rule{}
	}
	if found.Err != nil && !found.Done {
		return found, found.failure(op, key)
	}
	return found, nil
}

func (d *fault) failure(op Op, key string) error {
	return &Error{Op: op.String(), Key: key, Err: d.Err, Temporary: d.Temporary}
}

// result is that of a call that was done.
func (d *fault) result(op Op, key string, err error) error {
	if d.Err != nil {
		return d.failure(op, key)
	}
	return err
}

// hit counts a call if it matches. The mutex of the Faulty is held.
func (r *ruleState) hit(op Op, key string) bool {
	if r.Op&op == 0 || !strings.HasPrefix(key, r.Prefix) {
		return false
	}
	r.calls++
	switch {
	case r.Limit > 0 && r.hits >= r.Limit,
		r.Nth > 0 && r.calls != r.Nth,
		r.calls < r.From,
		r.Every > 0 && r.calls%r.Every != 0,
		r.Chance > 0 && r.rng.Float64() >= r.Chance:
		return false
	}
	r.hits++
	return true
}

var opNames = []string{opPut, opPutNew, opRead, opStat, opList, opDelete}

func (o Op) String() string {
	var names []string
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Put implements [Bucket].
func (f *Faulty) Put(ctx context.Context, key string, content io.WriterTo) error {
	bad, err := f.ask(ctx, OpPut, key)
	if err != nil {
		return err
	}
	f.hide(bad, key)
	return bad.result(OpPut, key, f.inner.Put(ctx, key, content))
}

// PutIfAbsent implements [Bucket].
func (f *Faulty) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	bad, err := f.ask(ctx, OpPutIfAbsent, key)
	if err != nil {
		return err
	}
	f.hide(bad, key)
	return bad.result(OpPutIfAbsent, key, f.inner.PutIfAbsent(ctx, key, data))
}

func (f *Faulty) hide(bad fault, key string) {
	if bad.Late {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.hidden[key] = true
	}
}

// ReadAt implements [Bucket].
func (f *Faulty) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	bad, err := f.ask(ctx, OpRead, key)
	if err != nil {
		return err
	}
	if bad.Short {
		half := p[:len(p)/2]
		if err := f.inner.ReadAt(ctx, key, half, off); err != nil {
			return err
		}
		return &Error{
			Op: opRead, Key: key, Temporary: true,
			Err: fmt.Errorf("%d of %d bytes: %w", len(half), len(p), io.ErrUnexpectedEOF),
		}
	}
	if err := f.inner.ReadAt(ctx, key, p, off+bad.Shift); err != nil {
		return bad.result(OpRead, key, err)
	}
	if bad.Flip && len(p) > 0 {
		bit := bad.flip % uint64(len(p)*8)
		p[bit/8] ^= 1 << (bit % 8)
	}
	return bad.result(OpRead, key, nil)
}

// ReadParts implements [Bucket]. It is one call, whatever the number of parts: of half
// of it the parts arrive that are whole.
func (f *Faulty) ReadParts(ctx context.Context, key string, parts [][]byte, off int64, arrived func(part int)) error {
	bad, err := f.ask(ctx, OpRead, key)
	if err != nil {
		return err
	}
	size, of := bytesOf(parts), parts
	if bad.Short {
		for bytesOf(of) > size/2 {
			of = of[:len(of)-1]
		}
	}
	at, bit := int64(0), int64(bad.flip%uint64(max(size*8, 1)))
	err = f.inner.ReadParts(ctx, key, of, off+bad.Shift, func(part int) {
		p := parts[part]
		if in := bit/8 - at; bad.Flip && in >= 0 && in < int64(len(p)) {
			p[in] ^= 1 << (bit % 8)
		}
		at += int64(len(p))
		arrived(part)
	})
	if err == nil && bad.Short {
		return &Error{Op: opRead, Key: key, Temporary: true, Err: fmt.Errorf("half of %d bytes: %w", size, io.ErrUnexpectedEOF)}
	}
	return bad.result(OpRead, key, err)
}

// Stat implements [Bucket].
func (f *Faulty) Stat(ctx context.Context, key string) (Info, error) {
	bad, err := f.ask(ctx, OpStat, key)
	if err != nil {
		return Info{}, err
	}
	info, err := f.inner.Stat(ctx, key)
	return info, bad.result(OpStat, key, err)
}

// List implements [Bucket]. An error comes after half of the keys if it is Done.
func (f *Faulty) List(ctx context.Context, prefix, after string, yield func(Info) bool) error {
	bad, err := f.ask(ctx, OpList, prefix)
	if err != nil {
		return err
	}
	var found []Info
	if err := f.inner.List(ctx, prefix, after, func(i Info) bool { found = append(found, i); return true }); err != nil {
		return err
	}
	f.mu.Lock()
	found = slices.DeleteFunc(found, func(i Info) bool { return f.hidden[i.Key] })
	f.mu.Unlock()
	if bad.Err != nil {
		found = found[:(len(found)+1)/2]
	}
	for _, i := range found {
		if !yield(i) {
			return nil
		}
	}
	return bad.result(OpList, prefix, nil)
}

// Delete implements [Bucket].
func (f *Faulty) Delete(ctx context.Context, key string) error {
	bad, err := f.ask(ctx, OpDelete, key)
	if err != nil {
		return err
	}
	return bad.result(OpDelete, key, f.inner.Delete(ctx, key))
}

// Close implements [Bucket].
func (f *Faulty) Close() error { return f.inner.Close() }
