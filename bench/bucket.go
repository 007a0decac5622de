package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rustmq.dev/rustmq/bench/report"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// recordBytes of a value in the loads of the bucket's figures.
	recordBytes = 1024

	// A server whose log is so small gives records up to the bucket soon.
	smallLog = 256 * mib
)

// What profiles show of the bucket's figures, for [row.Bound].
const (
	uploadBound   = "Of the broker's processor time, a quarter is the SDK's SHA-256 of each body, which HTTP without TLS asks for, the same in the copy; the checksums of batches, blocks and part are a sixth, the copy into the part an eighth."
	coldBound     = "Two cores for a store, a broker and a client, where the bare copy has them for a store and a client: the broker receives each byte into memory of its own, checks it and sends it on. Of its time, half is receiving, a fifth of all the kernel's first touch of that memory, a sixth sending, a tenth checksums; the copy has one buffer that stays in the processor's cache, and a GET for a whole object, which the store sends from its files by sendfile; of a range it copies. The rows of the bare process say what is left where each byte is received, summed and sent on, and nothing else is done."
	catchUpBound  = "Each byte is read from the file and checked, where the tail is sent from memory as it is: half of the server's time is the copy out of the page cache, most of it the kernel's first touch of the memory that it goes into, for the server has just begun; sending is a fifth, checksums a twelfth."
	isolatedBound = "The processor, as far as the rows of the bare process show the same: store, reader and clients share the two cores with the broker. What is beyond is the broker's own reading and compaction, in steps of some tenths of a millisecond, and what their commits write to the device of the log."
)

// smallLogs are the settings of a server with such a log, whose segments are small
// too: what it cannot use is some of them.
func smallLogs() []string {
	return []string{fmt.Sprintf("wal.capacity=%dMiB", smallLog/mib), "wal.segment_size=8MiB", "wal.memory=64MiB"}
}

// bucketOf returns settings that name the bucket.
func bucketOf(addr string, more ...string) []string {
	return append([]string{"object_storage.url=" + s3URL(addr)}, more...)
}

// pollEvery is how often a server is asked for its metrics. Each time it writes all of
// them, a millisecond or two of the processor time that is measured.
const pollEvery = 50 * time.Millisecond

// await polls until something is so.
func await(what string, limit time.Duration, is func() (bool, error)) error {
	return awaitBy(what, pollEvery, limit, is)
}

func awaitBy(what string, every, limit time.Duration, is func() (bool, error)) error {
	for end := time.Now().Add(limit); ; time.Sleep(every) {
		ok, err := is()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case ok:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%s: not after %s", what, limit)
		}
	}
}

// uploaded waits until all that was produced is in the bucket.
func (p *process) uploaded() error {
	time.Sleep(300 * time.Millisecond) // what waits is looked up four times a second
	return await("upload all of it", 2*time.Minute, func() (bool, error) {
		m, err := p.metrics("rustmq_upload_waiting_bytes", "rustmq_upload_running_objects")
		return err == nil && m[0] == 0 && m[1] == 0, err
	})
}

// puts is B1: what the store is asked, counted where it stands.
func (r *run) puts() error {
	for _, c := range []struct{ partitions, records int }{{1, 1 << 20}, {100, 1 << 20}, {10_000, 1 << 19}} {
		if err := r.putsOf(c.partitions, c.records); err != nil {
			return err
		}
	}
	for _, partitions := range []int{1, 100, 10_000} {
		if err := r.putsInTime(partitions); err != nil {
			return err
		}
	}
	return nil
}

// putsAllowed is how many requests may store so many bytes in so much time: one for
// each 8 MiB, or one for each interval, whichever is more.
func putsAllowed(bytes float64, took, interval time.Duration) float64 {
	return max(bytes/(8*mib), float64(took)/float64(interval)+1)
}

