package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
)

// object reads an object, or says that there is none.
func object(t testing.TB, b bucket.Bucket, key string) (data []byte, there bool) {
	t.Helper()
	data, err := bucket.ReadAll(t.Context(), b, key, 1<<30)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, false
	}
	must(t, err)
	return data, true
}

// pattern is content of several writes, each sector of which tells what it is of.
func pattern(size int, fill byte) bucket.Bytes {
	return bytes.Repeat([]byte{fill}, size)
}

// TestPutIsDurable cuts the power right after the return.
func TestPutIsDurable(t *testing.T) {
	rng := newRand(t)
	for round := range 25 {
		m := disk.NewMem(disk.MemOptions{})
		d := openDir(t, m)
		size := rng.IntN(300<<10) + 1
		must(t, d.Put(t.Context(), "a/new", pattern(size, 'n')))
		must(t, d.Put(t.Context(), "a/replaced", pattern(10, 'o')))
		must(t, d.Put(t.Context(), "a/replaced", pattern(size, 'r')))
		must(t, d.PutIfAbsent(t.Context(), fmt.Sprintf("b%d/once", round), pattern(5000, '1')))
		after := openDir(t, m.Crash(rng))
		for key, want := range map[string]bucket.Bytes{
			"a/new": pattern(size, 'n'), "a/replaced": pattern(size, 'r'), fmt.Sprintf("b%d/once", round): pattern(5000, '1'),
		} {
			if got, there := object(t, after, key); !there || !bytes.Equal(got, want) {
				t.Fatalf("round %d: %s after a power cut: there %v, %d bytes, want %d", round, key, there, len(got), len(want))
			}
		}
	}
}

// TestDeleteIsDurable: what is forgotten must not come back as an orphan.
func TestDeleteIsDurable(t *testing.T) {
	rng := newRand(t)
	for range 40 {
		m := disk.NewMem(disk.MemOptions{})
		d := openDir(t, m)
		must(t, d.Put(t.Context(), "a/k", pattern(10, 'x')))
		must(t, d.Delete(t.Context(), "a/k"))
		if _, there := object(t, openDir(t, m.Crash(rng)), "a/k"); there {
			t.Fatal("a deleted object came back")
		}
	}
}

// TestNameThatIsTakenIsDurable: who took it was killed, or failed, before it synced
// the name; and who is told that it exists believes that it stays.
func TestNameThatIsTakenIsDurable(t *testing.T) {
	rng := newRand(t)
	for round := range 40 {
		m := disk.NewMem(disk.MemOptions{})
		faulty := disk.NewFaulty(m)
		d := openDir(t, faulty)
		must(t, d.PutIfAbsent(t.Context(), "meta/1", []byte("before")))
		faulty.Set(disk.Rule{Op: disk.OpSyncDir, Name: "data/bucket/meta", Err: unix.EIO})
		wantErr(t, d.PutIfAbsent(t.Context(), "meta/2", []byte("first")), unix.EIO)
		faulty.Set()
		wantErr(t, openDir(t, m.Clone()).PutIfAbsent(t.Context(), "meta/2", []byte("of another")), bucket.ErrExists)
		wantErr(t, d.PutIfAbsent(t.Context(), "meta/2", []byte("again")), bucket.ErrExists)
		if got, there := object(t, openDir(t, m.Crash(rng)), "meta/2"); !there || string(got) != "first" {
			t.Fatalf("round %d: after a power cut: there %v, %q", round, there, got)
		}
	}
}

