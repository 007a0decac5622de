package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/test/seeded"
)

const sector = 512

// twin says what may be found after a power cut, slowly and plainly: for each
// sector of a file the contents it may have, for each name the files.
type twin struct {
	names map[string]map[*twinFile]bool // nil: no such file
	now   map[string]*twinFile
}

type twinFile struct {
	sectors []map[byte]bool // every sector is filled with one byte
	now     []byte
	sizes   map[int]bool // in sectors
}

func (f *twinFile) grow(size int) {
	for len(f.sectors) < size {
		f.sectors = append(f.sectors, map[byte]bool{0: true})
	}
	for len(f.now) < size {
		f.now = append(f.now, 0)
	}
}

func (f *twinFile) write(at, count int, fill byte) {
	f.grow(at + count)
	for i := at; i < at+count; i++ {
		f.now[i] = fill
		f.sectors[i][fill] = true
		f.sizes[i+1] = true
	}
}

func (f *twinFile) truncate(size int) {
	f.grow(size)
	for i := size; i < len(f.sectors); i++ {
		f.sectors[i][0] = true // cut, and then made longer by a write behind it
	}
	f.now = f.now[:size]
	f.sizes[size] = true
}

func (f *twinFile) allocate(size int) {
	if size > len(f.now) {
		f.grow(size)
		f.sizes[size] = true
	}
}

func (f *twinFile) sync() {
	f.sectors = f.sectors[:len(f.now)]
	for i, b := range f.now {
		f.sectors[i] = map[byte]bool{b: true}
	}
	f.sizes = map[int]bool{len(f.now): true}
}

func (f *twinFile) check(t *rapid.T, name string, got []byte) {
	if len(got)%sector != 0 || !f.sizes[len(got)/sector] {
		t.Fatalf("%s has %d bytes, may have %v sectors", name, len(got), slices.Sorted(maps.Keys(f.sizes)))
	}
	for i := range len(got) / sector {
		s := got[i*sector:][:sector]
		if !bytes.Equal(s, bytes.Repeat(s[:1], sector)) {
			t.Fatalf("sector %d of %s is torn", i, name)
		}
		if !f.sectors[i][s[0]] {
			t.Fatalf("sector %d of %s holds %d, may hold %v", i, name, s[0], f.sectors[i])
		}
	}
}

func (w *twin) set(name string, f *twinFile) {
	if w.names[name] == nil {
		w.names[name] = map[*twinFile]bool{nil: true}
	}
	w.names[name][f] = true
	if f == nil {
		delete(w.now, name)
	} else {
		w.now[name] = f
	}
}

func (w *twin) syncNames() {
	for name := range w.names {
		w.names[name] = map[*twinFile]bool{w.now[name]: true}
	}
}

// TestPowerCutLeavesWhatTheModelAllows compares the disk with its twin through
// several lives.
func TestPowerCutLeavesWhatTheModelAllows(t *testing.T) {
	seeded.Check(t, func(rt *rapid.T) {
		m := disk.NewMem(disk.MemOptions{})
		for life := range 3 {
			w := &twin{names: map[string]map[*twinFile]bool{}, now: map[string]*twinFile{}}
			files := map[*twinFile]disk.File{}
			existing, err := m.List(".")
			must(rt, err)
			for _, name := range existing { // all that a power cut leaves is durable
				f, err := m.Open(name)
				must(rt, err)
				b, err := disk.ReadFile(m, name)
				must(rt, err)
				tf := &twinFile{}
				for i := 0; i < len(b); i += sector {
					tf.now = append(tf.now, b[i])
				}
				tf.sectors = make([]map[byte]bool, len(tf.now))
				tf.sync()
				files[tf] = f
				w.set(name, tf)
			}
			w.syncNames()
			step(rt, m, w, files, byte(life*80))
			after := m.Crash(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "crash"), 0)))
			for f := range maps.Values(files) {
				if err := f.Sync(); err == nil {
					rt.Fatal("a disk without power answered")
				}
			}
			checkCrash(rt, w, after)
			m = after
		}
	})
}

