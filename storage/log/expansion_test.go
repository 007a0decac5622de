package log

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// TestTranscodeHoldsNothingWhenThereIsNothingToDo: a batch that is stored as it
// came is not copied.
func TestTranscodeHoldsNothingWhenThereIsNothingToDo(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	b := build(t, batch.BuilderOptions{Codec: batch.Zstd}, "as it came")
	for _, c := range []Config{{}, {Recompress: true, Codec: batch.Zstd}} {
		l.SetConfig(c)
		out, held, err := l.Transcode(t.Context(), b, nil)
		if err != nil || &out[0] != &b[0] || held != (Transcoded{}) {
			t.Errorf("%+v: %d bytes, %+v, %v", c, len(out), held, err)
		}
	}
}

// TestRecompressedBatchIsHeldToTheTopicsBound: what a batch came as may be small
// enough, and what is stored too large.
func TestRecompressedBatchIsHeldToTheTopicsBound(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	for _, c := range []struct {
		codec batch.Codec
		size  int
		ok    bool
	}{
		{batch.None, 8 << 10, true}, {batch.None, 11 << 10, false}, {batch.None, 20 << 20, false}, // refused before it is expanded
		{batch.LZ4, 20 << 20, false}, // the second try expands it, and lz4 packs zeros worse than zstd
	} {
		l.SetConfig(Config{Recompress: true, Codec: c.codec, MaxMessageBytes: 10 << 10})
		b := build(t, batch.BuilderOptions{Codec: batch.Zstd}, string(make([]byte, c.size)))
		out, held, err := l.Transcode(t.Context(), b, nil)
		var refused *batch.Error
		switch {
		case c.ok && (err != nil || batch.Batch(out).Codec() != c.codec || s.expansions.used != int64(len(out))):
			t.Errorf("%s, %d bytes: %v, %d bytes held", c.codec, c.size, err, s.expansions.used)
		case !c.ok && (!errors.As(err, &refused) || refused.Code != batch.MessageTooLarge && refused.Code != batch.DecompressedTooLarge):
			t.Errorf("%s, %d bytes: %v, want it to be too large", c.codec, c.size, err)
		}
		held.Release()
		if s.expansions.used != 0 {
			t.Errorf("%d bytes are held by nobody", s.expansions.used)
		}
	}
}

// TestExpansionsStayInTheirMemory: who finds it used up waits, and is served in
// order; who gives up is passed over.
func TestExpansionsStayInTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e expansions
		if err := e.take(t.Context(), expansionMemory-1); err != nil {
			t.Fatal(err)
		}
		served := make(chan int, 3)
		ask := func(ctx context.Context, who int, n int64) {
			go func() {
				if e.take(ctx, n) == nil {
					served <- who
				}
			}()
			synctest.Wait()
		}
		impatient, giveUp := context.WithCancel(t.Context())
		ask(impatient, 1, 3)
		ask(t.Context(), 2, 2)
		ask(t.Context(), 3, 1) // would fit, and is not before its turn
		if len(served) > 0 {
			t.Fatalf("%d was served beyond the memory", <-served)
		}
		giveUp()
		synctest.Wait()
		e.give(expansionMemory - 1)
		synctest.Wait()
		if got := len(served); got != 2 || <-served+<-served != 5 || e.used != 3 {
			t.Errorf("%d are served, %d bytes used", got, e.used)
		}
		e.give(3)
		if err := e.take(t.Context(), 10*expansionMemory); err != nil {
			t.Error(err) // alone, even that passes
		}
	})
}

// TestWaitForTheMemoryOfOthersIsTold: a client is not to be charged for it.
func TestWaitForTheMemoryOfOthersIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := small(disk.NewMem(disk.MemOptions{}))
		o.Now = time.Now
		s := open(t, o)
		defer s.Close()
		l := lead(t, s, partition(topicA, 0), 1)
		b := build(t, batch.BuilderOptions{Codec: batch.Gzip}, "a")
		waits := func() { t.Error("told to wait for nothing") }
		if _, held, err := l.Transcode(t.Context(), b, waits); err != nil || held.Waited != 0 {
			t.Fatalf("with nothing to expand: %s, %v", held.Waited, err)
		}
		for name, c := range map[string]Config{
			"codec":     {Recompress: true, Codec: batch.Zstd},
			"condition": {ExpectOffset: true},
			"keys":      {Keyed: true}, // of which the batch has none
		} {
			l.SetConfig(c)
			if err := s.expansions.take(t.Context(), expansionMemory); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(3*time.Second, func() { s.expansions.give(expansionMemory) })
			told, begun := 0, time.Now()
			_, held, err := l.Transcode(t.Context(), b, func() { told++; begun = time.Now() })
			if (err != nil) != (name == "keys") || held.Waited != 3*time.Second {
				t.Errorf("%s: waited %s, %v", name, held.Waited, err)
			}
			if told != 1 || time.Since(begun) != 3*time.Second {
				t.Errorf("%s: %d times told, %s ago, that it would wait", name, told, time.Since(begun))
			}
			held.Release()
		}
	})
}

// TestRecordsOfACompactedTopicNeedAKey: whatever they are compressed with. A null key
// is none, an empty one is. Records that cannot be read are refused, too.
func TestRecordsOfACompactedTopicNeedAKey(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	refusedAs := func(b batch.Batch) batch.Code {
		t.Helper()
		_, held, err := l.Transcode(t.Context(), b, nil)
		held.Release()
		if s.expansions.used != 0 {
			t.Errorf("%d bytes are held by nobody", s.expansions.used)
		}
		var refused *batch.Error
		if errors.As(err, &refused) {
			return refused.Code
		} else if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	for codec := batch.None; codec <= batch.Zstd; codec++ {
		build := func(last []byte, size int) batch.Batch {
			w := batch.NewBuilder(batch.BuilderOptions{Codec: codec})
			w.Add(1, []byte("k"), make([]byte, size))
			w.Add(1, last, nil)
			b, err := w.Build()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		l.SetConfig(Config{})
		if code := refusedAs(build(nil, 1)); code != 0 {
			t.Errorf("%s, a topic that is not compacted: %s", codec, code)
		}
		l.SetConfig(Config{Keyed: true})
		if code := refusedAs(build([]byte{}, 1)); code != 0 {
			t.Errorf("%s: %s", codec, code)
		}
		for _, size := range []int{1, usualExpansion} { // the second try expands it
			if code := refusedAs(build(nil, size)); code != batch.InvalidRecord {
				t.Errorf("%s, %d bytes, no key: %v", codec, size, code)
			}
		}
	}
	w := batch.NewBuilder(batch.BuilderOptions{})
	w.Add(1, []byte("k"), []byte("value"))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	b[batch.HeaderSize] = 99 // the record's length
	binary.BigEndian.PutUint32(b[17:], b.ComputeCRC())
	if code := refusedAs(b); code != batch.InvalidRecord {
		t.Errorf("a record that cannot be read: %v", code)
	}
}
