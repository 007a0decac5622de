package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
)

func TestRulesHitTheCallsTheyName(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		rule disk.Rule
		want []int // of ten writes to each of a/x and b/y in turn, which fail
	}{
		{disk.Rule{Op: disk.OpWrite, Nth: 3}, []int{3}},
		{disk.Rule{Op: disk.OpWrite, From: 18}, []int{18, 19, 20}},
		{disk.Rule{Op: disk.OpWrite, Every: 8}, []int{8, 16}},
		{disk.Rule{Op: disk.OpWrite, Every: 2, Limit: 3}, []int{2, 4, 6}},
		{disk.Rule{Name: "b/*", Nth: 2}, []int{4}},
		{disk.Rule{Name: "*", Nth: 1}, nil},
		{disk.Rule{Op: disk.OpSync}, nil},
		{disk.Rule{Op: disk.OpSync | disk.OpWrite, Name: "a/x", From: 10}, []int{19}},
	} {
		t.Run(fmt.Sprintf("%v/%+v", c.rule.Op, c.rule), func(t *testing.T) {
			m := disk.NewMem(disk.MemOptions{})
			must(t, m.MkdirAll("a"))
			must(t, m.MkdirAll("b"))
			f := disk.NewFaulty(m)
			files := []disk.File{create(t, f, "a/x"), create(t, f, "b/y")}
			c.rule.Err = boom
			f.Set(c.rule)
			var got []int
			for i := 1; i <= 20; i++ {
				_, err := files[(i-1)%2].WriteAt([]byte{1}, 0)
				if err != nil {
					wantErr(t, err, boom)
					got = append(got, i)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Fatalf("failed writes %v, want %v", got, c.want)
			}
			if _, hit := f.Calls(0); hit != len(got) {
				t.Fatalf("%d hits", hit)
			}
		})
	}
}

func TestChanceIsReproducible(t *testing.T) {
	run := func(seed uint64) (failed []int) {
		f := disk.NewFaulty(disk.NewMem(disk.MemOptions{}), disk.Rule{Op: disk.OpWrite, Chance: 0.3, Seed: seed, Err: unix.EIO})
		file := create(t, f, "f")
		for i := range 1000 {
			if _, err := file.WriteAt([]byte{1}, 0); err != nil {
				failed = append(failed, i)
			}
		}
		return failed
	}
	a, b, c := run(1), run(1), run(2)
	if !slices.Equal(a, b) || slices.Equal(a, c) || len(a) < 200 || len(a) > 400 {
		t.Fatalf("%d %d %d failures", len(a), len(b), len(c))
	}
}

func TestEveryCallCanFail(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{})
	must(t, m.MkdirAll("d"))
	f := disk.NewFaulty(m)
	file, other := create(t, f, "d/f"), create(t, f, "d/other")
	buf := []byte("x")
	calls := map[disk.Op]func() error{
		disk.OpCreate:   func() error { return second(f.Create("d/g")) },
		disk.OpOpen:     func() error { return second(f.Open("d/f")) },
		disk.OpRemove:   func() error { return f.Remove("d/f") },
		disk.OpRename:   func() error { return f.Rename("d/f", "d/g") },
		disk.OpList:     func() error { return second(f.List("d")) },
		disk.OpMkdir:    func() error { return f.MkdirAll("d") },
		disk.OpSyncDir:  func() error { return f.SyncDir("d") },
		disk.OpLock:     func() error { return second(f.Lock("d/lock")) },
		disk.OpSpace:    func() error { return third(f.Space("d")) },
		disk.OpClose:    func() error { return other.Close() },
		disk.OpSize:     func() error { return second(file.Size()) },
		disk.OpTruncate: func() error { return file.Truncate(0) },
		disk.OpAllocate: func() error { return file.Allocate(1) },
		disk.OpRead:     func() error { return second(file.ReadAt(buf, 0)) },
		disk.OpWrite:    func() error { return second(file.WriteAt(buf, 0)) },
		disk.OpSync:     func() error { return file.Sync() },
		disk.OpLink:     func() error { return f.Link("d/f", "d/g") },
		disk.OpStat:     func() error { return second(f.Stat("d/f")) },
	}
	for op := disk.OpCreate; op < disk.OpAny; op <<= 1 {
		if calls[op] == nil {
			t.Fatalf("no call for %v", op)
		}
		f.Set(disk.Rule{Op: op, Err: unix.EIO})
		wantErr(t, calls[op](), unix.EIO)
		if op == disk.OpWrite || op == disk.OpSync {
			wantErr(t, file.WriteSync([][]byte{buf}, 0), unix.EIO)
		}
	}
}