func step(rt *rapid.T, m *disk.Mem, w *twin, files map[*twinFile]disk.File, fill byte) {
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	pick := func() (string, *twinFile) {
		if len(w.now) == 0 {
			rt.Skip("no file")
		}
		n := rapid.SampledFrom(slices.Sorted(maps.Keys(w.now))).Draw(rt, "file")
		return n, w.now[n]
	}
	rt.Repeat(map[string]func(*rapid.T){
		"create": func(rt *rapid.T) {
			n := name.Draw(rt, "name")
			if w.now[n] != nil {
				rt.Skip("there")
			}
			f, err := m.Create(n)
			must(rt, err)
			tf := &twinFile{sizes: map[int]bool{0: true}}
			files[tf] = f
			w.set(n, tf)
		},
		"write": func(rt *rapid.T) {
			_, tf := pick()
			at, count := rapid.IntRange(0, 12).Draw(rt, "at"), rapid.IntRange(1, 20).Draw(rt, "count")
			fill++
			b := bytes.Repeat([]byte{fill}, count*sector)
			if rapid.Bool().Draw(rt, "sync") {
				must(rt, files[tf].WriteSync([][]byte{b[:len(b)/2], b[len(b)/2:]}, int64(at*sector)))
				tf.write(at, count, fill)
				tf.sync()
				return
			}
			_, err := files[tf].WriteAt(b, int64(at*sector))
			must(rt, err)
			tf.write(at, count, fill)
		},
		"truncate": func(rt *rapid.T) {
			_, tf := pick()
			size := rapid.IntRange(0, 20).Draw(rt, "size")
			must(rt, files[tf].Truncate(int64(size*sector)))
			tf.truncate(size)
		},
		"allocate": func(rt *rapid.T) {
			_, tf := pick()
			size := rapid.IntRange(1, 24).Draw(rt, "size")
			must(rt, files[tf].Allocate(int64(size*sector)))
			tf.allocate(size)
		},
		"sync": func(rt *rapid.T) {
			_, tf := pick()
			must(rt, files[tf].Sync())
			tf.sync()
		},
		"remove": func(rt *rapid.T) {
			n, _ := pick()
			must(rt, m.Remove(n))
			w.set(n, nil)
		},
		"rename": func(rt *rapid.T) {
			n, tf := pick()
			to := name.Draw(rt, "to")
			must(rt, m.Rename(n, to))
			if n != to {
				w.set(n, nil)
				w.set(to, tf)
			}
		},
		"syncdir": func(rt *rapid.T) { must(rt, m.SyncDir(".")); w.syncNames() },
		"": func(rt *rapid.T) {
			for n, tf := range w.now {
				if got := contents(rt, m, n); !bytes.Equal(got, widened(tf.now)) {
					rt.Fatalf("%s reads %d bytes that were not written", n, len(got))
				}
			}
		},
	})
}

func widened(sectors []byte) []byte {
	var b []byte
	for _, s := range sectors {
		b = append(b, bytes.Repeat([]byte{s}, sector)...)
	}
	return b
}

func checkCrash(rt *rapid.T, w *twin, after *disk.Mem) {
	for _, n := range []string{"a", "b", "c"} {
		may := w.names[n]
		got, err := disk.ReadFile(after, n)
		if err != nil {
			if len(may) > 0 && !may[nil] {
				rt.Fatalf("%s is gone", n)
			}
			continue
		}
		var only *twinFile
		for tf := range may {
			if tf != nil {
				if only != nil {
					only = nil // several files may have the name: the sizes of none bind
					break
				}
				only = tf
			}
		}
		if len(may) == 0 || len(may) == 1 && may[nil] {
			rt.Fatalf("%s is there", n)
		}
		if only != nil {
			only.check(rt, n, got)
		}
	}
}

