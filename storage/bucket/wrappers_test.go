package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/bucket"
)

func TestCountsByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context, bucket.Op, string) error { sleep(time.Second); return nil }
		f := bucket.NewFaulty(bucket.NewMemory(), bucket.Rule{Op: bucket.OpDelete, Nth: 2, Err: errDown}, bucket.Rule{Hook: slow})
		c := bucket.NewCounted(f, 1000)
		must(t, c.Put(t.Context(), "a", bucket.Bytes(make([]byte, 1000))))
		must(t, c.Put(t.Context(), "b", bucket.Bytes(make([]byte, 2001))))
		wantErr(t, c.PutIfAbsent(t.Context(), "b", []byte("x")), bucket.ErrExists)
		must(t, c.ReadAt(t.Context(), "a", make([]byte, 300), 0))
		wantErr(t, c.ReadAt(t.Context(), "none", make([]byte, 300), 0), bucket.ErrNotFound)
		parts := [][]byte{make([]byte, 10), make([]byte, 20)}
		must(t, c.ReadParts(t.Context(), "a", parts, 0, func(int) {}))
		wantErr(t, c.ReadParts(t.Context(), "a", parts, 975, func(int) {}), io.ErrUnexpectedEOF) // the first arrives
		_, err := c.Stat(t.Context(), "a")
		must(t, err)
		must(t, c.List(t.Context(), "", "", func(bucket.Info) bool { sleep(time.Hour); return true }))
		must(t, c.Delete(t.Context(), "a"))
		wantErr(t, c.Delete(t.Context(), "b"), errDown)
		want := bucket.Counts{
			bucket.ClassPut:    {Calls: 3, Requests: 1 + 5 + 1, Bytes: 3002, Time: 3 * time.Second},
			bucket.ClassGet:    {Calls: 4, Requests: 4, Bytes: 340, Time: 4 * time.Second},
			bucket.ClassHead:   {Calls: 1, Requests: 1, Time: time.Second},
			bucket.ClassList:   {Calls: 1, Requests: 1, Time: time.Second},
			bucket.ClassDelete: {Calls: 2, Requests: 2, Errors: 1, Time: 2 * time.Second},
		}
		if got := c.Counts(); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

func TestFaults(t *testing.T) {
	m := bucket.NewMemory()
	data := bytes.Repeat([]byte{0xa5, 0x11}, 500)
	must(t, m.Put(t.Context(), "k", bucket.Bytes(data)))
	f := bucket.NewFaulty(m)
	read := func() ([]byte, error) {
		p := make([]byte, 100)
		return p, f.ReadAt(t.Context(), "k", p, 0)
	}
	f.Set(bucket.Rule{Op: bucket.OpRead, Every: 2, Flip: true})
	for i := range 10 {
		got, err := read()
		must(t, err)
		flipped := 0
		for j := range got {
			flipped += bits.OnesCount8(got[j] ^ data[j])
		}
		if flipped != i%2 {
			t.Fatalf("%d bits in read %d", flipped, i)
		}
	}
	f.Set(bucket.Rule{Op: bucket.OpRead, Shift: 1})
	if got, err := read(); err != nil || !bytes.Equal(got, data[1:101]) {
		t.Fatal(err)
	}
	f.Set(bucket.Rule{Op: bucket.OpRead, Short: true})
	if _, err := read(); !errors.Is(err, io.ErrUnexpectedEOF) || !bucket.IsTemporary(err) {
		t.Fatal(err)
	}
	parts := [][]byte{make([]byte, 30), make([]byte, 30), make([]byte, 40)}
	arrived := 0
	inParts := func() ([]byte, error) {
		arrived = 0
		err := f.ReadParts(t.Context(), "k", parts, 0, func(int) { arrived++ })
		return bytes.Join(parts[:arrived], nil), err
	}
	if got, err := inParts(); !errors.Is(err, io.ErrUnexpectedEOF) || !bucket.IsTemporary(err) || !bytes.Equal(got, data[:30]) {
		t.Fatalf("half of them: %d arrived, %v", arrived, err)
	}
	f.Set(bucket.Rule{Op: bucket.OpRead, Flip: true})
	for range 10 {
		got, err := inParts()
		must(t, err)
		flipped := 0
		for j := range got {
			flipped += bits.OnesCount8(got[j] ^ data[j])
		}
		if flipped != 1 || len(got) != 100 {
			t.Fatalf("%d bits in %d bytes", flipped, len(got))
		}
	}
	f.Set(bucket.Rule{Op: bucket.OpWrite, Prefix: "x", Err: errDown, Done: true})
	wantErr(t, f.Put(t.Context(), "x/1", bucket.Bytes("x")), errDown)
	if _, there := object(t, m, "x/1"); !there {
		t.Fatal("the answer was lost, and the work too")
	}
	f.Set(bucket.Rule{Op: bucket.OpWrite, Prefix: "x", Err: errDown})
	wantErr(t, f.Put(t.Context(), "x/2", bucket.Bytes("x")), errDown)
	if _, there := object(t, m, "x/2"); there {
		t.Fatal("done, though it failed")
	}
}