func TestShortWritesAndReads(t *testing.T) {
	f := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
	file := create(t, f, "f")
	f.Set(disk.Rule{Op: disk.OpWrite, Err: unix.ENOSPC, Short: 0.5})
	n, err := file.WriteAt([]byte("abcd"), 0)
	wantErr(t, err, unix.ENOSPC)
	if n != 2 {
		t.Fatal(n)
	}
	wantErr(t, file.WriteSync([][]byte{[]byte("ef"), []byte("ghij")}, 2), unix.ENOSPC)
	f.Set(disk.Rule{Op: disk.OpRead, Nth: 1, Err: unix.EIO, Short: 0.5})
	buf := make([]byte, 4)
	n, err = file.ReadAt(buf, 0)
	wantErr(t, err, unix.EIO)
	if n != 2 || string(buf[:n]) != "ab" {
		t.Fatalf("%d %q", n, buf)
	}
	if got := contents(t, f, "f"); string(got) != "abefg" {
		t.Fatalf("%q", got)
	}
}

func TestFlipChangesOneBitOfARead(t *testing.T) {
	f := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
	file := create(t, f, "f")
	want := bytes.Repeat([]byte{0xa5}, 1000)
	must(t, file.WriteSync([][]byte{want}, 0))
	f.Set(disk.Rule{Op: disk.OpRead, Every: 2, Flip: true})
	for i := range 20 {
		buf := make([]byte, 1200)
		n, err := file.ReadAt(buf, 0)
		if n != 1000 || err != io.EOF {
			t.Fatal(n, err)
		}
		flipped := 0
		for j := range want {
			flipped += bits.OnesCount8(buf[j] ^ want[j])
		}
		if flipped != i%2 {
			t.Fatalf("read %d: %d bits", i, flipped)
		}
	}
	f.Set()
	if got := contents(t, f, "f"); !bytes.Equal(got, want) {
		t.Fatal("the file itself was changed")
	}
}

func TestHookRunsBetweenWriteAndSync(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{})
	var between *disk.Mem
	f := disk.NewFaulty(m, disk.Rule{Op: disk.OpSync, Name: "f", Nth: 1, Hook: func(disk.Op, string) { between = m.Clone() }})
	file := create(t, f, "f")
	must(t, f.SyncDir("."))
	must(t, file.WriteSync([][]byte{[]byte("x")}, 0))
	if got := contents(t, between, "f"); string(got) != "x" {
		t.Fatalf("kill between write and sync: %q", got)
	}
	lost := false
	for i := range uint64(50) {
		after := between.Clone().Crash(rand.New(rand.NewPCG(i, 0)))
		lost = lost || !fileIs(t, after, "f", "x")
	}
	if !lost {
		t.Fatal("no power cut between write and sync lost the write")
	}
}

func fileIs(t testing.TB, fsys disk.FS, name, want string) bool {
	t.Helper()
	got, err := disk.ReadFile(fsys, name)
	return err == nil && string(got) == want
}

// A later sync that succeeds must not hide that an earlier one failed: the
// kernel has marked the pages clean.
func TestFailedSyncLosesItsWritesForGood(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{})
	f := disk.NewFaulty(m)
	file := create(t, f, "f")
	must(t, file.WriteSync([][]byte{[]byte("old")}, 0))
	must(t, f.SyncDir("."))
	f.Set(disk.Rule{Op: disk.OpSync, Nth: 1, Err: unix.EIO})
	wantErr(t, file.WriteSync([][]byte{[]byte("new")}, 0), unix.EIO)
	must(t, file.Sync())
	if !fileIs(t, m, "f", "new") {
		t.Fatal("the page cache lost the write")
	}
	if after := m.Crash(newRand(t)); !fileIs(t, after, "f", "old") {
		t.Fatal("a write whose sync failed came back")
	}
}
