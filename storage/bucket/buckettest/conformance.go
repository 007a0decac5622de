package buckettest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
)

// Options of a run; zeros are defaults.
type Options struct {
	Large int    // bytes of the largest object; default 3 MiB
	Keys  int    // keys in one list; default 40
	Seed  uint64 // of contents; default by the clock
	// PlainKeys leaves out keys with brackets, quotes and the like, which rustmq does
	// not make: an emulator is known that lists them in another order than its cloud.
	PlainKeys bool
}

// Run tests the buckets that open gives, which may be one and the same. open
// closes them itself, by Cleanup.
func Run(t *testing.T, o Options, open func(t testing.TB) bucket.Bucket) {
	t.Helper()
	if o.Large == 0 {
		o.Large = 3 << 20
	}
	if o.Keys == 0 {
		o.Keys = 40
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", o.Seed)
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"what is put is read", (*suite).putIsRead},
		{"put replaces", (*suite).putReplaces},
		{"ranges", (*suite).ranges},
		{"parts", (*suite).parts},
		{"not found", (*suite).notFound},
		{"stat", (*suite).stat},
		{"put if absent", (*suite).putIfAbsent},
		{"one of many puts if absent", (*suite).oneWins},
		{"list", (*suite).list},
		{"list while it changes", (*suite).listChanges},
		{"delete", (*suite).delete},
		{"keys that are none", (*suite).badKeys},
		{"odd keys", (*suite).oddKeys},
		{"content that fails", (*suite).failingContent},
		{"cancelled", (*suite).cancelled},
		{"probe", (*suite).probe},
	} {
		if o.PlainKeys && test.name == "odd keys" {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(o.Seed, 0))
			test.run(&suite{TB: t, o: o, b: open(t), rng: rng, prefix: fmt.Sprintf("test-%016x/", rand.Uint64())})
		})
	}
}

// suite is one test.
type suite struct {
	testing.TB
	o      Options
	b      bucket.Bucket
	rng    *rand.Rand
	prefix string
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) want(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error %v, want %v", err, want)
	}
	var typed *bucket.Error
	if !errors.As(err, &typed) || typed.Op == "" {
		s.Fatalf("%T %v is no bucket.Error", err, err)
	}
}

func (s *suite) bytes(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, s.rng.Uint64())
	}
	return b[:n]
}

func (s *suite) put(key string, data []byte) {
	s.Helper()
	s.must(s.b.Put(s.Context(), s.prefix+key, bucket.Bytes(data)))
}

func (s *suite) is(key string, want []byte) {
	s.Helper()
	got, err := bucket.ReadAll(s.Context(), s.b, s.prefix+key, 1<<30)
	if err != nil || !bytes.Equal(got, want) {
		s.Fatalf("%s: %d bytes %v, want %d", key, len(got), err, len(want))
	}
}

func (s *suite) putIsRead() {
	for _, size := range []int{0, 1, 4095, 4096, 4097, 1 << 20, 1<<20 + 1, s.o.Large} {
		data := s.bytes(size)
		s.put("a/b", data)
		s.is("a/b", data)
	}
	data := s.bytes(1<<20 + 1)
	s.must(s.b.Put(s.Context(), s.prefix+"pieces", pieces(data)))
	s.is("pieces", data)
}

// pieces writes in pieces of odd sizes.
type pieces []byte