// The model bounds what a crash may leave; this shows that a crash also leaves
// each of the ugly things that are allowed.
func TestPowerCutsAreUgly(t *testing.T) {
	rng := newRand(t)
	seen := map[string]int{}
	for range 600 {
		m := disk.NewMem(disk.MemOptions{})
		f := create(t, m, "f")
		must(t, f.WriteSync([][]byte{bytes.Repeat([]byte{'o'}, 8*4096)}, 0))
		must(t, m.SyncDir("."))
		_, err := f.WriteAt(bytes.Repeat([]byte{'1'}, 4*4096), 4*4096)
		must(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte{'2'}, 6*4096), 6*4096)
		must(t, err)
		create(t, m, "g")
		must(t, m.Rename("f", "h"))
		create(t, m, "i")
		after := m.Crash(rng)
		names, err := after.List(".")
		must(t, err)
		seen[fmt.Sprint(names)]++
		name := "f"
		if slices.Contains(names, "h") {
			name = "h"
		}
		b := contents(t, after, name)
		if !bytes.Equal(b[:4*4096], bytes.Repeat([]byte{'o'}, 4*4096)) {
			t.Fatal("a synced page that nobody wrote was changed")
		}
		one, two := bytes.Count(b, []byte{'1'}), bytes.Count(b, []byte{'2'})
		switch {
		case one == 0 && two == 0:
			seen["all lost"]++
		case one == 0 && two > 0:
			seen["the later write only"]++
		case two == 0:
			seen["the earlier write only"]++
		}
		if two > 0 && two < 6*4096 {
			seen["torn"]++
			if two%4096 != 0 {
				seen["torn within a page"]++
			}
			if b[6*4096] != '2' {
				seen["torn at its head"]++
			}
		}
		if len(b) == 12*4096 && b[len(b)-1] == 0 {
			seen["longer, with zeros"]++
		}
	}
	for _, want := range []string{
		"all lost", "the later write only", "the earlier write only", "torn", "torn within a page", "torn at its head", "longer, with zeros",
		"[f]", "[h]", "[f g]", "[g h]", "[g h i]", "[h i]", "[f i]", "[f g i]",
	} {
		if seen[want] == 0 {
			t.Errorf("never seen: %s", want)
		}
		delete(seen, want)
	}
	for what := range seen {
		t.Errorf("seen, though a rename is whole or not at all: %s", what)
	}
}

func TestCrashIsReproducible(t *testing.T) {
	run := func(seed uint64) []byte {
		m := disk.NewMem(disk.MemOptions{})
		must(t, m.MkdirAll("d"))
		for i := range 5 {
			f := create(t, m, fmt.Sprintf("d/%d", i))
			_, err := f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 20*sector), 0)
			must(t, err)
		}
		after := m.Crash(rand.New(rand.NewPCG(seed, 0)))
		var all []byte
		names, err := after.List("d")
		must(t, err)
		for _, n := range names {
			all = append(append(all, n...), contents(t, after, "d/"+n)...)
		}
		return all
	}
	different := false
	for seed := range uint64(20) {
		if !bytes.Equal(run(seed), run(seed)) {
			t.Fatal("the same seed leaves another disk")
		}
		different = different || !bytes.Equal(run(seed), run(seed+1))
	}
	if !different {
		t.Fatal("every seed leaves the same disk")
	}
}

func TestCloneIsAProcessKilled(t *testing.T) {
	rng := newRand(t)
	m := disk.NewMem(disk.MemOptions{Capacity: 1 << 20, MaxOpen: 2})
	must(t, m.MkdirAll("d"))
	f := create(t, m, "d/f")
	must(t, f.WriteSync([][]byte{[]byte("synced")}, 0))
	must(t, m.SyncDir("d"))
	_, err := f.WriteAt([]byte("cached"), 0)
	must(t, err)
	_, err = m.Lock("d/lock")
	must(t, err)
	create(t, m, "d/g")

	after := m.Clone()
	if !fileIs(t, after, "d/f", "cached") || !fileIs(t, after, "d/g", "") {
		t.Fatal("the page cache did not survive the process")
	}
	l, err := after.Lock("d/lock")
	must(t, err)
	must(t, l.Close())
	_, err = f.WriteAt([]byte("later!"), 0)
	must(t, err)
	if !fileIs(t, after, "d/f", "cached") {
		t.Fatal("the clone is written by the old process")
	}
	old, lost, kept := 0, 0, 0
	for range 100 {
		cut := after.Clone().Crash(rng)
		switch {
		case fileIs(t, cut, "d/f", "cached"):
			kept++
		case fileIs(t, cut, "d/f", "synced"):
			old++
		default:
			t.Fatal("neither what was synced nor what was written")
		}
		if _, err := cut.Open("d/g"); err != nil {
			lost++
		}
	}
	if old == 0 || kept == 0 || lost == 0 || lost == 100 {
		t.Fatalf("of 100 power cuts after the kill, %d kept the cache, %d did not, %d lost the name", kept, old, lost)
	}
}

