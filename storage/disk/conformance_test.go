package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/disk"
)

// eachFS runs a test over every implementation.
func eachFS(t *testing.T, test func(t *testing.T, fsys disk.FS)) {
	t.Helper()
	t.Run("auto", func(t *testing.T) { test(t, openOS(t, disk.Auto)) })
	t.Run("pwrite", func(t *testing.T) { test(t, openOS(t, disk.Pwrite)) })
	t.Run("io_uring", func(t *testing.T) { test(t, openOS(t, disk.IOUring)) })
	t.Run("mem", func(t *testing.T) { test(t, disk.NewMem(disk.MemOptions{})) })
	t.Run("faulty", func(t *testing.T) { test(t, disk.NewFaulty(disk.NewMem(disk.MemOptions{}))) })
}

func openOS(t testing.TB, mode disk.IOMode) *disk.OS {
	t.Helper()
	fsys, err := disk.OpenOSWith(t.TempDir(), disk.OSOptions{IO: mode})
	if err != nil {
		t.Fatal(err)
	}
	if got, why := fsys.IO(); got != mode {
		t.Skipf("io mode is %v: %v", got, why)
	}
	return fsys
}

func create(t testing.TB, fsys disk.FS, name string) disk.File {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// failer is a testing.TB or a *rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t failer, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func contents(t failer, fsys disk.FS, name string) []byte {
	t.Helper()
	b, err := disk.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNamesAreFilesOfOneTree(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		must(t, fsys.MkdirAll("a/b"))
		must(t, fsys.MkdirAll("a/b"))
		f := create(t, fsys, "a/b/f")
		if f.Name() != "a/b/f" {
			t.Fatalf("name %q", f.Name())
		}
		create(t, fsys, "a/e")
		for _, c := range []struct {
			dir  string
			want []string
		}{{".", []string{"a"}}, {"a", []string{"b", "e"}}, {"a/b", []string{"f"}}} {
			got, err := fsys.List(c.dir)
			if err != nil || !slices.Equal(got, c.want) {
				t.Fatalf("list %s: %v %v, want %v", c.dir, got, err, c.want)
			}
			must(t, fsys.SyncDir(c.dir))
		}
		for what, err := range map[string]error{
			"create":      second(fsys.Create("a/e")),
			"create dir":  second(fsys.Create("a/b")),
			"open":        second(fsys.Open("a/none")),
			"open in":     second(fsys.Open("none/f")),
			"create in":   second(fsys.Create("none/f")),
			"remove":      fsys.Remove("a/none"),
			"rename":      fsys.Rename("a/none", "a/x"),
			"link":        fsys.Link("a/none", "a/x"),
			"link to":     fsys.Link("a/e", "none/x"),
			"link over":   fsys.Link("a/e", "a/e"),
			"link on dir": fsys.Link("a/e", "a/b"),
			"link dir":    fsys.Link("a/b", "a/x"),
			"stat":        second(fsys.Stat("a/none")),
			"stat dir":    second(fsys.Stat("a/b")),
			"list":        second(fsys.List("none")),
			"syncdir":     fsys.SyncDir("none"),
			"remove dir":  fsys.Remove("a/b"),
			"open dir":    second(fsys.Open("a/b")),
			"mkdir file":  fsys.MkdirAll("a/e"),
			"mkdir below": fsys.MkdirAll("a/e/x"),
		} {
			want := fs.ErrNotExist
			switch what {
			case "create", "create dir", "link over", "link on dir":
				want = fs.ErrExist
			case "remove dir", "open dir", "link dir", "stat dir":
				want = unix.EISDIR
			case "mkdir file", "mkdir below":
				want = unix.ENOTDIR
			}
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		must(t, fsys.Remove("a/e"))
		wantErr(t, second(fsys.Open("a/e")), fs.ErrNotExist)
	})
}

func second[T any](_ T, err error) error { return err }

func TestNamesStayBelowTheRoot(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		must(t, fsys.MkdirAll("a"))
		create(t, fsys, "f")
		for _, name := range []string{"", "/etc/x", "..", "../x", "a/../../x", "a//x", "a/./x", "a/x/", "./x"} {
			for what, err := range map[string]error{
				"create":    second(fsys.Create(name)),
				"open":      second(fsys.Open(name)),
				"remove":    fsys.Remove(name),
				"list":      second(fsys.List(name)),
				"mkdir":     fsys.MkdirAll(name),
				"syncdir":   fsys.SyncDir(name),
				"lock":      second(fsys.Lock(name)),
				"space":     third(fsys.Space(name)),
				"rename":    fsys.Rename(name, "a/x"),
				"rename to": fsys.Rename("f", name),
				"link":      fsys.Link(name, "a/x"),
				"link to":   fsys.Link("f", name),
				"stat":      second(fsys.Stat(name)),
			} {
				if !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("%s %q: %v", what, name, err)
				}
			}
		}
	})
}