// putsOf produces at full speed, without compaction; then compacts; then reads.
func (r *run) putsOf(partitions, records int) error {
	store, err := startS3(false)
	if err != nil {
		return err
	}
	defer store.stop()
	proxy, err := startCounting(store.addr)
	if err != nil {
		return err
	}
	defer proxy.stop()
	ours, err := startRustmqIn(s3Env(), "rustmq", bucketOf(proxy.addr, "compaction.parallel=0")...)
	if err != nil {
		return err
	}
	defer ours.stop()
	of := plural(partitions, "partition")
	if _, err := ours.load("partitions", args("topic", "t", "partitions", partitions)...); err != nil {
		return err
	}
	before := proxy.counts()
	load, err := ours.load("produce", args("topic", "t", "records", records, "size", recordBytes, "partitions", partitions, "connections", 2)...)
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := ours.uploaded(); err != nil {
		return err
	}
	did, took := proxy.counts().minus(before), time.Since(ended)+load.took()
	produced, err := ours.metric("rustmq_catalogue_record_bytes")
	if err != nil {
		return err
	}
	allowed := putsAllowed(produced, took, 10*time.Second)
	r.add(summarise(row{Figure: "B1", Name: of + ", full speed: PUTs of objects, against one per 8 MiB", Unit: "×", Must: 1, Less: true,
		Detail: fmt.Sprintf("%s; %s MiB an object PUT", did.per(produced/gib), report.Number(float64(did.bytes[putObject])/float64(did.n[putObject])/mib))},
		[]float64{float64(did.n[putObject]) / allowed}))
	r.add(summarise(row{Figure: "B1", Name: of + ", full speed: bytes put by those produced, before compaction", Unit: "×", Must: 2, Less: true},
		[]float64{float64(did.putBytes()) / produced}))

	if err := ours.restartWith(bucketOf(proxy.addr, "compaction.interval=1s")...); err != nil {
		return err
	}
	if err := await("compact all of it", 2*time.Minute, func() (bool, error) {
		pending, err := ours.metric("rustmq_compaction_pending_objects")
		return err == nil && pending == 0 && proxy.quiet() > 3*time.Second, err
	}); err != nil {
		return err
	}
	all := proxy.counts().minus(before)
	r.add(summarise(row{Figure: "B1", Name: of + ", full speed: bytes put by those produced, after compaction", Unit: "×", Must: 2, Less: true,
		Detail: all.per(produced / gib)}, []float64{float64(all.putBytes()) / produced}))
	return r.getsOf(ours, proxy, of, partitions, records)
}

// getsOf counts what reading asks of the store.
func (r *run) getsOf(ours *process, proxy *counting, of string, partitions, records int) error {
	// The log gives up what it has beyond its capacity when more is produced.
	small := bucketOf(proxy.addr, "compaction.parallel=0", fmt.Sprintf("wal.capacity=%dMiB", smallLog/mib), "wal.memory=64MiB")
	if err := ours.restartWith(small...); err != nil {
		return err
	}
	if _, err := ours.load("produce", args("records", smallLog*5/4/recordBytes, "size", recordBytes, "connections", 2)...); err != nil {
		return err
	}
	if err := ours.restartWith(small...); err != nil {
		return err
	}
	before := proxy.counts()
	read, err := ours.load("consume", args("topic", "t", "records", records, "partitions", partitions)...)
	if err != nil {
		return err
	}
	did := proxy.counts().minus(before)
	bytes := float64(did.bytes[getRequest])
	if bytes < float64(read.Bytes)/2 {
		return fmt.Errorf("%s MiB of %s MiB were read from the bucket: the figure shows nothing", report.Number(bytes/mib), report.Number(float64(read.Bytes)/mib))
	}
	r.add(summarise(row{Figure: "B1", Name: of + ": GETs a GiB that a consumer reads from the bucket", Unit: "",
		Detail: did.per(bytes / gib)}, []float64{float64(did.n[getRequest]) * gib / bytes}))
	return nil
}