func TestRenameAcrossDirectoriesIsWhole(t *testing.T) {
	rng := newRand(t)
	for range 200 {
		m := disk.NewMem(disk.MemOptions{})
		must(t, m.MkdirAll("from"))
		must(t, m.MkdirAll("to"))
		f := create(t, m, "from/f")
		must(t, f.WriteSync([][]byte{[]byte("x")}, 0))
		must(t, m.Rename("from/f", "to/f"))
		synced := rng.IntN(2) == 0
		if synced {
			must(t, m.SyncDir("to"))
		}
		after := m.Crash(rng)
		_, there := after.Open("to/f")
		_, left := after.Open("from/f")
		if there == nil && left == nil || synced && there != nil {
			t.Fatalf("synced %v: to: %v, from: %v", synced, there, left)
		}
	}
}

// A link is durable once its directory is synced, without it there or not; the
// file of two names is one file also after a power cut.
func TestLinkIsDurableWithItsDirectory(t *testing.T) {
	rng := newRand(t)
	lost := 0
	for range 200 {
		m := disk.NewMem(disk.MemOptions{Capacity: 1000})
		must(t, m.MkdirAll("from"))
		must(t, m.MkdirAll("to"))
		f := create(t, m, "from/f")
		must(t, f.WriteSync([][]byte{[]byte("x")}, 0))
		must(t, m.SyncDir("from"))
		must(t, m.Link("from/f", "to/f"))
		synced := rng.IntN(2) == 0
		if synced {
			must(t, m.SyncDir("to"))
		}
		after := m.Crash(rng)
		if !fileIs(t, after, "from/f", "x") {
			t.Fatal("the first name is lost")
		}
		if !fileIs(t, after, "to/f", "x") {
			if lost++; synced {
				t.Fatal("a synced link is lost")
			}
			continue
		}
		if free, _, err := after.Space("."); err != nil || free != 999 {
			t.Fatalf("%d bytes free: %v", free, err)
		}
		g, err := after.Open("to/f")
		must(t, err)
		must(t, g.WriteSync([][]byte{[]byte("y")}, 0))
		if !fileIs(t, after, "from/f", "y") {
			t.Fatal("one file became two")
		}
	}
	if lost == 0 {
		t.Fatal("no power cut lost a link that was not synced")
	}
}

// Of a file that was renamed twice, any of the three names may be found, but one.
func TestRenamedTwiceIsFoundOnce(t *testing.T) {
	rng := newRand(t)
	seen := map[string]bool{}
	for range 200 {
		m := disk.NewMem(disk.MemOptions{})
		create(t, m, "a")
		must(t, m.SyncDir("."))
		must(t, m.Rename("a", "b"))
		must(t, m.Rename("b", "c"))
		names, err := m.Crash(rng).List(".")
		must(t, err)
		if len(names) != 1 {
			t.Fatalf("found as %v", names)
		}
		seen[names[0]] = true
	}
	if len(seen) != 3 {
		t.Fatalf("found as %v only", seen)
	}
}

func TestFullDisk(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{Capacity: 1000})
	f := create(t, m, "f")
	must(t, f.WriteSync([][]byte{make([]byte, 600)}, 0))
	g := create(t, m, "g")
	n, err := g.WriteAt(make([]byte, 600), 0)
	if !disk.IsNoSpace(err) || n != 400 {
		t.Fatal(n, err)
	}
	if err := g.WriteSync([][]byte{make([]byte, 401)}, 0); !disk.IsNoSpace(err) {
		t.Fatal(err)
	}
	if err := f.Truncate(1001); !disk.IsNoSpace(err) {
		t.Fatal(err)
	}
	must(t, f.WriteSync([][]byte{make([]byte, 600)}, 0)) // in place
	space := func(want int64) {
		t.Helper()
		if free, total, err := m.Space("."); err != nil || free != want || total != 1000 {
			t.Fatal(free, total, err)
		}
	}
	space(0)
	must(t, m.Remove("g"))
	space(0) // it is open
	must(t, g.Close())
	space(400)
	must(t, f.Truncate(100))
	space(900)
	must(t, f.Close())
	must(t, disk.WriteFileAtomic(m, "f", make([]byte, 300)))
	space(700)
	if free, _, err := m.Clone().Space("."); err != nil || free != 700 {
		t.Fatal(free, err)
	}
}

