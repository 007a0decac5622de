package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stage is a part of the time that a request takes in the broker. With what waits for the
// socket afterwards (rustmq_kafka_answer_queue_seconds) they are all of it.
type stage int

const (
	stageQueue     stage = iota // from its arrival to when it is begun
	stagePrepare                // until its batches are appended: room, transforms, a transaction's coordinator
	stageSync                   // until they are on disk here
	stageReplicate              // until enough other replicas, or the bucket, have them
	stageRead                   // a fetch looks for records
	stageWait                   // a fetch waits until there are enough
	stages
)

func (s stage) String() string {
	return [stages]string{"queue", "prepare", "sync", "replicate", "read", "wait"}[s]
}

// stageTimes are how long each took, of one request.
type stageTimes [stages]time.Duration

// served is what they take together, without the wait for others.
func (t *stageTimes) served() (all time.Duration) {
	for s, one := range t {
		if stage(s) != stageWait {
			all += one
		}
	}
	return all
}

// stageMetrics counts where the time of Produce and Fetch goes. Requests of other APIs are
// served at once, or wait for what their names say.
type stageMetrics struct {
	seconds *prometheus.HistogramVec
	produce []stageObserver
	fetch   []stageObserver
}

// stageObserver counts one stage of an API.
type stageObserver struct {
	of    stage
	count prometheus.Observer
}

func newStageMetrics() *stageMetrics {
	m := &stageMetrics{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "rustmq", Subsystem: "broker", Name: "request_stage_seconds",
		Help: "Where the time of a request goes: queue, until it is begun; prepare, until its batches are appended; sync, until they are on disk here; " +
			"replicate, until enough replicas, or the bucket, have them; read, for records; wait, until there are enough.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // as request_duration_seconds
	}, []string{"api", "stage"})}
	of := func(key kmsg.Key, all ...stage) (counts []stageObserver) {
		for _, s := range all {
			counts = append(counts, stageObserver{s, m.seconds.WithLabelValues(key.Name(), s.String())})
		}
		return counts
	}
	m.produce = of(kmsg.Produce, stageQueue, stagePrepare, stageSync, stageReplicate)
	m.fetch = of(kmsg.Fetch, stageQueue, stageRead, stageWait)
	return m
}

func count(by []stageObserver, t *stageTimes) {
	for i := range by {
		by[i].count.Observe(t[by[i].of].Seconds())
	}
}

// observe counts where the time of a request went that is about to be answered, and tells of
// it if it was slow.
func (p *produceRequest) observe(now time.Time) {
	t, last := p.times(now)
	count(p.b.metrics.stages.produce, &t)
	p.b.metrics.produceTimes.Observe(now.Sub(p.r.Received))
	p.notes(now, &t, last)
	if p.b.opt.Tracer != nil {
		p.trace(now)
	}
}

// observe counts where the time of a fetch went that is about to be answered, and tells of it
// if it was slow.
func (f *fetchRequest) observe(now time.Time) {
	f.b.metrics.answered(f.r.Key, now.Sub(f.r.Received))
	var t stageTimes
	t[stageQueue] = max(f.begun.Sub(f.r.Received), 0)
	t[stageWait] = max(f.waited, 0)
	t[stageRead] = max(now.Sub(f.begun)-t[stageWait], 0)
	count(f.b.metrics.stages.fetch, &t)
	f.b.metrics.fetchTimes.Observe(t.served())
	f.notes(now, &t)
	if f.b.opt.Tracer != nil {
		f.trace(now)
	}
}

// times are how long the stages of a request took that is about to be answered. Of several
// partitions those that were last say it; last is one of them, or one that was refused.
func (p *produceRequest) times(now time.Time) (t stageTimes, last *producePart) {
	t[stageQueue] = max(p.begun.Sub(p.r.Received), 0)
	var appended, synced time.Time
	for i := range p.parts {
		part := &p.parts[i]
		if last == nil || part.synced.After(last.synced) || last.err == nil && part.err != nil {
			last = part
		}
		if part.appended.After(appended) {
			appended = part.appended
		}
		if part.synced.After(synced) {
			synced = part.synced
		}
	}
	switch {
	case appended.IsZero(): // all were refused before
		appended, synced = now, now
	case synced.Before(appended): // refused since, or acked from memory
		synced = appended
	}
	t[stagePrepare] = max(appended.Sub(p.begun), 0)
	t[stageSync] = max(synced.Sub(appended), 0)
	t[stageReplicate] = max(now.Sub(synced), 0)
	return t, last
}