// putsInTime produces little: an object for each interval is all that may be.
func (r *run) putsInTime(partitions int) error {
	const interval, rate, seconds = 3 * time.Second, 256, 15
	store, err := startS3(false)
	if err != nil {
		return err
	}
	defer store.stop()
	proxy, err := startCounting(store.addr)
	if err != nil {
		return err
	}
	defer proxy.stop()
	ours, err := startRustmqIn(s3Env(), "rustmq", bucketOf(proxy.addr, "compaction.parallel=0", "wal.upload_interval="+interval.String())...)
	if err != nil {
		return err
	}
	defer ours.stop()
	if _, err := ours.load("partitions", args("topic", "t", "partitions", partitions)...); err != nil {
		return err
	}
	before := proxy.counts()
	load, err := ours.load("steady", args("topic", "t", "records", rate, "seconds", seconds, "size", recordBytes, "partitions", partitions)...)
	if err != nil {
		return err
	}
	ended := time.Now()
	if err := ours.uploaded(); err != nil {
		return err
	}
	did, took := proxy.counts().minus(before), time.Since(ended)+load.took()
	produced, err := ours.metric("rustmq_catalogue_record_bytes")
	if err != nil {
		return err
	}
	r.add(summarise(row{Figure: "B1", Name: fmt.Sprintf("%s, %d KiB/s: PUTs of objects, against one per wal.upload_interval of %s", plural(partitions, "partition"), rate*recordBytes>>10, interval),
		Unit: "×", Must: 1, Less: true, Detail: fmt.Sprintf("%d PUTs of objects and %d of metadata in %.0f s", did.n[putObject], did.n[putMeta], took.Seconds())},
		[]float64{float64(did.n[putObject]) / putsAllowed(produced, took, interval)}))
	return nil
}

// bandwidth is B2: uploads and cold reads against a bare copy, and a catch-up from
// a bucket in a directory against the tail.
func (r *run) bandwidth() error {
	if err := r.uploads(); err != nil {
		return err
	}
	for _, partitions := range []int{1, 8} {
		if err := r.coldReads(partitions); err != nil {
			return err
		}
	}
	return r.catchUp()
}

// A line to the store: on loopback the processor is all that bounds a copy, and
// three processes share what two have for it; in a network the line does.
const (
	lineRate  = 125 << 20 // bytes a second: 1 Gbit/s
	lineDelay = 10 * time.Millisecond
)

// ways are how the store is reached in B2.
var ways = []struct {
	name string
	line bool
}{{"loopback", false}, {fmt.Sprintf("a line of %d MiB/s and %s each way", lineRate>>20, lineDelay), true}}

// through returns the address to reach the store at, and what ends it.
func (s *s3Server) through(line bool) (addr string, end func(), err error) {
	if !line {
		return s.addr, func() {}, nil
	}
	relay, err := startRelay(s.addr, args("rate", lineRate, "delay", lineDelay)...)
	if err != nil {
		return "", nil, err
	}
	return relay.addr, relay.end, nil
}