func third[A, B any](_ A, _ B, err error) error { return err }

func TestRenameReplaces(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		must(t, fsys.MkdirAll("d"))
		must(t, disk.WriteFileAtomic(fsys, "d/f", []byte("one")))
		must(t, disk.WriteFileAtomic(fsys, "d/f", []byte("two")))
		if got := contents(t, fsys, "d/f"); string(got) != "two" {
			t.Fatalf("%q", got)
		}
		old, err := fsys.Open("d/f")
		must(t, err)
		defer old.Close()
		must(t, disk.WriteFileAtomic(fsys, "g", []byte("three")))
		must(t, fsys.Rename("g", "d/f"))
		if got := contents(t, fsys, "d/f"); string(got) != "three" {
			t.Fatalf("%q", got)
		}
		buf := make([]byte, 3)
		if _, err := old.ReadAt(buf, 0); err != nil || string(buf) != "two" {
			t.Fatalf("an open file changed: %q %v", buf, err)
		}
		names, err := fsys.List("d")
		if err != nil || !slices.Equal(names, []string{"f"}) {
			t.Fatalf("%v %v", names, err)
		}
	})
}

func TestLinkedFileHasTwoNames(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		must(t, fsys.MkdirAll("d"))
		f := create(t, fsys, "f")
		must(t, f.WriteSync([][]byte{[]byte("one")}, 0))
		must(t, fsys.Link("f", "d/g"))
		must(t, f.WriteSync([][]byte{[]byte("two")}, 0))
		if got := contents(t, fsys, "d/g"); string(got) != "two" {
			t.Fatalf("%q", got)
		}
		must(t, fsys.Rename("f", "d/g")) // nothing to do
		must(t, fsys.Remove("f"))
		if got := contents(t, fsys, "d/g"); string(got) != "two" {
			t.Fatalf("%q", got)
		}
	})
}

func TestOneOfManyLinksWins(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		var wg sync.WaitGroup
		won := make(chan string, 8)
		for i := range 8 {
			name := fmt.Sprint(i)
			must(t, create(t, fsys, name).WriteSync([][]byte{[]byte(name)}, 0))
			wg.Go(func() {
				switch err := fsys.Link(name, "f"); {
				case err == nil:
					won <- name
				case !errors.Is(err, fs.ErrExist):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d links were made", len(won))
		}
		if got, want := contents(t, fsys, "f"), <-won; string(got) != want {
			t.Fatalf("%q, but %q was told that it won", got, want)
		}
	})
}

func TestStatIsOfTheContent(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		f := create(t, fsys, "f")
		made, err := fsys.Stat("f")
		must(t, err)
		if since := time.Since(made.Modified); made.Size != 0 || since < -time.Minute || since > time.Minute {
			t.Fatalf("%+v", made)
		}
		must(t, f.WriteSync([][]byte{[]byte("four")}, 0))
		written, err := fsys.Stat("f")
		if err != nil || written.Size != 4 || written.Modified.Before(made.Modified) {
			t.Fatalf("%+v after %+v: %v", written, made, err)
		}
		must(t, fsys.Rename("f", "g"))
		if renamed, err := fsys.Stat("g"); err != nil || !renamed.Modified.Equal(written.Modified) || renamed.Size != 4 {
			t.Fatalf("%+v, was %+v: %v", renamed, written, err)
		}
	})
}

func TestReadsAndWritesAtOffsets(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		f := create(t, fsys, "f")
		size := func(want int64) {
			t.Helper()
			if got, err := f.Size(); err != nil || got != want {
				t.Fatalf("size %d %v, want %d", got, err, want)
			}
		}
		size(0)
		if n, err := f.WriteAt([]byte("tail"), 10); n != 4 || err != nil {
			t.Fatal(n, err)
		}
		size(14)
		must(t, f.WriteSync([][]byte{[]byte("he"), nil, []byte("ad")}, 0))
		must(t, f.Sync())
		want := []byte("head\x00\x00\x00\x00\x00\x00tail")
		if got := contents(t, fsys, "f"); !bytes.Equal(got, want) {
			t.Fatalf("%q", got)
		}
		buf := make([]byte, 8)
		if n, err := f.ReadAt(buf, 10); n != 4 || err != io.EOF || string(buf[:n]) != "tail" {
			t.Fatalf("%d %v %q", n, err, buf)
		}
		if n, err := f.ReadAt(buf, 100); n != 0 || err != io.EOF {
			t.Fatal(n, err)
		}
		if n, err := f.ReadAt(nil, 100); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := f.WriteAt(nil, 100); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		must(t, f.WriteSync(nil, 100))
		must(t, f.WriteSync([][]byte{{}}, 100))
		size(14)
		must(t, f.Truncate(2))
		must(t, f.Truncate(4))
		if got := contents(t, fsys, "f"); string(got) != "he\x00\x00" {
			t.Fatalf("%q", got)
		}
		for _, err := range []error{second(f.ReadAt(buf, -1)), second(f.WriteAt(buf, -1)), f.Truncate(-1), f.WriteSync([][]byte{buf}, -1)} {
			if err == nil {
				t.Fatal("a negative offset was taken")
			}
		}
		size(4)
	})
}

