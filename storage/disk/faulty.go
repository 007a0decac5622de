package disk

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
)

// Op is a kind of call to an FS or a file, for the faults of [Faulty].
type Op uint32

// Each bit is a kind of call; OpWriteSync asks as OpWrite and then as OpSync.
const (
	OpCreate Op = 1 << iota
	OpOpen
	OpRemove
	OpRename
	OpList
	OpMkdir
	OpSyncDir
	OpLock
	OpSpace
	OpClose
	OpSize
	OpTruncate
	OpRead
	OpWrite
	OpSync
	OpLink
	OpStat
	OpAllocate

	OpAny Op = 1<<iota - 1
	// OpChange is every call that changes or syncs something: the moments at
	// which a crash makes a difference.
	OpChange = OpCreate | OpRemove | OpRename | OpLink | OpMkdir | OpSyncDir | OpTruncate | OpAllocate | OpWrite | OpSync
)

// Rule says when a fault happens, and what it is. A call is counted when op and
// name match; it is hit when all of Nth, Every and Chance that are set say so.
type Rule struct {
	Op   Op     // zero: any
	Name string // path.Match pattern of the whole name; empty: any. A rename or link goes by its new name

	Nth    int     // hit the Nth counted call, from 1, only
	From   int     // hit the counted calls from this one on
	Every  int     // hit each Every-th counted call
	Chance float64 // hit with this probability, by Seed
	Seed   uint64
	Limit  int // at most so many hits

	Hook  func(op Op, name string) // called first, without locks: it may wait, cut the power, count
	Err   error                    // the result; nothing is done, except what Short says
	Short float64                  // share of a write that is done all the same, or of a read
	Flip  bool                     // one bit of what is read is wrong
}

// Faulty is an FS with faults. Rules are asked in order; the hooks of all that
// hit are called, the first with an error or a flip decides.
type Faulty struct {
	fs    FS
	mu    sync.Mutex
	rules []*ruleState
}

type ruleState struct {
	Rule
	rng         *rand.Rand
	calls, hits int
}

// NewFaulty returns an FS that has the faults of the rules.
func NewFaulty(fsys FS, rules ...Rule) *Faulty {
	f := &Faulty{fs: fsys}
	f.Set(rules...)
	return f
}

