package controller

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
)

// slowDeletes takes a while for each.
type slowDeletes struct {
	bucket.Bucket
	deleted func()
}

func (b slowDeletes) Delete(ctx context.Context, key string) error {
	time.Sleep(50 * time.Millisecond) // simulated
	b.deleted()
	return b.Bucket.Delete(ctx, key)
}

// TestWhoRemovesOldEntriesAnswers: snapshots outdate hundreds of entries, whose removal takes
// twice as long as who asks whether the cluster lives waits. It is answered meanwhile.
func TestWhoRemovesOldEntriesAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShippedWorld(t)
		w.ship()
		for range 400 {
			w.apply("a")
			w.ship()
		}
		w.term++ // of which a snapshot is the first
		w.restart(8)
		w.shipper.o.Name = "controller 1"
		question := [16]byte{1, 2, 3}
		var asked, answered time.Time
		w.shipper.o.Bucket = slowDeletes{w.bucket, func() {
			if asked.IsZero() {
				asked = time.Now()
				if err := w.bucket.Put(t.Context(), QuestionKey(w.shipper.o.Prefix), bucket.Bytes(LifeText(question, "recovery"))); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.bucket.Stat(t.Context(), AnswerKey(w.shipper.o.Prefix)); err == nil && answered.IsZero() {
				answered = time.Now()
			}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.shipper.lookOut(ctx)
		w.apply("b")
		w.ship()
		for range 3 { // until two snapshots outdate what came before
			w.mu.Lock()
			w.term++
			w.mu.Unlock()
			w.apply("c")
			w.ship()
		}
		if asked.IsZero() || answered.IsZero() || answered.Sub(asked) > LifePatience {
			t.Errorf("asked at %v, answered at %v: that is waited for for %v", asked, answered, LifePatience)
		}
		raw, err := bucket.ReadAll(t.Context(), w.bucket, AnswerKey(w.shipper.o.Prefix), maxLifeText)
		if err != nil {
			t.Fatal(err)
		}
		if to, _, err := ParseLife(raw); err != nil || to != question {
			t.Errorf("the answer is to %x: %v", to, err)
		}
	})
}

// lateBucket takes its time for each request, and never comes back from one that puts if absent
// while it hangs.
type lateBucket struct {
	bucket.Bucket
	late  time.Duration
	hangs atomic.Bool
}

func (b *lateBucket) wait(ctx context.Context) error {
	timer := time.NewTimer(b.late)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *lateBucket) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if b.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.Bucket.PutIfAbsent(ctx, key, data)
}

func (b *lateBucket) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.Bucket.ReadAt(ctx, key, p, off)
}

func (b *lateBucket) Stat(ctx context.Context, key string) (bucket.Info, error) {
	if err := b.wait(ctx); err != nil {
		return bucket.Info{}, err
	}
	return b.Bucket.Stat(ctx, key)
}

func (b *lateBucket) Put(ctx context.Context, key string, content io.WriterTo) error {
	if err := b.wait(ctx); err != nil {
		return err
	}
	return b.Bucket.Put(ctx, key, content)
}

// ask puts a question, and returns how long it was until it was answered; 0: it was not,
// within a minute.
func (w *shippedWorld) ask(question [16]byte) (took time.Duration) {
	w.t.Helper()
	if err := w.bucket.Put(w.t.Context(), QuestionKey(w.shipper.o.Prefix), bucket.Bytes(LifeText(question, "recovery"))); err != nil {
		w.t.Fatal(err)
	}
	for range 60 {
		time.Sleep(time.Second) // simulated
		took += time.Second
		raw, err := bucket.ReadAll(w.t.Context(), w.bucket, AnswerKey(w.shipper.o.Prefix), maxLifeText)
		if err != nil {
			continue
		}
		if to, _, err := ParseLife(raw); err == nil && to == question {
			return took
		}
	}
	return 0
}

// TestWhoPutsAnswers: a put that hangs, as that of an entry does here, keeps nobody from
// hearing that the cluster lives, and the controller from hearing that another life began.
func TestWhoPutsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShippedWorld(t)
		b := &lateBucket{Bucket: w.bucket}
		w.shipper.o.Bucket, w.shipper.o.Name = b, "controller-1"
		ended := uint32(0)
		w.shipper.o.Ended = func(_ context.Context, by uint32) { ended = by }
		w.apply("a")
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			w.shipper.run(t.Context())
		}()
		synctest.Wait()
		b.hangs.Store(true)
		w.apply("b")
		w.shipper.Hurry()
		synctest.Wait()
		if took := w.ask([16]byte{1}); took == 0 || took > LifePatience {
			t.Errorf("answered after %v: that is waited for for %v", took, LifePatience)
		}
		next := w.shipper.standing.Load().next
		e := &metadata.LogEntry{Incarnation: 2, Number: next, Term: 9, Writer: 9, First: 1 << 41, Last: 1 << 41, Snapshot: []byte("another life")}
		if err := w.bucket.PutIfAbsent(t.Context(), LogKey(w.shipper.o.Prefix, next), e.Encode()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(LifePatience) // simulated
		select {
		case <-ran:
		default:
			t.Fatal("it does not end")
		}
		if _, is := errors.AsType[*FencedError](w.shipper.Fenced()); !is || ended != 2 {
			t.Errorf("%v; ended by %d", w.shipper.Fenced(), ended)
		}
	})
}