// TestPowerCutAtEveryCall leaves the old object, or the new one whole, or none if
// there was none, and nothing of what was being written.
func TestPowerCutAtEveryCall(t *testing.T) {
	rng := newRand(t)
	const size = 1<<20 + 5000
	for name, act := range map[string]func(context.Context, bucket.Bucket) error{
		"put":     func(ctx context.Context, b bucket.Bucket) error { return b.Put(ctx, "x/y/k", pattern(size, 'n')) },
		"replace": func(ctx context.Context, b bucket.Bucket) error { return b.Put(ctx, "old/k", pattern(size, 'n')) },
		"putifabsent": func(ctx context.Context, b bucket.Bucket) error {
			return b.PutIfAbsent(ctx, "x/y/k", pattern(size, 'n'))
		},
		"delete": func(ctx context.Context, b bucket.Bucket) error { return b.Delete(ctx, "old/k") },
	} {
		t.Run(name, func(t *testing.T) {
			key := "x/y/k"
			if name == "replace" || name == "delete" {
				key = "old/k"
			}
			for at, more := 1, true; more; at++ {
				for range 3 {
					m := disk.NewMem(disk.MemOptions{})
					faulty := disk.NewFaulty(m)
					d := openDir(t, faulty)
					must(t, d.Put(t.Context(), "old/k", pattern(100, 'o')))
					var after *disk.Mem
					faulty.Set(disk.Rule{Op: disk.OpChange, Nth: at, Hook: func(disk.Op, string) { after = m.Crash(rng) }})
					err := act(t.Context(), d)
					cut := after != nil
					if !cut {
						must(t, err)
						more, after = false, m.Crash(rng)
					}
					back := openDir(t, after)
					got, there := object(t, back, key)
					switch {
					case there && len(got) == size && bytes.Equal(got, pattern(size, 'n')):
					case there && bytes.Equal(got, pattern(100, 'o')) && key == "old/k" && (cut || name == "replace" && err != nil):
					case !there && (name == "delete" || cut && key == "x/y/k"):
					default:
						t.Fatalf("cut before call %d (%v): there %v, %d bytes", at, err, there, len(got))
					}
					if names, err := after.List("data/bucket/.writing"); err != nil || slicesHavePrefix(names, "tmp-") {
						t.Fatalf("left: %q %v", names, err)
					}
				}
			}
		})
	}
}

func slicesHavePrefix(names []string, prefix string) bool {
	for _, n := range names {
		if strings.HasPrefix(n, prefix) {
			return true
		}
	}
	return false
}

// TestDirectoriesAboveAreSynced: a directory that is there may have been made by a
// process that was killed before it synced it; each process syncs what it uses,
// once.
func TestDirectoriesAboveAreSynced(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{})
	must(t, m.MkdirAll("data/bucket/a/b"))
	faulty := disk.NewFaulty(m)
	d := openDir(t, faulty)
	for _, dir := range []string{"data/bucket", "data/bucket/a"} {
		faulty.Set(disk.Rule{Op: disk.OpSyncDir, Name: dir, Err: unix.EIO})
		err := d.Put(t.Context(), "a/b/k", bucket.Bytes("x"))
		if !errors.Is(err, unix.EIO) || !bucket.IsTemporary(err) {
			t.Fatalf("%s could not be synced: %v", dir, err)
		}
		if _, there := object(t, d, "a/b/k"); there {
			t.Fatal("the object was named all the same")
		}
		faulty.Set(disk.Rule{Op: disk.OpSyncDir, Name: dir})
		must(t, d.Put(t.Context(), "a/b/other", bucket.Bytes("x")))
		must(t, d.Put(t.Context(), "a/b/other", bucket.Bytes("y")))
		if synced, _ := faulty.Calls(0); dir == "data/bucket/a" && synced > 1 {
			t.Fatalf("%s was synced %d times", dir, synced)
		}
		must(t, d.Close())
		d = openDir(t, faulty)
	}
}

// TestEveryErrorOfTheDiskIsReported: a call that could not do all of its work
// never says that it did, and leaves no file behind once the disk works again.
func TestEveryErrorOfTheDiskIsReported(t *testing.T) {
	for name, act := range map[string]func(b bucket.Bucket) error{
		"put":         func(b bucket.Bucket) error { return b.Put(t.Context(), "x/k", pattern(1<<20+1, 'n')) },
		"putifabsent": func(b bucket.Bucket) error { return b.PutIfAbsent(t.Context(), "x/k", pattern(10, 'n')) },
		"delete":      func(b bucket.Bucket) error { return b.Delete(t.Context(), "old/k") },
		"read":        func(b bucket.Bucket) error { return b.ReadAt(t.Context(), "old/k", make([]byte, 5), 0) },
		"stat":        func(b bucket.Bucket) error { _, err := b.Stat(t.Context(), "old/k"); return err },
		"list": func(b bucket.Bucket) error {
			return b.List(t.Context(), "", "", func(bucket.Info) bool { return true })
		},
	} {
		t.Run(name, func(t *testing.T) {
			for at, more := 1, true; more; at++ {
				m := disk.NewMem(disk.MemOptions{})
				faulty := disk.NewFaulty(m)
				d := openDir(t, faulty)
				must(t, d.Put(t.Context(), "old/k", pattern(100, 'o')))
				faulty.Set(disk.Rule{Nth: at, Err: unix.EIO})
				err := act(d)
				_, hits := faulty.Calls(0)
				faulty.Set()
				if more = hits > 0; !more {
					must(t, err)
					continue
				}
				var typed *bucket.Error
				if !errors.As(err, &typed) || !errors.Is(err, unix.EIO) || !typed.Temporary || errors.Is(err, bucket.ErrNotFound) {
					// Closing a file that was only read loses nothing.
					if name != "read" || err != nil {
						t.Fatalf("call %d failed, and the answer was %v", at, err)
					}
				}
				must(t, d.Close())
				d = openDir(t, faulty)
				if names, _ := m.List("data/bucket/.writing"); slicesHavePrefix(names, "tmp-") {
					t.Fatalf("call %d: left %q", at, names)
				}
				if name == "put" {
					must(t, act(d))
				}
			}
		})
	}
}

