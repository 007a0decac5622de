package hour

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/test/tally"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// short is how long a world lives in make test.
const short = 5 * time.Minute

// TestAnHourOfChaosLeavesNoOrphanAndLosesNothing: SOAK minutes, with as many seeds as
// SEEDS says.
func TestAnHourOfChaosLeavesNoOrphanAndLosesNothing(t *testing.T) {
	lasts, seeds := short, uint64(1)
	if text := os.Getenv("SOAK"); text != "" {
		minutes, err := strconv.Atoi(text)
		if err != nil || minutes < 1 {
			t.Fatalf("SOAK=%q: minutes", text)
		}
		lasts, seeds = time.Duration(minutes)*time.Minute, 5
		if n, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 32); err == nil {
			seeds = n
		}
	}
	first := seeded.Seed(t)
	for n := range seeds {
		seed := first + n
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			var w *world
			synctest.Test(t, func(t *testing.T) {
				w = newWorld(t, seed)
				w.live(lasts)
			})
			tally.Log(t, w.tally)
		})
	}
}

// world is a node through all of its lives, its bucket, and who uses it.
type world struct {
	t            *testing.T
	sky          *sky
	rng          *rand.Rand // of the course of things, not of the clients
	began, until time.Time
	calm         bool // no start is disturbed

	// Of one life after the other.
	fs      *disk.Mem
	cluster string

	tally tally.Counts // once it has been counted; its time is that of the storm, not of what follows

	mu     sync.Mutex // held for no call that takes time
	nonce  [16]byte
	dice   *rand.Rand
	now    *life    // nil: there is none
	topics []*model // one for each partition
	counts struct {
		records, batches, fetched, deletions, topics, checks int
		filed                                                int          // the most ranges in manifests
		ended                                                int          // lives, by govern
		lives                                                [endings]int // of govern
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Logf("-seed %d", seed)
	return &world{
		t: t, sky: newSky(rand.New(rand.NewPCG(seed, 1))), rng: rand.New(rand.NewPCG(seed, 2)),
		fs: disk.NewMem(disk.MemOptions{}), dice: rand.New(rand.NewPCG(seed, 3)),
	}
}

func (w *world) alive() *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// fail is for what must never be.
func (w *world) fail(err error) {
	w.t.Helper()
	w.t.Errorf("after %v: %v", time.Since(w.began), err)
}

// live lets the world go on for a while, then calms it, and counts.
func (w *world) live(lasts time.Duration) {
	w.began, w.until = time.Now(), time.Now().Add(lasts)
	w.start()
	var users sync.WaitGroup
	for i := range 3 {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
		users.Go(func() { w.write(rng, i) })
	}
	for range 2 {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
		users.Go(func() { w.read(rng) })
	}
	rng := rand.New(rand.NewPCG(w.rng.Uint64(), 0))
	users.Go(func() { w.manage(rng) })
	w.govern()
	storm := time.Since(w.began)
	users.Wait()
	if !w.t.Failed() {
		w.settle()
	}
	if !w.t.Failed() {
		w.count()
		w.tally["simulated_seconds"] = int64(storm.Seconds())
	}
	if l := w.alive(); l != nil {
		if err := w.end(l, stopped); err != nil {
			w.fail(err)
		}
	}
	w.sky.landings.Wait()
}

// over reports whether the world ends: at its time, or some time later, when by then
// too little has happened to show anything.
func (w *world) over() bool {
	late := time.Since(w.until)
	return w.t.Failed() || late >= 0 && (w.eventful() || late >= w.until.Sub(w.began)+time.Hour)
}

// eventful reports whether all that is to be shown harmless has happened.
func (w *world) eventful() bool {
	s := w.sky
	s.mu.Lock()
	happened := s.counts.objects > 0 && s.counts.deleted > 0 && s.counts.late > 0 && s.counts.stale > 0
	s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := &w.counts
	return happened && n.records > 0 && n.fetched > 0 && n.filed > 0 && n.ended > 0
}

// start begins a life, some of which end as they begin; the bucket may have to be
// waited for.
func (w *world) start() {
	for tries := 0; ; tries++ {
		how, after := ending(1+w.rng.IntN(2)), int64(ages)
		if w.rng.IntN(4) == 0 && !w.calm {
			after = 1 + w.rng.Int64N(60)
		}
		l, err := w.begin(context.Background(), how, after)
		w.mu.Lock()
		over := l.over.Load()
		if err == nil && !over {
			w.now = l
		}
		w.mu.Unlock()
		switch {
		case over:
			_ = l.close() // a second time, if it did not come to its opening
			w.counts.lives[how]++
		case err == nil:
			l.left.Store(ages)
			return
		case w.remembered() != [16]byte{} || tries > 100: // it has known its bucket: it needs nothing from there
			w.t.Fatalf("a start failed: %v", err)
		}
		pass(time.Second)
	}
}

// remembered is the nonce of the bucket that the data directory keeps.
func (w *world) remembered() [16]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nonce
}