// TestAllocatedReadsAsZeros: what was there stays, a file never gets shorter, and
// large writes into what was allocated are found again.
func TestAllocatedReadsAsZeros(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		f := create(t, fsys, "f")
		must(t, f.WriteSync([][]byte{[]byte("head")}, 0))
		const size = 1 << 20
		switch err := f.Allocate(size); {
		case errors.Is(err, errors.ErrUnsupported):
			if got := contents(t, fsys, "f"); string(got) != "head" {
				t.Fatalf("%d bytes after an allocation that cannot be had", len(got))
			}
			return
		case err != nil:
			t.Fatal(err)
		}
		must(t, f.Allocate(10))
		must(t, f.Sync())
		want := append([]byte("head"), make([]byte, size-4)...)
		if got := contents(t, fsys, "f"); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, want head and zeros, %d", len(got), size)
		}
		block := bytes.Repeat([]byte{7}, 256<<10)
		must(t, f.WriteSync([][]byte{block}, size/2))
		copy(want[size/2:], block)
		if got := contents(t, fsys, "f"); !bytes.Equal(got, want) {
			t.Fatal("what was written into allocated blocks is not there")
		}
	})
}

func TestGatherWriteKeepsOrderBeyondOneCall(t *testing.T) {
	rng := newRand(t)
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		f := create(t, fsys, "f")
		for _, count := range []int{1, 1023, 1024, 1025, 2048, 5000} {
			bufs, want := make([][]byte, count), []byte(nil)
			for i := range bufs {
				bufs[i] = bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(20))
				want = append(want, bufs[i]...)
			}
			kept := slices.Clone(bufs)
			must(t, f.WriteSync(bufs, 4096))
			for i := range bufs {
				if !bytes.Equal(kept[i], bufs[i]) {
					t.Fatal("the caller's buffers were changed")
				}
			}
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, 4096); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d buffers: %v", count, err)
			}
		}
	})
}

func TestClosedFileRefuses(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		f := create(t, fsys, "f")
		must(t, f.Close())
		for what, err := range map[string]error{
			"close": f.Close(), "sync": f.Sync(), "truncate": f.Truncate(1), "allocate": f.Allocate(1),
			"read": second(f.ReadAt(make([]byte, 1), 0)), "write": second(f.WriteAt([]byte{1}, 0)),
			"size": second(f.Size()), "writesync": f.WriteSync([][]byte{{1}}, 0),
		} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

func TestRemovedFileIsReadWhileOpen(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		f := create(t, fsys, "f")
		must(t, f.WriteSync([][]byte{[]byte("x")}, 0))
		must(t, fsys.Remove("f"))
		buf := make([]byte, 1)
		if _, err := f.ReadAt(buf, 0); err != nil || buf[0] != 'x' {
			t.Fatal(err, buf)
		}
		must(t, f.WriteSync([][]byte{[]byte("yy")}, 0))
	})
}

func TestLockIsHeldOnce(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		l, err := fsys.Lock("lock")
		must(t, err)
		var locked *disk.LockedError
		if _, err := fsys.Lock("lock"); !errors.As(err, &locked) || locked.PID != unix.Getpid() {
			t.Fatalf("second lock: %v", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock("lock")
		must(t, err)
		must(t, l.Close())
	})
}

// TestLockIsAFile: who looks for what others have locked finds it by its name, and
// a name that was removed is free for a lock of its own.
func TestLockIsAFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		must(t, fsys.MkdirAll("d"))
		wantErr(t, second(fsys.Lock("d")), unix.EISDIR)
		l, err := fsys.Lock("lock")
		must(t, err)
		must(t, second(fsys.Stat("lock")))
		if names, err := fsys.List("."); err != nil || !slices.Contains(names, "lock") {
			t.Fatalf("%v %v", names, err)
		}
		must(t, fsys.Remove("lock"))
		other, err := fsys.Lock("lock")
		must(t, err)
		must(t, l.Close())
		var locked *disk.LockedError
		if err := second(fsys.Lock("lock")); !errors.As(err, &locked) {
			t.Fatalf("locked by who came after: %v", err)
		}
		must(t, other.Close())
		must(t, second(fsys.Stat("lock")))
	})
}