// uploads drains a log that held everything back, as after an outage.
func (r *run) uploads() error {
	for _, way := range ways {
		store, err := startS3(false)
		if err != nil {
			return err
		}
		err = r.uploadsTo(store, way.name, way.line)
		store.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) uploadsTo(store *s3Server, way string, line bool) error {
	const records, partitions = 3 << 17, 8 // 384 MiB
	addr, end, err := store.through(line)
	if err != nil {
		return err
	}
	defer end()
	ours := func() (loadResult, error) {
		if err := store.empty(); err != nil {
			return loadResult{}, err
		}
		// Nothing is due: neither the interval nor the bytes of an object. Then all of it
		// is, so that what is less than an object does not wait for the interval of 10 s:
		// this is about the way to the store, not about when to use it.
		p, err := startRustmqIn(s3Env(), "rustmq", bucketOf(addr, "compaction.parallel=0", "wal.upload_interval=1h", "wal.upload_bytes=1GiB")...)
		if err != nil {
			return loadResult{}, err
		}
		defer p.stop()
		if _, err := p.load("produce", append(args("topic", "t", "records", records, "size", recordBytes, "partitions", partitions), "-keep")...); err != nil {
			return loadResult{}, err
		}
		if sent, err := p.metric("rustmq_upload_bytes_total"); err != nil || sent > 0 {
			return loadResult{}, fmt.Errorf("%.0f bytes were uploaded before they were to be (%v)", sent, err)
		}
		if err := p.restartWith(bucketOf(addr, "compaction.parallel=0", "wal.upload_interval=1s")...); err != nil {
			return loadResult{}, err
		}
		return p.drain(store)
	}
	bare := func() (loadResult, error) {
		result, err := store.loadAt(addr, "s3put", args("dir", store.root)...)
		return result, errors.Join(err, os.RemoveAll(filepath.Join(store.root, copyPrefix)))
	}
	return r.pair(row{Figure: "B2", Name: "upload to S3 over " + way + ", against a bare parallel copy", Unit: "×", Must: 0.8, Aim: 0.95, Bound: uploadBound},
		ours, bare, byteRatio, megabytes("rustmq", "copy"))
}

// drain measures the upload of all that waits, until the store has the last object: what
// the copy measures too.
func (p *process) drain(store *s3Server) (result loadResult, err error) {
	began, asked := time.Now(), time.Now() // not after the first object was begun
	// Nothing that is measured runs beside this.
	if err := awaitBy("begin to upload", pollEvery/10, 20*time.Second, func() (bool, error) {
		began, asked = asked, time.Now()
		running, err := p.metric("rustmq_upload_running_objects")
		return running > 0, err
	}); err != nil {
		return result, err
	}
	cpu, err := p.cpu()
	if err != nil {
		return result, err
	}
	if err := p.uploaded(); err != nil {
		return result, err
	}
	used, err := p.cpu()
	if err != nil {
		return result, err
	}
	result.ServerCPU = (used - cpu).Seconds()
	last, err := store.lastStored()
	if err != nil {
		return result, err
	}
	result.Seconds = last.Sub(began).Seconds()
	sent, err := p.metric("rustmq_upload_bytes_total")
	result.Bytes = int64(sent)
	return result, err
}

// lastStored is when the newest object of records got its place.
func (s *s3Server) lastStored() (last time.Time, err error) {
	keys, err := objectFiles(s.root)
	for _, key := range keys {
		var is syscall.Stat_t
		if failed := syscall.Stat(filepath.Join(s.root, key), &is); failed != nil {
			err = errors.Join(err, failed)
		} else if at := time.Unix(is.Ctim.Unix()); at.After(last) {
			last = at
		}
	}
	return last, err
}

// loadAt is load, by way of another address.
func (s *s3Server) loadAt(addr, kind string, args ...string) (loadResult, error) {
	by := *s.process
	by.addr = addr
	return by.load(kind, args...)
}

// coldReads consumes what only the bucket has.
func (r *run) coldReads(partitions int) error {
	const records, size = 24 << 10, 16 << 10 // 384 MiB; what a client does for each record is not the point
	store, err := startS3(false)
	if err != nil {
		return err
	}
	defer store.stop()
	ours, err := startRustmqIn(s3Env(), "rustmq", append(bucketOf(store.addr, "compaction.parallel=0"), smallLogs()...)...)
	if err != nil {
		return err
	}
	defer ours.stop()
	if _, err := ours.load("produce", append(args("topic", "t", "size", size, "partitions", partitions, "records", records), "-keep")...); err != nil {
		return err
	}
	// Others push them out of the log.
	if _, err := ours.load("produce", args("records", smallLog*5/4/size, "size", size)...); err != nil {
		return err
	}
	if err := ours.uploaded(); err != nil {
		return err
	}
	if partitions == 1 {
		if err := r.coldFloor(store); err != nil {
			return err
		}
	}
	for _, way := range ways {
		if err := r.coldReadsOver(store, ours, way.name, way.line, partitions, records); err != nil {
			return err
		}
	}
	return nil
}

// coldFloor is what the machine allows of a cold read: the same objects by way of a process
// that receives, sums and sends on, and does nothing else. The client looks at no byte.
func (r *run) coldFloor(store *s3Server) error {
	for _, c := range []struct {
		name string
		part int
	}{
		{"whole objects", 0},
		{"ranges of 4 MiB, as a broker asks for them", 4 * mib},
	} {
		bare, err := startPeer("a bare broker", append([]string{"broker", "-store", store.addr}, args("part", c.part)...)...)
		if err != nil {
			return err
		}
		err = r.pair(row{Figure: "B2", Name: "the same objects over loopback through a bare process that gets, sums and sends them on, by " + c.name + ", against a bare parallel copy", Unit: "×"},
			on(bare, "passed", args("dir", store.root)...),
			func() (loadResult, error) { return store.loadAt(store.addr, "s3get", args("dir", store.root)...) },
			byteRatio, megabytes("bare process", "copy"))
		bare.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) coldReadsOver(store *s3Server, ours *process, way string, line bool, partitions, records int) error {
	addr, end, err := store.through(line)
	if err != nil {
		return err
	}
	defer end()
	set := append(bucketOf(addr, "compaction.parallel=0"), smallLogs()...)
	read := func() (loadResult, error) {
		if err := ours.restartWith(set...); err != nil { // its caches are empty
			return loadResult{}, err
		}
		result, err := ours.load("consume", args("topic", "t", "records", records)...)
		if err != nil {
			return result, err
		}
		return result, ours.readCold(result.Bytes)
	}
	bare := func() (loadResult, error) { return store.loadAt(addr, "s3get", args("dir", store.root)...) }
	return r.pair(row{Figure: "B2", Name: fmt.Sprintf("cold read from S3 over %s, %s, against a bare parallel copy", way, plural(partitions, "partition")), Unit: "×", Must: 0.8, Aim: 0.95, Bound: coldBound},
		read, bare, byteRatio, megabytes("rustmq", "copy"))
}

// readCold makes sure that a load read so many bytes from the bucket.
func (p *process) readCold(bytes int64) error {
	got, err := p.metric(`rustmq_bucket_bytes_total{class="get"}`)
	if err == nil && got < 0.9*float64(bytes) {
		err = fmt.Errorf("%s MiB of %s MiB were read from the bucket: the figure shows nothing", report.Number(got/mib), report.Number(float64(bytes)/mib))
	}
	return err
}

// catchUp compares records in a bucket in a directory with the same in memory.
func (r *run) catchUp() error {
	const records = 400_000
	tail, err := startRustmq("rustmq", "wal.memory=1GiB")
	if err != nil {
		return err
	}
	defer tail.stop()
	cold, err := startRustmq("rustmq with a small log", append(smallLogs(), "compaction.parallel=0")...)
	if err != nil {
		return err
	}
	defer cold.stop()
	for _, p := range []*process{tail, cold} {
		if _, err := p.load("produce", append(args("topic", "t", "records", records, "size", recordBytes), "-keep")...); err != nil {
			return err
		}
	}
	if _, err := cold.load("produce", args("records", smallLog*5/4/recordBytes, "size", recordBytes)...); err != nil {
		return err
	}
	read := args("topic", "t", "records", records)
	return r.pair(row{Figure: "B2", Name: "catch-up from file://, against the same from the tail", Unit: "×", Must: 0.5, Aim: 0.8, Bound: catchUpBound},
		func() (loadResult, error) {
			if err := cold.restart(); err != nil {
				return loadResult{}, err
			}
			result, err := cold.load("consume", read...)
			if err != nil {
				return result, err
			}
			return result, cold.readCold(result.Bytes)
		}, on(tail, "consume", read...), rateRatio, rates("catch-up", "tail"))
}

func byteRatio(a, b loadResult) float64 {
	return float64(a.Bytes) / a.Seconds / (float64(b.Bytes) / b.Seconds)
}

// megabytes says how fast both sides were, and what processor time a GB took them:
// of ours the server's and the client's, where there is one; of neither the store's.
func megabytes(ours, theirs string) func(a, b loadResult) string {
	return func(a, b loadResult) string {
		gb := func(x loadResult) float64 { return float64(x.Bytes) / 1e9 }
		return fmt.Sprintf("%s %.0f MB/s at %.1f s of processor a GB and %.1f of its client, %s %.0f MB/s at %.1f", ours, 1000*gb(a)/a.Seconds, a.ServerCPU/gb(a), a.ClientCPU/gb(a),
			theirs, 1000*gb(b)/b.Seconds, b.ClientCPU/gb(b))
	}
}

// empty removes all objects.
func (s *s3Server) empty() error {
	entries, err := os.ReadDir(s.root)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.root, e.Name())))
	}
	return err
}