// Set replaces the rules; counting begins anew.
func (f *Faulty) Set(rules ...Rule) {
	states := make([]*ruleState, len(rules))
	for i, r := range rules {
		if _, err := path.Match(r.Name, ""); err != nil {
			panic(fmt.Sprintf("disk: pattern %q of rule %d: %v", r.Name, i, err))
		}
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

// fault is what happens to one call.
type fault struct {
	err   error
	short float64
	flip  uint64 // which bit, plus one; 0: none
}

// ask counts a call and says what goes wrong with it.
func (f *Faulty) ask(op Op, name string) fault {
	var found fault
	var hooks []func(Op, string)
	f.mu.Lock()
	for _, r := range f.rules {
		if !r.hit(op, name) {
			continue
		}
		if r.Hook != nil {
			hooks = append(hooks, r.Hook)
		}
		if found.err == nil && found.flip == 0 {
			found.err, found.short = r.Err, r.Short
			if r.Flip && op == OpRead {
				found.flip = r.rng.Uint64()>>1 + 1
			}
		}
	}
	f.mu.Unlock()
	for _, hook := range hooks {
		hook(op, name)
	}
	if found.err != nil {
		found.err = &fs.PathError{Op: op.String(), Path: name, Err: found.err}
	}
	return found
}

// hit counts a call if it matches. The mutex of the Faulty is held.
func (r *ruleState) hit(op Op, name string) bool {
	if r.Op&op == 0 {
		return false
	}
	if r.Name != "" {
		if ok, _ := path.Match(r.Name, name); !ok {
			return false
		}
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

var opNames = []string{"create", "open", "remove", "rename", "list", "mkdir", "syncdir", "lock", "space", "close", "size", "truncate", "read", "write", "sync", "link", "stat", "allocate"}

func (o Op) String() string {
	s := ""
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			if s != "" {
				s += "|"
			}
			s += name
		}
	}
	return s
}

// Create implements [FS].
func (f *Faulty) Create(name string) (File, error) { return f.open(OpCreate, name, f.fs.Create) }

// Open implements [FS].
func (f *Faulty) Open(name string) (File, error) { return f.open(OpOpen, name, f.fs.Open) }

func (f *Faulty) open(op Op, name string, open func(string) (File, error)) (File, error) {
	if bad := f.ask(op, name); bad.err != nil {
		return nil, bad.err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, f: f}, nil
}

// Remove implements [FS].
func (f *Faulty) Remove(name string) error {
	if bad := f.ask(OpRemove, name); bad.err != nil {
		return bad.err
	}
	return f.fs.Remove(name)
}

// Rename implements [FS].
func (f *Faulty) Rename(oldName, newName string) error {
	if bad := f.ask(OpRename, newName); bad.err != nil {
		return bad.err
	}
	return f.fs.Rename(oldName, newName)
}

// Link implements [FS].
func (f *Faulty) Link(oldName, newName string) error {
	if bad := f.ask(OpLink, newName); bad.err != nil {
		return bad.err
	}
	return f.fs.Link(oldName, newName)
}

// Stat implements [FS].
func (f *Faulty) Stat(name string) (FileInfo, error) {
	if bad := f.ask(OpStat, name); bad.err != nil {
		return FileInfo{}, bad.err
	}
	return f.fs.Stat(name)
}

// List implements [FS].
func (f *Faulty) List(dir string) ([]string, error) {
	if bad := f.ask(OpList, dir); bad.err != nil {
		return nil, bad.err
	}
	return f.fs.List(dir)
}

// MkdirAll implements [FS].
func (f *Faulty) MkdirAll(dir string) error {
	if bad := f.ask(OpMkdir, dir); bad.err != nil {
		return bad.err
	}
	return f.fs.MkdirAll(dir)
}

// SyncDir implements [FS].
func (f *Faulty) SyncDir(dir string) error {
	if bad := f.ask(OpSyncDir, dir); bad.err != nil {
		return bad.err
	}
	return f.fs.SyncDir(dir)
}

// Lock implements [FS].
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if bad := f.ask(OpLock, name); bad.err != nil {
		return nil, bad.err
	}
	return f.fs.Lock(name)
}

// Space implements [FS].
func (f *Faulty) Space(dir string) (free, total int64, err error) {
	if bad := f.ask(OpSpace, dir); bad.err != nil {
		return 0, 0, bad.err
	}
	return f.fs.Space(dir)
}

type faultyFile struct {
	File
	f *Faulty
}

func (f *faultyFile) Close() error {
	bad := f.f.ask(OpClose, f.Name())
	err := f.File.Close() // close(2) that fails has closed all the same
	if bad.err != nil {
		return bad.err
	}
	return err
}

func (f *faultyFile) Size() (int64, error) {
	if bad := f.f.ask(OpSize, f.Name()); bad.err != nil {
		return 0, bad.err
	}
	return f.File.Size()
}

func (f *faultyFile) Truncate(size int64) error {
	if bad := f.f.ask(OpTruncate, f.Name()); bad.err != nil {
		return bad.err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Allocate(size int64) error {
	if bad := f.f.ask(OpAllocate, f.Name()); bad.err != nil {
		return bad.err
	}
	return f.File.Allocate(size)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	bad := f.f.ask(OpRead, f.Name())
	if bad.err != nil {
		n := int(float64(len(p)) * bad.short)
		if n > 0 {
			var err error
			if n, err = f.File.ReadAt(p[:n], off); err != nil {
				return n, err
			}
		}
		return n, bad.err
	}
	n, err := f.File.ReadAt(p, off)
	if bad.flip > 0 && n > 0 {
		bit := (bad.flip - 1) % uint64(n*8)
		p[bit/8] ^= 1 << (bit % 8)
	}
	return n, err
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if bad := f.f.ask(OpWrite, f.Name()); bad.err != nil {
		return f.short(p, off, bad)
	}
	return f.File.WriteAt(p, off)
}

// short writes the share of p that a failing write leaves.
func (f *faultyFile) short(p []byte, off int64, bad fault) (int, error) {
	n := int(float64(len(p)) * bad.short)
	if n > 0 {
		var err error
		if n, err = f.File.WriteAt(p[:n], off); err != nil {
			return n, err
		}
	}
	return n, bad.err
}

func (f *faultyFile) Sync() error {
	if bad := f.f.ask(OpSync, f.Name()); bad.err != nil {
		f.loseUnsynced()
		return bad.err
	}
	return f.File.Sync()
}

// WriteSync is a write and then a sync, so that a hook can come between them.
func (f *faultyFile) WriteSync(bufs [][]byte, off int64) error {
	if bad := f.f.ask(OpWrite, f.Name()); bad.err != nil {
		var all []byte
		for _, b := range bufs {
			all = append(all, b...)
		}
		_, err := f.short(all, off, bad)
		return err
	}
	for _, b := range bufs {
		if _, err := f.File.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return f.Sync()
}

// loseUnsynced makes a failed sync as final as that of Linux, which marks the
// pages clean: they are read as they were written, and no later sync writes
// them.
func (f *faultyFile) loseUnsynced() {
	if inner, ok := f.File.(interface{ loseUnsynced() }); ok {
		inner.loseUnsynced()
	}
}