// flipping is a file system that writes some bits wrong: memory or a disk that is not
// to be trusted.
type flipping struct {
	disk.FS
	at   int64 // the byte; beyond what is written: none
	rest int   // writes that it happens to
}

type flippingFile struct {
	disk.File
	of *flipping
}

func (f *flipping) Create(name string) (disk.File, error) {
	is, err := f.FS.Create(name)
	return &flippingFile{is, f}, err
}

func (f *flippingFile) WriteAt(p []byte, off int64) (int, error) {
	if i := f.of.at - off; 0 <= i && i < int64(len(p)) && f.of.rest > 0 {
		f.of.rest--
		p = bytes.Clone(p)
		p[i] ^= 8
	}
	return f.File.WriteAt(p, off)
}

// TestWhatIsStoredIsWhatWasWritten (RULES 5.3): after Put the log gives up its copy.
func TestWhatIsStoredIsWhatWasWritten(t *testing.T) {
	const size = 2<<20 + 5000
	for _, at := range []int64{0, 1<<20 - 1, 1 << 20, size - 1} {
		m := disk.NewMem(disk.MemOptions{})
		f := &flipping{FS: m, at: at, rest: 2}
		d := openDir(t, f)
		for name, put := range map[string]func() error{
			"put":         func() error { return d.Put(t.Context(), "a/k", pattern(size, 'n')) },
			"putifabsent": func() error { return d.PutIfAbsent(t.Context(), "a/once", pattern(size, 'n')) },
		} {
			f.rest = 1
			err := put()
			var typed *bucket.Error
			if !errors.As(err, &typed) || !typed.Temporary || errors.Is(err, bucket.ErrExists) {
				t.Fatalf("%s with a bit wrong at %d: %v", name, at, err)
			}
			must(t, d.List(t.Context(), "", "", func(i bucket.Info) bool {
				if i.Key == map[string]string{"put": "a/k", "putifabsent": "a/once"}[name] {
					t.Errorf("%s: it has its name", name)
				}
				return true
			}))
			must(t, put())
		}
		for _, key := range []string{"a/k", "a/once"} {
			if got, _ := object(t, d, key); !bytes.Equal(got, pattern(size, 'n')) {
				t.Errorf("%s is not what was written", key)
			}
		}
		if names, _ := m.List("data/bucket/.writing"); slicesHavePrefix(names, "tmp-") {
			t.Errorf("left %q", names)
		}
	}
}

// TestOpeningLeavesOthersAlone: of two processes in one directory neither removes
// what the other is writing, and a third removes what a dead one was.
func TestOpeningLeavesOthersAlone(t *testing.T) {
	m := disk.NewMem(disk.MemOptions{})
	first := openDir(t, m)
	err := first.Put(t.Context(), "k", writerFunc(func(w io.Writer) error {
		if _, err := w.Write(pattern(1<<20+1, 'x')); err != nil {
			return err
		}
		second := openDir(t, m)
		if err := second.Put(t.Context(), "other", bucket.Bytes("y")); err != nil {
			return err
		}
		killed := m.Clone() // the process of the first is gone
		third := openDir(t, killed)
		names, err := killed.List("data/bucket/.writing")
		if err != nil || slicesHavePrefix(names, "tmp-") {
			return fmt.Errorf("left: %q %w", names, err)
		}
		if _, there := object(t, third, "k"); there {
			return errors.New("a part is an object")
		}
		_, err = w.Write(pattern(10, 'x'))
		return err
	}))
	must(t, err)
	if got, _ := object(t, first, "k"); len(got) != 1<<20+11 {
		t.Fatalf("%d bytes", len(got))
	}
}

type writerFunc func(w io.Writer) error

func (f writerFunc) WriteTo(w io.Writer) (int64, error) { return 0, f(w) }

