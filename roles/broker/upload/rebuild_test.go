package upload

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/rebuild"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/object"
)

// producing sends batches of producers, some in transactions, of which some end.
type producing struct {
	w         *world
	rng       *rand.Rand
	sequences map[int64]int32
	open      map[int64]bool
	unacked   []appended
}

func (p *producing) send() {
	led, _ := p.w.Led(id(0))
	producer := int64(1 + p.rng.IntN(6))
	transactional := producer > 3
	if transactional && p.open[producer] && p.rng.IntN(3) == 0 {
		answer := make(appended, 1)
		led.Log.AppendMarker(context.Background(), time.Now(), log.Marker{ProducerID: producer, Commit: p.rng.IntN(2) == 0}, log.MarkerOptions{Epoch: led.Epoch}, answer)
		p.open[producer] = false
		p.unacked = append(p.unacked, answer)
		return
	}
	sequence := p.sequences[producer]
	b := batch.NewBuilder(batch.BuilderOptions{Transactional: transactional, Producer: &batch.Producer{ID: producer, BaseSequence: sequence}})
	n := 1 + p.rng.IntN(3)
	for range n {
		b.Add(time.Now().UnixMilli(), nil, make([]byte, p.rng.IntN(200)))
	}
	raw, err := b.Build()
	if err != nil {
		p.w.t.Fatal(err)
	}
	o := log.AppendOptions{Epoch: led.Epoch}
	if transactional {
		if o.Guard, _, err = led.Log.BeginVerification(producer, 0, sequence); err != nil {
			p.w.t.Fatal(err)
		}
		p.open[producer] = true
	}
	if err := p.w.store.Admit(context.Background(), len(raw)); err != nil {
		p.w.t.Fatal(err)
	}
	answer := make(appended, 1)
	led.Log.Append(time.Now(), raw, o, answer)
	p.sequences[producer] += int32(n)
	p.unacked = append(p.unacked, answer)
}

// TestTheBucketKnowsWhatTheLogKnew: as of the committed end, after each upload: whatever
// ranges say of producers, and where they are filed.
func TestTheBucketKnowsWhatTheLogKnew(t *testing.T) {
	rng := newRand(t)
	for range 5 {
		run := rng.Uint64()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.config.BucketAcks = true
			w.limits.AckInterval, w.limits.AckBytes, w.limits.OwnBytes = 250*time.Millisecond, 16<<10, 1 // an object for each range
			w.open()
			defer w.close()
			p := &producing{w: w, rng: rand.New(rand.NewPCG(run, 0)), sequences: map[int64]int32{}, open: map[int64]bool{}}
			whole := 0
			for range 25 {
				for range 1 + p.rng.IntN(8) {
					p.send()
				}
				pass(time.Second)
				for _, answer := range p.unacked {
					if r := <-answer; r.Err != nil {
						t.Fatal(r.Err)
					}
				}
				p.unacked = nil
				if p.rng.IntN(4) == 0 {
					w.fileAll()
				}
				last, _ := w.partition(0).Ranges().Last()
				if len(w.index(0, last).Producers) > 0 {
					whole++
				}
				w.wantRebuilt()
			}
			if whole == 0 || whole == 25 {
				t.Errorf("%d of 25 ranges say all of producers: the test shows nothing of the others", whole)
			}
		})
		if t.Failed() {
			t.Fatalf("run %d", run)
		}
	}
}

// wantRebuilt expects of the bucket what the log knows.
func (w *world) wantRebuilt() {
	w.t.Helper()
	o := rebuild.Options{Bucket: w.bucket, Millis: time.Now().UnixMilli(), Key: func(id storage.ObjectID) string { return object.Key("", "c", 1, id) }}
	encoded, err := rebuild.State(w.t.Context(), o, id(0), w.partition(0))
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := log.Open(w.t.Context(), storeOptions(disk.NewMem(disk.MemOptions{})))
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	l, err := s.Create(id(0), w.config)
	if err == nil {
		err = l.RestartFromBucket(w.partition(0).CommittedEnd(), encoded)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	led, _ := w.Led(id(0))
	got, want := l.Producers(), led.Log.Producers()
	for _, of := range [][]log.ProducerState{got, want} {
		for i := range of {
			of[i].LastTimestamp = 0
		}
	}
	if !reflect.DeepEqual(got, want) || l.LastStable() != led.Log.LastStable() || l.EpochAt(l.End()-1) != led.Log.EpochAt(l.End()-1) {
		w.t.Fatalf("the bucket knows of %+v, stable %d, epoch %d;\nthe log of %+v, stable %d, epoch %d",
			got, l.LastStable(), l.EpochAt(l.End()-1), want, led.Log.LastStable(), led.Log.EpochAt(l.End()-1))
	}
}

// fileAll files all ranges of the partition but the last in a manifest.
func (w *world) fileAll() {
	w.t.Helper()
	p := w.partition(0)
	led, _ := w.Led(id(0))
	f := &metadata.Filing{Partition: id(0), LeaderEpoch: led.Epoch}
	if len(p.Filed()) > 0 {
		return
	}
	for i := range p.Ranges().Len() - 1 {
		is := p.Ranges().At(i)
		o, _ := w.state.Image().Object(is.Object)
		f.Moved = append(f.Moved, metadata.FiledRange(&is, o.Size))
	}
	if len(f.Moved) == 0 {
		return
	}
	first, err := w.Prepare(w.t.Context(), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	m := object.Manifest{Header: object.Header{Cluster: "c", Incarnation: 1, Broker: 1, ID: first}, Partition: id(0), Topic: "t", Ranges: f.Moved}
	b, ref, err := m.Encode()
	if err == nil {
		err = w.inner.Put(w.t.Context(), object.Key("", "c", 1, first), bucket.Bytes(b))
	}
	if err == nil {
		_, err = w.apply(metadata.NewFileRanges(1, w.registry, first, ref, f))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