func (p pieces) WriteTo(w io.Writer) (n int64, err error) {
	for size := 1; len(p) > 0; size = size*3 + 1 {
		k, err := w.Write(p[:min(size, len(p))])
		n += int64(k)
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

func (s *suite) putReplaces() {
	s.put("k", s.bytes(5000))
	second := s.bytes(100)
	s.put("k", second)
	s.is("k", second)
}

func (s *suite) ranges() {
	data := s.bytes(100_000)
	s.put("k", data)
	for range 20 {
		off := s.rng.IntN(len(data))
		got := make([]byte, s.rng.IntN(len(data)-off)+1)
		s.must(s.b.ReadAt(s.Context(), s.prefix+"k", got, int64(off)))
		if !bytes.Equal(got, data[off:][:len(got)]) {
			s.Fatalf("wrong bytes at %d", off)
		}
	}
	s.must(s.b.ReadAt(s.Context(), s.prefix+"k", nil, int64(len(data))))
	for _, r := range []struct{ off, length int }{{len(data) - 10, 11}, {len(data), 1}, {len(data) + 1000, 5}, {0, len(data) + 1}} {
		s.want(s.b.ReadAt(s.Context(), s.prefix+"k", make([]byte, r.length), int64(r.off)), io.ErrUnexpectedEOF)
	}
	if err := s.b.ReadAt(s.Context(), s.prefix+"k", make([]byte, 1), -1); err == nil {
		s.Fatal("read before the beginning")
	}
	s.put("empty", nil)
	s.want(s.b.ReadAt(s.Context(), s.prefix+"empty", make([]byte, 1), 0), io.ErrUnexpectedEOF)
}

func (s *suite) parts() {
	data := s.bytes(10_000)
	s.put("k", data)
	read := func(off int, lengths ...int) (arrived [][]byte, err error) {
		parts := make([][]byte, len(lengths))
		for i, n := range lengths {
			parts[i] = make([]byte, n)
		}
		err = s.b.ReadParts(s.Context(), s.prefix+"k", parts, int64(off), func(part int) {
			if part != len(arrived) {
				s.Fatalf("part %d of %v, want part %d", part, lengths, len(arrived))
			}
			arrived = append(arrived, bytes.Clone(parts[part])) // as it is now
		})
		if got := bytes.Join(arrived, nil); !bytes.HasPrefix(data[off:], got) {
			s.Fatalf("wrong bytes in %v at %d", lengths, off)
		}
		return arrived, err
	}
	for range 20 {
		off, lengths := s.rng.IntN(5000), []int{}
		for range s.rng.IntN(5) + 1 {
			lengths = append(lengths, s.rng.IntN(1000)+1)
		}
		arrived, err := read(off, lengths...)
		if s.must(err); len(arrived) != len(lengths) {
			s.Fatalf("%d of %d parts arrived", len(arrived), len(lengths))
		}
	}
	for _, off := range []int{len(data) - 15, len(data)} {
		arrived, err := read(off, 10, 10, 10)
		s.want(err, io.ErrUnexpectedEOF)
		if bucket.IsTemporary(err) || len(arrived) > 1 {
			s.Fatalf("%d parts and %v at %d of %d", len(arrived), err, off, len(data))
		}
	}
	none := func(int) { s.Fatal("a part of nothing arrived") }
	s.want(s.b.ReadParts(s.Context(), s.prefix+"none", [][]byte{make([]byte, 1)}, 0, none), bucket.ErrNotFound)
	if err := s.b.ReadParts(s.Context(), s.prefix+"k", [][]byte{make([]byte, 1)}, -1, none); err == nil {
		s.Fatal("read before the beginning")
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	s.want(s.b.ReadParts(ctx, s.prefix+"k", [][]byte{make([]byte, 1)}, 0, none), context.Canceled)
}

func (s *suite) notFound() {
	s.put("a/b", []byte("x"))
	for _, key := range []string{"none", "a/none", "none/none", "a", "a/b/c"} {
		s.want(s.b.ReadAt(s.Context(), s.prefix+key, make([]byte, 1), 0), bucket.ErrNotFound)
		_, err := s.b.Stat(s.Context(), s.prefix+key)
		s.want(err, bucket.ErrNotFound)
		if bucket.IsTemporary(err) {
			s.Fatal("not found is temporary")
		}
	}
}

func (s *suite) stat() {
	s.put("k", s.bytes(1234))
	info, err := s.b.Stat(s.Context(), s.prefix+"k")
	s.must(err)
	if info.Key != s.prefix+"k" || info.Size != 1234 || time.Since(info.Modified).Abs() > time.Hour {
		s.Fatalf("%+v", info)
	}
}

func (s *suite) putIfAbsent() {
	s.must(s.b.PutIfAbsent(s.Context(), s.prefix+"a/k", []byte("first")))
	s.is("a/k", []byte("first"))
	err := s.b.PutIfAbsent(s.Context(), s.prefix+"a/k", []byte("second"))
	s.want(err, bucket.ErrExists)
	if bucket.IsTemporary(err) {
		s.Fatal("exists is temporary")
	}
	s.is("a/k", []byte("first"))
	s.must(s.b.Delete(s.Context(), s.prefix+"a/k"))
	s.must(s.b.PutIfAbsent(s.Context(), s.prefix+"a/k", nil))
	s.want(s.b.PutIfAbsent(s.Context(), s.prefix+"a/k", []byte("third")), bucket.ErrExists)
	s.is("a/k", nil)
}

func (s *suite) oneWins() {
	for round := range 5 {
		key := fmt.Sprintf("%sround/%d", s.prefix, round)
		won := make(chan string, 8)
		var wg sync.WaitGroup
		for i := range cap(won) {
			wg.Go(func() {
				mine := fmt.Sprintf("writer %d", i)
				err := s.b.PutIfAbsent(s.Context(), key, []byte(mine))
				switch {
				case err == nil:
					won <- mine
				case !errors.Is(err, bucket.ErrExists):
					s.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			s.Fatalf("%d writers were told that they are the first", len(won))
		}
		s.is(strings.TrimPrefix(key, s.prefix), []byte(<-won))
	}
}

func (s *suite) listed(prefix, after string, most int) []string {
	s.Helper()
	var got []string
	err := s.b.List(s.Context(), prefix, after, func(i bucket.Info) bool {
		if i.Size != 3 || time.Since(i.Modified).Abs() > time.Hour {
			s.Errorf("%+v", i)
		}
		got = append(got, i.Key)
		return len(got) < most
	})
	s.must(err)
	return got
}

func (s *suite) list() {
	var all []string
	for i := range s.o.Keys {
		all = append(all, fmt.Sprintf("%sdata/%02x/%04d", s.prefix, i%7, i))
	}
	// A dot and a hyphen come before the slash, letters behind it.
	for _, k := range []string{"x/1", "x.y", "x-y/1", "xa", "x/a/b", "x/a.b", "other"} {
		all = append(all, s.prefix+k)
	}
	slices.Sort(all)
	for _, key := range all {
		s.must(s.b.Put(s.Context(), key, bucket.Bytes("abc")))
	}
	for _, prefix := range []string{"", "data/", "data/03/", "data/0", "x", "x/", "x/a", "data/03/0003", "none", "data/03/none", "none/"} {
		for _, after := range []string{"", s.prefix + "data/03/0010", s.prefix + "x", s.prefix + "x/", s.prefix + "x.y", s.prefix + "x/a/b", s.prefix + "zzz"} {
			var want []string
			for _, key := range all {
				if strings.HasPrefix(key, s.prefix+prefix) && key > after {
					want = append(want, key)
				}
			}
			if got := s.listed(s.prefix+prefix, after, len(all)+1); !slices.Equal(got, want) {
				s.Fatalf("list %q after %q:\n%q, want\n%q", prefix, after, got, want)
			}
			if got := s.listed(s.prefix+prefix, after, 2); !slices.Equal(got, want[:min(2, len(want))]) {
				s.Fatalf("the first two of %q after %q: %q", prefix, after, got)
			}
		}
	}
}

func (s *suite) listChanges() {
	for i := range 10 {
		s.put(fmt.Sprintf("d%d/k", i), []byte("abc"))
	}
	seen := map[string]bool{}
	s.must(s.b.List(s.Context(), s.prefix, "", func(i bucket.Info) bool {
		seen[i.Key] = true
		s.must(s.b.Delete(s.Context(), i.Key))
		return true
	}))
	if len(seen) != 10 {
		s.Fatalf("seen %d of 10", len(seen))
	}
	if left := s.listed(s.prefix, "", 100); len(left) > 0 {
		s.Fatalf("left: %q", left)
	}
}

func (s *suite) delete() {
	s.put("a/b", []byte("abc"))
	for _, key := range []string{"a/b", "a/b", "none", "none/none", "a"} {
		s.must(s.b.Delete(s.Context(), s.prefix+key))
	}
	s.want(s.b.ReadAt(s.Context(), s.prefix+"a/b", make([]byte, 1), 0), bucket.ErrNotFound)
	if got := s.listed(s.prefix, "", 10); len(got) > 0 {
		s.Fatalf("%q", got)
	}
	s.put("a/b", []byte("again"))
	s.is("a/b", []byte("again"))
}

func (s *suite) badKeys() {
	long := strings.Repeat("x", 255)
	for _, key := range []string{
		"", ".", "..", "/", "/x", "x/", "a//b", "../x", "a/../b", "a/./b", ".writing/x", "a/.b", "a\x00b", "a\nb", `a\b`, "a\xffb",
		long + "x", strings.Repeat(long+"/", 4) + "x",
	} {
		for op, err := range map[string]error{
			"put":         s.b.Put(s.Context(), key, bucket.Bytes("x")),
			"putifabsent": s.b.PutIfAbsent(s.Context(), key, []byte("x")),
			"read":        s.b.ReadAt(s.Context(), key, make([]byte, 1), 0),
			"delete":      s.b.Delete(s.Context(), key),
			"stat":        second(s.b.Stat(s.Context(), key)),
		} {
			if err == nil || errors.Is(err, bucket.ErrNotFound) || bucket.IsTemporary(err) {
				s.Errorf("%s %q: %v", op, key, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func (s *suite) oddKeys() {
	keys := []string{"with space", "a+b", "100%", "%2F", "ümlaut/日本", "q?a=b&c", "#x", "a:b", "~x", "'q'", `"q"`, "a=b", "[x]", "(x)", "x.", "x..y"}
	for _, key := range keys {
		s.put(key, []byte("abc"))
		s.is(key, []byte("abc"))
	}
	want := make([]string, len(keys))
	for i, key := range keys {
		want[i] = s.prefix + key
	}
	slices.Sort(want)
	if got := s.listed(s.prefix, "", 100); !slices.Equal(got, want) {
		s.Fatalf("%q, want %q", got, want)
	}
}

// failing writes some bytes and then fails.
type failing struct {
	n   int
	err error
}

func (f failing) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(make([]byte, f.n))
	if err == nil {
		err = f.err
	}
	return int64(n), err
}

func (s *suite) failingContent() {
	old := s.bytes(10)
	s.put("there", old)
	boom := errors.New("boom")
	for _, n := range []int{0, 10, s.o.Large} {
		for _, key := range []string{"new", "there"} {
			err := s.b.Put(s.Context(), s.prefix+key, failing{n, boom})
			s.want(err, boom)
			if bucket.IsTemporary(err) {
				s.Fatal("the content's own failure is said to pass")
			}
		}
		s.is("there", old)
		_, err := s.b.Stat(s.Context(), s.prefix+"new")
		s.want(err, bucket.ErrNotFound)
	}
}

func (s *suite) cancelled() {
	s.put("k", []byte("abc"))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	for op, err := range map[string]error{
		"put":         s.b.Put(ctx, s.prefix+"new", bucket.Bytes("x")),
		"putifabsent": s.b.PutIfAbsent(ctx, s.prefix+"new", []byte("x")),
		"read":        s.b.ReadAt(ctx, s.prefix+"k", make([]byte, 1), 0),
		"delete":      s.b.Delete(ctx, s.prefix+"k"),
		"stat":        second(s.b.Stat(ctx, s.prefix+"k")),
		"list":        s.b.List(ctx, s.prefix, "", func(bucket.Info) bool { return true }),
	} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s: %v", op, err)
		}
	}
	s.is("k", []byte("abc"))
	_, err := s.b.Stat(s.Context(), s.prefix+"new")
	s.want(err, bucket.ErrNotFound)
}

func (s *suite) probe() {
	report := bucket.Probe(s.Context(), s.b, s.prefix+"probe")
	for _, step := range report.Steps {
		if step.Err != nil {
			s.Errorf("%s: %v", step.Name, step.Err)
		}
	}
	if !report.OK() || report.Skew.Abs() > time.Hour || len(report.Missing()) > 0 {
		s.Fatalf("%+v", report)
	}
	if left := s.listed(s.prefix, "", 10); len(left) > 0 {
		s.Fatalf("the probe left %q", left)
	}
}