// TestDirectoryThatIsGoneIsNotEmpty: a file system that is not mounted shows an
// empty directory where the bucket was. Nothing is said to be absent, and nothing
// is written into the wrong place.
func TestDirectoryThatIsGoneIsNotEmpty(t *testing.T) {
	fsys := &swapped{FS: disk.NewMem(disk.MemOptions{})}
	d := openDir(t, fsys)
	must(t, d.Put(t.Context(), "a/k", bucket.Bytes("x")))
	mounted := fsys.FS
	empty := disk.NewMem(disk.MemOptions{})
	must(t, empty.MkdirAll("data/bucket"))
	started := disk.NewMem(disk.MemOptions{}) // by one who came before the file system was mounted
	openDir(t, started)
	for what, now := range map[string]disk.FS{"empty": empty, "none": disk.NewMem(disk.MemOptions{}), "of an earlier start": started} {
		fsys.FS = now
		_, stat := d.Stat(t.Context(), "a/k")
		for op, err := range map[string]error{
			"read":        d.ReadAt(t.Context(), "a/k", make([]byte, 1), 0),
			"stat":        stat,
			"list":        d.List(t.Context(), "", "", func(bucket.Info) bool { return true }),
			"delete":      d.Delete(t.Context(), "a/k"),
			"put":         d.Put(t.Context(), "a/k", bucket.Bytes("x")),
			"putifabsent": d.PutIfAbsent(t.Context(), "a/k", []byte("x")),
		} {
			if err == nil || errors.Is(err, bucket.ErrNotFound) || !bucket.IsTemporary(err) {
				t.Errorf("%s, directory %s: %v", op, what, err)
			}
		}
	}
	fsys.FS = mounted
	if _, there := object(t, d, "a/k"); !there {
		t.Fatal("gone for good")
	}
}

// TestDirectoryThatGoesMeanwhile: what was begun on the file system of the bucket
// and ended below it is not done, and half a listing is none.
func TestDirectoryThatGoesMeanwhile(t *testing.T) {
	faulty := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
	fsys := &swapped{FS: faulty}
	d := openDir(t, fsys)
	must(t, d.Put(t.Context(), "a/k", bucket.Bytes("x")))
	mounted := fsys.FS
	below := disk.NewMem(disk.MemOptions{})
	openDir(t, below)
	for op, act := range map[string]func() error{
		"put":         func() error { return d.Put(t.Context(), "a/k", bucket.Bytes("x")) },
		"putifabsent": func() error { return d.PutIfAbsent(t.Context(), "a/new", []byte("x")) },
		"list":        func() error { return d.List(t.Context(), "", "", func(bucket.Info) bool { return true }) },
	} {
		// It is there for the look that comes first.
		faulty.Set(disk.Rule{Op: disk.OpStat, Hook: func(disk.Op, string) { fsys.FS = below }})
		err := act()
		fsys.FS = mounted
		if err == nil || errors.Is(err, bucket.ErrNotFound) || !bucket.IsTemporary(err) {
			t.Errorf("%s: %v", op, err)
		}
		faulty.Set()
	}
}

// swapped is a file system that can be another one.
type swapped struct{ disk.FS }

// TestTwoProcessesPutIfAbsent: what each has open says nothing; the disk decides.
func TestTwoProcessesPutIfAbsent(t *testing.T) {
	fsys, err := disk.OpenOS(t.TempDir())
	must(t, err)
	buckets := []*bucket.Dir{openDir(t, fsys), openDir(t, fsys)}
	for number := range 20 {
		var wg sync.WaitGroup
		errs := make([]error, len(buckets))
		for i, b := range buckets {
			wg.Go(func() { errs[i] = b.PutIfAbsent(t.Context(), fmt.Sprintf("meta/%d", number), []byte{byte(i)}) })
		}
		wg.Wait()
		won := 0
		if errs[0] != nil {
			won = 1
		}
		must(t, errs[won])
		wantErr(t, errs[1-won], bucket.ErrExists)
		if got, _ := object(t, buckets[0], fmt.Sprintf("meta/%d", number)); got[0] != byte(won) {
			t.Fatal("the loser's bytes are there")
		}
	}
}

func TestFileSystemWithoutLinks(t *testing.T) {
	faulty := disk.NewFaulty(disk.NewMem(disk.MemOptions{}))
	d := openDir(t, faulty)
	for _, errno := range []error{unix.EPERM, unix.ENOTSUP, unix.ENOSYS} {
		faulty.Set(disk.Rule{Op: disk.OpLink, Err: errno})
		err := d.PutIfAbsent(t.Context(), "k", []byte("x"))
		wantErr(t, err, bucket.ErrUnsupported)
		if bucket.IsTemporary(err) {
			t.Fatal("temporary")
		}
	}
}