// TestWhoLooksEndsNoWord: that the life was ended is said to the other nodes until they know
// it, whoever found it out, though who looks finds it again meanwhile.
func TestWhoLooksEndsNoWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShippedWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		said := make(chan struct{})
		w.shipper.o.Ended = func(ctx context.Context, _ uint32) {
			defer close(said)
			<-ctx.Done()
		}
		w.apply("a")
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			w.shipper.run(ctx)
		}()
		synctest.Wait()
		next := w.shipper.standing.Load().next
		e := &metadata.LogEntry{Incarnation: 2, Number: next, Term: 9, Writer: 9, First: 1 << 41, Last: 1 << 41, Snapshot: []byte("another life")}
		if err := w.bucket.PutIfAbsent(ctx, LogKey(w.shipper.o.Prefix, next), e.Encode()); err != nil {
			t.Fatal(err)
		}
		w.apply("b")
		w.shipper.Hurry() // who ships finds it first
		synctest.Wait()
		if w.shipper.Fenced() == nil {
			t.Fatal("it is not found: the test shows nothing")
		}
		w.ask([16]byte{1})
		select {
		case <-said:
			t.Fatal("the others are not told any more")
		default:
		}
		cancel()
		<-ran
	})
}

// blindSpot cannot be read at a key.
type blindSpot struct {
	bucket.Bucket
	key string
}

var errBlind = errors.New("it cannot be read")

func (b blindSpot) ReadAt(ctx context.Context, key string, p []byte, off int64) error {
	if key == b.key {
		return errBlind
	}
	return b.Bucket.ReadAt(ctx, key, p, off)
}

func (b blindSpot) Stat(ctx context.Context, key string) (bucket.Info, error) {
	if key == b.key {
		return bucket.Info{}, errBlind
	}
	return b.Bucket.Stat(ctx, key)
}

// TestWhoCannotReadTheNextNumberAnswers: whether another life began cannot be told, and this one
// lives meanwhile.
func TestWhoCannotReadTheNextNumberAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShippedWorld(t)
		w.ship()
		w.shipper.o.Bucket = blindSpot{w.bucket, LogKey(w.shipper.o.Prefix, w.shipper.standing.Load().next)}
		w.shipper.o.Name = "controller-1"
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.shipper.lookOut(ctx)
		if took := w.ask([16]byte{3}); took == 0 || took > LifePatience {
			t.Errorf("answered after %v: that is waited for for %v", took, LifePatience)
		}
	})
}

// TestASlowBucketIsAnsweredThrough: each request takes longer than a look is from the next,
// and who asks waits for as many as it takes.
func TestASlowBucketIsAnsweredThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShippedWorld(t)
		b := &lateBucket{Bucket: w.bucket, late: 7 * time.Second}
		w.ship()
		w.shipper.o.Bucket, w.shipper.o.Name = b, "controller-1"
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.shipper.lookOut(ctx)
		if took, most := w.ask([16]byte{2}), LifePatience+LifeRequests*b.late; took == 0 || took > most {
			t.Errorf("answered after %v: that is waited for for %v", took, most)
		}
	})
}

// TestDamagedQuestionsAreNone: a flipped bit of a question, or of an answer, is seen wherever
// it is; and text of any other form is no question.
func TestDamagedQuestionsAreNone(t *testing.T) {
	want := [16]byte{1, 2, 3, 0xff}
	text := LifeText(want, "controller 7")
	if got, by, err := ParseLife(text); err != nil || got != want || by != "controller-7" {
		t.Fatalf("%x by %q: %v", got, by, err)
	}
	for i := range text {
		damaged := append([]byte(nil), text...)
		damaged[i] ^= 1
		if got, by, err := ParseLife(damaged); err == nil && (got != want || by != "controller-7") {
			t.Errorf("byte %d flipped: %x by %q", i, got, by)
		}
	}
	for _, text := range []string{"", " ", "\n", "life", "life 1 ab x 00000000\n", string(text[:len(text)/2])} {
		if _, _, err := ParseLife([]byte(text)); err == nil {
			t.Errorf("%q is a question", text)
		}
	}
}