// leave has clients find nobody.
func (w *world) leave() *life {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.now
	w.now = nil
	return l
}

// pass lets time go by.
func pass(d time.Duration) { <-time.After(d) }

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

// govern changes the weather, ends lives and begins others, and looks for what must
// never be.
func (w *world) govern() {
	turns, ends, looks := time.Now(), time.Now().Add(between(w.rng, 30*time.Second, 2*time.Minute)), 0
	for ; !w.over(); pass(time.Second) {
		if now := time.Now(); now.After(turns) {
			w.sky.turn(climate[w.rng.IntN(len(climate))])
			turns = now.Add(between(w.rng, 10*time.Second, 80*time.Second))
		}
		if looks++; looks%10 == 0 {
			image := w.alive().c.Image()
			w.mu.Lock()
			w.counts.filed = max(w.counts.filed, image.FiledRanges())
			w.mu.Unlock()
			w.look(image, "the catalogue")
		}
		if looks%60 == 0 {
			w.look(w.recovered(), "the metadata log in the bucket")
		}
		if time.Now().Before(ends) {
			continue
		}
		how := ending(w.rng.IntN(int(endings)))
		if err := w.end(w.alive(), how); err != nil {
			w.fail(fmt.Errorf("%s: %w", how, err))
			return
		}
		w.counts.lives[how]++
		w.mu.Lock()
		w.counts.ended++
		w.mu.Unlock()
		pass(between(w.rng, 0, 20*time.Second))
		w.start()
		ends = time.Now().Add(between(w.rng, 10*time.Second, 5*time.Minute))
	}
}

// look finds what an image names and the bucket does not have.
func (w *world) look(image *metadata.Image, of string) {
	for id := range w.named(image) {
		if !w.sky.has(w.key(id)) {
			w.fail(fmt.Errorf("object %s is missing: %s names it", id, of))
		}
	}
}

// named walks the objects that an image names, by itself and by its manifests.
func (w *world) named(image *metadata.Image) iter.Seq[storage.ObjectID] {
	return func(yield func(storage.ObjectID) bool) {
		for o := range image.ObjectsIn(metadata.Committed) {
			if !yield(o.ID) {
				return
			}
		}
		for of, is := range image.Manifests() {
			raw, err := bucket.ReadAll(context.Background(), w.sky.memory, w.key(is.ID), 1<<20)
			var m *object.Manifest
			if err == nil {
				m, err = object.DecodeManifest(raw, is.ID, of, is.ManifestRef)
			}
			if err != nil {
				w.fail(fmt.Errorf("manifest %s of %s: %w", is.ID, of, err))
				continue
			}
			for _, r := range m.Ranges {
				if !yield(r.Object) {
					return
				}
			}
		}
	}
}

// recovered is what the bucket alone says of the cluster.
func (w *world) recovered() *metadata.Image {
	state, next := metadata.NewState(), uint64(0)
	var entries []*metadata.LogEntry
	below := object.ClusterPrefix(prefix, w.cluster) + fmt.Sprintf("%08x/meta/", controller.FirstIncarnation)
	err := w.sky.memory.List(context.Background(), below, "", func(i bucket.Info) bool {
		raw, err := bucket.ReadAll(context.Background(), w.sky.memory, i.Key, 1<<30)
		if err != nil {
			w.fail(err)
			return false
		}
		e, err := metadata.DecodeLogEntry(raw)
		if err != nil {
			w.fail(fmt.Errorf("%s: %w", i.Key, err))
			return false
		}
		if e.Snapshot != nil { // what came before is of no use any more
			entries = entries[:0]
		}
		entries = append(entries, e)
		return true
	})
	for _, e := range entries {
		if err == nil && e.Snapshot != nil {
			err = state.Restore(e.Snapshot)
		} else if e.Number != next {
			err = fmt.Errorf("entry %d follows entry %d", e.Number, next-1)
		}
		next = e.Number + 1
		for _, c := range e.Commands {
			if err == nil {
				_, err = state.Apply(c.Index, c.Command)
			}
		}
	}
	if err != nil {
		w.fail(fmt.Errorf("recover from the bucket: %w", err))
	}
	return state.Image()
}