func TestTooManyOpenFiles(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{MaxOpen: 2})
	a := create(t, m, "a")
	create(t, m, "b")
	wantErr(t, second(m.Create("c")), unix.EMFILE)
	wantErr(t, second(m.Open("a")), unix.EMFILE)
	if _, err := m.List("."); err != nil {
		t.Fatal(err)
	}
	must(t, a.Close())
	c := create(t, m, "c")
	must(t, c.Close())
	if names, _ := m.List("."); !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Fatal(names)
	}
}

// TestAtomicWriteAtEveryCall cuts the power before each change that
// WriteFileAtomic makes.
func TestAtomicWriteAtEveryCall(t *testing.T) {
	rng := newRand(t)
	for at, more := 1, true; more; at++ {
		for range 50 {
			m := disk.NewMem(disk.MemOptions{})
			must(t, disk.WriteFileAtomic(m, "f", []byte("old")))
			var after *disk.Mem
			f := disk.NewFaulty(m, disk.Rule{Op: disk.OpChange, Nth: at, Hook: func(disk.Op, string) { after = m.Crash(rng) }})
			err := disk.WriteFileAtomic(f, "f", []byte("new"))
			if after == nil {
				must(t, err)
				if more = false; at < 6 {
					t.Fatalf("all done by %d calls", at-1)
				}
				after = m.Crash(rng)
				if !fileIs(t, after, "f", "new") {
					t.Fatal("the new content is lost after return")
				}
			}
			if !fileIs(t, after, "f", "old") && !fileIs(t, after, "f", "new") {
				t.Fatalf("cut at call %d: neither old nor new", at)
			}
			if err := disk.WriteFileAtomic(after, "f", []byte("next")); err != nil || !fileIs(t, after, "f", "next") {
				t.Fatalf("the next write after a cut: %v", err)
			}
		}
	}
}

func TestPowerIsOff(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{})
	f := create(t, m, "f")
	m.Crash(newRand(t))
	for what, err := range map[string]error{
		"create": second(m.Create("g")), "open": second(m.Open("f")), "remove": m.Remove("f"), "rename": m.Rename("f", "g"),
		"link": m.Link("f", "g"), "stat": second(m.Stat("f")),
		"list": second(m.List(".")), "mkdir": m.MkdirAll("d"), "syncdir": m.SyncDir("."), "lock": second(m.Lock("l")), "space": third(m.Space(".")),
		"write": second(f.WriteAt([]byte{1}, 0)), "read": second(f.ReadAt(make([]byte, 1), 0)), "writesync": f.WriteSync(nil, 0),
		"size": second(f.Size()), "truncate": f.Truncate(0), "sync": f.Sync(),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	wantErr(t, second(m.Open("nothing")), unix.EIO)
}

// TestCopiesOfADiskAreApart: what is written to a disk, or cut off there, after it was copied is
// not on the copy, nor the other way round, though they share what neither has changed.
func TestCopiesOfADiskAreApart(t *testing.T) {
	content := func(m *disk.Mem) []byte {
		t.Helper()
		f, err := m.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		return b
	}
	change := func(m *disk.Mem, do func(disk.File) error) {
		t.Helper()
		f, err := m.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(f), f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write := func(b []byte, off int64) func(disk.File) error {
		return func(f disk.File) error { _, err := f.WriteAt(b, off); return err }
	}
	first := disk.NewMem(disk.MemOptions{})
	f, err := first.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.Repeat([]byte{7}, 3*4096+100)
	if _, err := f.WriteAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), first.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	second := first.Clone()
	change(first, write([]byte{1}, 0))
	change(second, write(make([]byte, 4096), 4096))
	third := second.Clone().Crash(rand.New(rand.NewPCG(1, 1)))
	change(second, func(f disk.File) error { return f.Truncate(8192) })
	change(third, func(f disk.File) error { return f.Truncate(8200) })
	change(third, func(f disk.File) error { return f.Allocate(9000) })

	ones, twos := slices.Clone(whole), slices.Clone(whole)
	ones[0] = 1
	clear(twos[4096:8192])
	threes := append(slices.Clone(twos[:8200]), make([]byte, 800)...)
	for name, pair := range map[string][2][]byte{
		"first": {content(first), ones}, "second": {content(second), twos[:8192]}, "third": {content(third), threes},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("the %s disk has %d bytes, %v …, want %d", name, len(pair[0]), pair[0][:8], len(pair[1]))
		}
	}
}