func TestLateListing(t *testing.T) {
	f := bucket.NewFaulty(bucket.NewMemory(), bucket.Rule{Op: bucket.OpWrite, Nth: 2, Late: true})
	for _, key := range []string{"a", "b", "c"} {
		must(t, f.Put(t.Context(), key, bucket.Bytes("x")))
	}
	listed := func() (keys []string) {
		must(t, f.List(t.Context(), "", "", func(i bucket.Info) bool { keys = append(keys, i.Key); return true }))
		return keys
	}
	if got := listed(); !slices.Equal(got, []string{"a", "c"}) {
		t.Fatalf("%q", got)
	}
	if _, there := object(t, f, "b"); !there {
		t.Fatal("late in lists only")
	}
	f.Reveal()
	if got := listed(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("%q", got)
	}
}

func TestChanceIsReproducible(t *testing.T) {
	run := func(seed uint64) (failed []int) {
		f := bucket.NewFaulty(bucket.NewMemory(), bucket.Rule{Chance: 0.3, Seed: seed, Err: errDown})
		for i := range 500 {
			if err := f.Delete(t.Context(), "k"); err != nil {
				failed = append(failed, i)
			}
		}
		return failed
	}
	a, b, c := run(1), run(1), run(2)
	if !slices.Equal(a, b) || slices.Equal(a, c) || len(a) < 100 || len(a) > 200 {
		t.Fatalf("%d, %d and %d failures", len(a), len(b), len(c))
	}
}

// TestProbeNamesWhatIsWrong walks the ways in which a store can fall short.
func TestProbeNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		rule bucket.Rule
		want []string
	}{
		{bucket.Rule{Op: bucket.OpPutIfAbsent, Err: bucket.ErrUnsupported}, []string{"put if absent", "put if absent, when there"}},
		{bucket.Rule{Op: bucket.OpRead, Flip: true, Nth: 1}, []string{"get"}},
		{bucket.Rule{Op: bucket.OpRead, Shift: 1, Nth: 2}, []string{"ranged get"}},
		{bucket.Rule{Op: bucket.OpList, Err: errDown, Nth: 1}, []string{"list"}},
		{bucket.Rule{Op: bucket.OpPut, Late: true}, []string{"list", "list behind a key"}},
		{bucket.Rule{Op: bucket.OpStat, Err: errDown, Nth: 1}, []string{"head"}},
		{bucket.Rule{Op: bucket.OpDelete, Err: errDown}, []string{"delete", "deleted is not found"}},
		{bucket.Rule{Op: bucket.OpPut, Err: errDown, Limit: 1}, []string{"put", "get", "ranged get", "range beyond the end", "head", "list", "list behind a key"}},
	} {
		m := bucket.NewMemory()
		report := bucket.Probe(t.Context(), bucket.NewFaulty(m, c.rule), "p/")
		if got := report.Missing(); !slices.Equal(got, c.want) || report.OK() {
			t.Errorf("%+v: missing %q, want %q", c.rule, got, c.want)
		}
		if c.rule.Op == bucket.OpDelete {
			continue
		}
		must(t, m.List(t.Context(), "", "", func(i bucket.Info) bool { t.Errorf("left %s", i.Key); return true }))
	}
}

func TestReadAllIsBounded(t *testing.T) {
	m := bucket.NewMemory()
	must(t, m.Put(t.Context(), "k", bucket.Bytes("four")))
	var size *bucket.SizeError
	if _, err := bucket.ReadAll(t.Context(), m, "k", 3); !errors.As(err, &size) || size.Size != 4 {
		t.Fatal(err)
	}
	if got, err := bucket.ReadAll(t.Context(), m, "k", 4); err != nil || string(got) != "four" {
		t.Fatal(string(got), err)
	}
}

// TestErrorsAreOneLine: a log line is one event.
func TestErrorsAreOneLine(t *testing.T) {
	azure := "PUT http://127.0.0.1:10000/devstoreaccount1/c/k\n" + strings.Repeat("-", 80) + "\nRESPONSE 503: 503 Busy\r\nERROR CODE: ServerBusy\n" + strings.Repeat("-", 80) + "\n<Error>\n  <Code>ServerBusy</Code>\n</Error>\n"
	for text, want := range map[string]string{
		"503":                         "bucket: put k: 503",
		azure:                         "bucket: put k: PUT http://127.0.0.1:10000/devstoreaccount1/c/k; RESPONSE 503: 503 Busy; ERROR CODE: ServerBusy; <Error>; <Code>ServerBusy</Code>; </Error>",
		"\n\n":                        "bucket: put k: ",
		strings.Repeat("ä\n", 10_000): "bucket: put k: " + strings.Repeat("ä; ", 256) + "…",
	} {
		if got := (&bucket.Error{Op: "put", Key: "k", Err: errors.New(text)}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