// pick is any partition, or nil.
func (w *world) pick(rng *rand.Rand) *model {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.topics) == 0 {
		return nil
	}
	return w.topics[rng.IntN(len(w.topics))]
}

// write produces, each record once.
func (w *world) write(rng *rand.Rand, writer int) {
	c := &client{w: w}
	defer c.drop()
	for n := 0; !w.over(); pass(between(rng, 0, 800*time.Millisecond)) {
		m := w.pick(rng)
		if m == nil {
			continue
		}
		b := batch.NewBuilder(batch.BuilderOptions{})
		var records []record
		for range rng.IntN(4) + 1 {
			r := record{fmt.Sprintf("%d-%d", writer, n), time.Now()}
			n++
			records = append(records, r)
			b.Add(r.at.UnixMilli(), nil, []byte(value(r.name)))
		}
		built, err := b.Build()
		if err != nil {
			w.fail(err)
			return
		}
		w.mu.Lock()
		for _, r := range records {
			m.sent[r.name] = r
		}
		w.mu.Unlock()
		base, err := c.produce(m.topic, m.id.Index, built)
		if err != nil {
			continue // it may be there all the same
		}
		w.mu.Lock()
		if !c.life.over.Load() {
			w.counts.batches++
			w.counts.records += len(records)
			err = m.ack(base, records)
		}
		w.mu.Unlock()
		if err != nil {
			w.fail(err)
		}
	}
}

// read reads a few batches from anywhere.
func (w *world) read(rng *rand.Rand) {
	c := &client{w: w}
	defer c.drop()
	for ; !w.over(); pass(between(rng, 0, 2*time.Second)) {
		m := w.pick(rng)
		if m == nil {
			continue
		}
		w.mu.Lock()
		at, end := int64(0), m.end
		w.mu.Unlock()
		if end == 0 {
			continue
		}
		at = rng.Int64N(end)
		for range rng.IntN(5) + 1 {
			next, err := w.readAt(c, m, at)
			if err != nil || next == at {
				break
			}
			at = next
		}
	}
}

// readAt reads what lies at an offset, and returns where it ends. Errors are those
// that a client tries again, or does not.
func (w *world) readAt(c *client, m *model, at int64) (next int64, err error) {
	records, _, err := c.fetch(m.topic, m.id.Index, at)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return at, w.outOfRange(c.life, m, at)
	}
	if err != nil {
		return at, err
	}
	next = at
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.life.over.Load() {
		return at, errNobody
	}
	for len(records) > 0 {
		b, rest, err := batch.Next(records)
		if err != nil {
			w.fail(err)
			return at, err
		}
		records = rest
		base := int64(b.BaseOffset())
		if base > next {
			w.fail(fmt.Errorf("%s-%d: the batch at %d was due, and came that at %d", m.topic, m.id.Index, next, base))
		}
		it := b.Records(1 << 20)
		for it.Next() {
			r := it.Record()
			if err := m.read(int64(r.Offset), string(r.Value)); err != nil {
				w.fail(err)
			}
			w.counts.fetched++
		}
		if it.Err() != nil {
			w.fail(it.Err())
		}
		next = int64(b.NextOffset())
	}
	return next, nil
}

// outOfRange is what a reader was told: the log must begin behind, and rightly so.
func (w *world) outOfRange(l *life, m *model, at int64) error {
	_, p := l.c.Image().Partition(m.id)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case p == nil || l.over.Load():
		return errNobody
	case int64(p.LogStart) <= at:
		w.fail(fmt.Errorf("%s-%d: %d is said to be out of range, and the log starts at %d", m.topic, m.id.Index, at, p.LogStart))
	default:
		if err := m.startsAt(int64(p.LogStart), time.Now()); err != nil {
			w.fail(err)
		}
	}
	return nil
}

