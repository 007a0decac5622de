package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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
		w.apply("b")
		w.ship()
		for range 3 { // until two snapshots outdate what came before
			w.term++
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