// TestLockLeadsToItsName: who has it removes it, and who waits for the file that
// was there must not think that it holds the name.
func TestLockLeadsToItsName(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		const turns = 300
		var holders, held atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for held.Load() < turns && !t.Failed() {
					l, err := fsys.Lock("lock")
					if locked := (*disk.LockedError)(nil); errors.As(err, &locked) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					held.Add(1)
					if n := holders.Add(1); n > 1 {
						t.Errorf("%d hold one name", n)
					}
					if _, err := fsys.Stat("lock"); err != nil {
						t.Error(err)
					}
					holders.Add(-1)
					if err := errors.Join(fsys.Remove("lock"), l.Close()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestSpaceIsThere(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		free, total, err := fsys.Space(".")
		if err != nil || free <= 0 || total < free {
			t.Fatal(free, total, err)
		}
	})
}

func TestManyFilesAreWrittenAtOnce(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		shared := create(t, fsys, "shared")
		var wg sync.WaitGroup
		for i := range 8 {
			own := create(t, fsys, fmt.Sprint(i))
			wg.Go(func() {
				for n := range 20 {
					b := bytes.Repeat([]byte{byte(i), byte(n)}, 600)
					if err := own.WriteSync([][]byte{b[:100], b[100:]}, int64(n*1200)); err != nil {
						t.Error(err)
					}
					if err := shared.WriteSync([][]byte{b}, int64((n*8+i)*1200)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		all := contents(t, fsys, "shared")
		for i := range 8 {
			for n := range 20 {
				want := bytes.Repeat([]byte{byte(i), byte(n)}, 600)
				if got := contents(t, fsys, fmt.Sprint(i))[n*1200:][:1200]; !bytes.Equal(got, want) {
					t.Fatalf("file %d, write %d", i, n)
				}
				if got := all[(n*8+i)*1200:][:1200]; !bytes.Equal(got, want) {
					t.Fatalf("shared file, write %d of %d", n, i)
				}
			}
		}
	})
}

func TestCloseWhileWriting(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		for i := range 10 {
			f := create(t, fsys, fmt.Sprint(i))
			started := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				once := sync.OnceFunc(func() { close(started) })
				for {
					err := f.WriteSync([][]byte{make([]byte, 4096)}, 0)
					once()
					if err != nil {
						if !errors.Is(err, fs.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
			<-started
			must(t, f.Close())
			wg.Wait()
		}
	})
}

func TestModesHaveNames(t *testing.T) {
	for _, m := range []disk.IOMode{disk.Auto, disk.Pwrite, disk.IOUring} {
		var got disk.IOMode
		if err := got.UnmarshalText([]byte(m.String())); err != nil || got != m {
			t.Fatal(m, got, err)
		}
	}
	var m disk.IOMode
	if err := m.UnmarshalText([]byte("uring")); err == nil {
		t.Fatal("took a name that is none")
	}
}

// TestLargeAndSmallWritesMix: whichever way a write takes, what is read is what
// was written last.
func TestLargeAndSmallWritesMix(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys disk.FS) {
		rng := newRand(t)
		const size = 1 << 20
		f := create(t, fsys, "f")
		want := make([]byte, size)
		must(t, f.WriteSync([][]byte{want}, 0))
		source := make([]byte, 2*size)
		for i := range source {
			source[i] = byte(rng.Uint32())
		}
		for range 150 {
			n := rng.IntN(size/2) + 1
			off := rng.IntN(size - n)
			from := rng.IntN(size)
			if rng.IntN(3) > 0 { // aligned: the large ones may go past the page cache
				n, off, from = (n+4095)&^4095, off&^4095, from&^4095
			}
			b := source[from : from+n]
			copy(want[off:], b)
			switch rng.IntN(3) {
			case 0:
				_, err := f.WriteAt(b, int64(off))
				must(t, err)
			case 1:
				must(t, f.WriteSync([][]byte{b}, int64(off)))
			default:
				half := n / 2 &^ 4095
				must(t, f.WriteSync([][]byte{b[:half], b[half:]}, int64(off)))
			}
			got := make([]byte, size)
			if _, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("after a write of %d bytes at %d", n, off)
			}
		}
		must(t, f.Sync())
	})
}