// manage makes and deletes topics, gives up records, and has the bucket checked.
func (w *world) manage(rng *rand.Rand) {
	c := &client{w: w}
	defer c.drop()
	for made := 0; !w.over(); pass(between(rng, 0, 10*time.Second)) {
		l := w.alive()
		if l == nil {
			continue
		}
		w.mu.Lock()
		few := len(w.topics) < 8
		w.mu.Unlock()
		switch n := rng.IntN(20); {
		case few && n < 10:
			w.create(l, rng, fmt.Sprint("t", made))
			made++
		case n < 2:
			w.remove(l, w.pick(rng))
		case n < 16:
			w.giveUp(c, rng, w.pick(rng))
		default:
			w.check(l, rng.IntN(2) == 0, rng.IntN(2) == 0)
		}
	}
}

func (w *world) create(l *life, rng *rand.Rand, name string) {
	configs := map[string]string{}
	switch rng.IntN(4) {
	case 0:
		configs["retention.ms"] = strconv.Itoa(60_000 * (1 + rng.IntN(6)))
	case 1:
		configs["retention.bytes"] = strconv.Itoa(100_000 * (1 + rng.IntN(4)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := l.c.CreateTopics(ctx, []controller.NewTopic{{Name: name, Partitions: int32(rng.IntN(3) + 1), ReplicationFactor: 1, Configs: configs}}, false)[0]
	if r.Err != nil {
		return // it may have come to be: nobody uses it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.over.Load() {
		return
	}
	w.counts.topics++
	for i := range r.Partitions {
		w.topics = append(w.topics, newModel(name, storage.PartitionID{Topic: r.ID, Index: i}, keep(configs)))
	}
}

// remove deletes a topic; nobody uses it from then on, whatever the answer.
func (w *world) remove(l *life, m *model) {
	if m == nil {
		return
	}
	w.mu.Lock()
	w.topics = slices.DeleteFunc(w.topics, func(x *model) bool { return x.topic == m.topic })
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l.c.DeleteTopics(ctx, []controller.TopicRef{{ID: m.id.Topic}})
}

func (w *world) giveUp(c *client, rng *rand.Rand, m *model) {
	if m == nil {
		return
	}
	w.mu.Lock()
	if m.end == 0 {
		w.mu.Unlock()
		return
	}
	before := m.asked + rng.Int64N(max(1, (m.end-m.asked)/3))
	m.asked = max(m.asked, before)
	w.counts.deletions++
	w.mu.Unlock()
	_ = c.deleteRecords(m.topic, m.id.Index, before) // asked is asked
}

// check asks for a comparison of bucket and catalogue, whatever the weather: it may
// fail, but must not find that anything is missing or damaged. A bit that flips on
// the way is damage to it.
func (w *world) check(l *life, verify, repair bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := controller.CheckRequest{Repair: repair, Verify: verify}
	for {
		report, err := l.c.CheckBucket(ctx, r)
		if err != nil || l.over.Load() {
			return
		}
		if report.Missing.Objects+report.WrongSize.Objects > 0 {
			w.fail(fmt.Errorf("a check found %+v", report))
		}
		if r.After = report.Next; r.After == "" {
			break
		}
	}
	w.mu.Lock()
	w.counts.checks++
	w.mu.Unlock()
}

// settle waits in fair weather until nothing is to be done any more.
func (w *world) settle() {
	w.calm = true
	w.sky.turn(fair)
	w.sky.landings.Wait()
	pass(3 * (deadline + grace + auditing))
	// A life that has nothing in its caches.
	if err := w.end(w.alive(), killed); err != nil {
		w.fail(err)
	}
	w.start()
	pass(3 * (deadline + grace + auditing))
}

// count compares all there is.
func (w *world) count() {
	l := w.alive()
	image := l.c.Image()
	if err := l.c.BucketHealth(); err != nil {
		w.fail(err)
	}
	// Orphans and missing.
	listed := map[string]bool{}
	data := object.DataPrefix(prefix, w.cluster, controller.FirstIncarnation)
	if err := w.sky.memory.List(context.Background(), data, "", func(i bucket.Info) bool { listed[i.Key] = true; return true }); err != nil {
		w.fail(err)
	}
	named, missing := 0, 0
	for id := range w.named(image) {
		key := w.key(id)
		if named++; !listed[key] {
			missing++
			w.fail(fmt.Errorf("object %s is missing, or named twice", id))
		}
		delete(listed, key)
	}
	for key := range maps.Keys(listed) {
		w.fail(fmt.Errorf("%s is an orphan", key))
	}
	for _, state := range []metadata.ObjectState{metadata.Prepared, metadata.Condemned} {
		for o := range image.ObjectsIn(state) {
			w.fail(fmt.Errorf("object %s is %s for ever", o.ID, state))
		}
	}
	w.look(w.recovered(), "the metadata log in the bucket")
	// Every byte of them, by the command that a user has.
	report, err := l.c.CheckBucket(context.Background(), controller.CheckRequest{Verify: true, Budget: time.Hour})
	if err != nil || report.Damaged() || len(report.Findings) > 0 || report.Verified.Objects != int64(named) {
		w.fail(fmt.Errorf("a check found %+v, %v", report, err))
	}
	// All records.
	c := &client{w: w}
	defer c.drop()
	records, unanswered := 0, 0
	for _, m := range w.topics {
		if _, p := image.Partition(m.id); p == nil {
			w.fail(fmt.Errorf("%s-%d is gone", m.topic, m.id.Index))
			continue
		}
		n, err := w.readAll(c, m)
		if err != nil {
			w.fail(fmt.Errorf("read %s-%d: %w", m.topic, m.id.Index, err))
		}
		records += n
		unanswered += len(m.seen)
	}
	enough := w.eventful()
	s, n := w.sky, &w.counts
	s.mu.Lock()
	defer s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("%v: %d records in %d batches acked, %d read back at random, %d deletions of records, %d topics, %d checks; lives ended: %d stopped, %d killed, %d without power",
		time.Since(w.began).Round(time.Minute), n.records, n.batches, n.fetched, n.deletions, n.topics, n.checks, n.lives[stopped], n.lives[killed], n.lives[cut])
	w.t.Logf("%d calls of the bucket: %d refused, %d answers lost, %d late, %d bits flipped, %d lists stale",
		s.counts.calls, s.counts.refused, s.counts.lost, s.counts.late, s.counts.flipped, s.counts.stale)
	w.t.Logf("%d ranges in manifests at most, %d in %d now", n.filed, image.FiledRanges(), image.NumManifests())
	w.t.Logf("%d objects made, %d deleted, %d left, %d orphans, %d missing; %d records left, all read, %d of them never acked",
		s.counts.objects, s.counts.deleted, named, len(listed), missing, records, unanswered)
	if !enough {
		w.t.Error("too little has happened: this shows nothing")
	}
	w.tally = tally.Counts{
		"seeds": 1, "records": int64(records - unanswered), "bucket_faults": int64(s.counts.refused + s.counts.lost + s.counts.late + s.counts.flipped + s.counts.stale),
		"objects_audited": int64(named), "objects_deleted": int64(s.counts.deleted), "stops": int64(n.lives[stopped]), "kills": int64(n.lives[killed]), "power_cuts": int64(n.lives[cut]),
	}
}

// readAll reads a partition from its start, and returns how many records that are: all
// that were acked, and not given up.
func (w *world) readAll(c *client, m *model) (records int, err error) {
	_, p := w.alive().c.Image().Partition(m.id)
	start := int64(p.LogStart)
	w.mu.Lock()
	err = m.startsAt(start, time.Now())
	end := m.end
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if uploaded := int64(p.CommittedEnd()); uploaded < end {
		return 0, fmt.Errorf("in the bucket up to %d of %d", uploaded, end)
	}
	tries := 0
	for at := start; at < end; {
		next, err := w.readAt(c, m, at)
		if err == nil && next == at {
			err = errors.New("nothing comes")
		}
		if err != nil {
			if tries++; tries > 20 {
				return records, fmt.Errorf("at %d: %w", at, err)
			}
			pass(time.Second)
			continue
		}
		records += int(next - at)
		at, tries = next, 0
	}
	return records, nil
}
