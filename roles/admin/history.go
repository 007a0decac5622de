package admin

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"rustmq.dev/rustmq/roles/figures"
)

// TellFigures is answered by figures.Counts.
const TellFigures = "figures"

const (
	historyPath = apiPath + "/history"
	// liveEvery is the time between two looks while somebody follows.
	liveEvery = figures.Every / 2
)

// History is an hour of a cluster, a column for each figure. What is not known is null.
type History struct {
	Every   float64              `json:"every" doc:"seconds between two points"`
	Times   []float64            `json:"times" doc:"of the points, in seconds since 1970, rising"`
	Figures map[string][]*Figure `json:"figures" doc:"by name, as many as times: produced_bytes, produced_records, fetched_bytes, requests and uploaded_bytes a second; produce_p50, produce_p99, produce_p999, fetch_p50, fetch_p99, sync_p50 and sync_p99 in seconds; log_bytes, memory_bytes, waiting_bytes, bucket_bytes, connections and brokers"`
}

// Figure is a number to four digits.
type Figure float64

// MarshalJSON implements json.Marshaler.
func (f Figure) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(f), 'g', 4, 64), nil
}

// known is a figure, or nil of what is not known.
func known(v float64) *Figure {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	f := Figure(v)
	return &f
}

// figuresOf are those of a point by name.
func figuresOf(p *figures.Point) map[string]float64 {
	return map[string]float64{
		"produced_bytes": p.ProducedBytes, "produced_records": p.ProducedRecords, "fetched_bytes": p.FetchedBytes, "requests": p.Requests, "uploaded_bytes": p.UploadedBytes,
		"produce_p50": p.ProduceP50, "produce_p99": p.ProduceP99, "produce_p999": p.ProduceP999, "fetch_p50": p.FetchP50, "fetch_p99": p.FetchP99, "sync_p50": p.SyncP50, "sync_p99": p.SyncP99,
		"log_bytes": p.LogBytes, "memory_bytes": p.MemoryBytes, "waiting_bytes": p.WaitingBytes, "bucket_bytes": p.BucketBytes, "connections": p.Connections, "brokers": float64(p.Brokers),
	}
}

// recorder asks brokers from time to time what they have counted, and keeps an hour of what
// comes of it. It is safe for concurrent use.
type recorder struct {
	told   Tellers        // nil: nobody is asked
	bucket func() float64 // bytes of records in the bucket

	mu       sync.Mutex
	hour     figures.Hour    // guarded by mu, as is what follows
	kept     *figures.Sample // by which the last point of hour was reckoned
	last     *figures.Sample
	live     *figures.Point // of the last two samples
	unknown  []SilentBroker
	watchers int
	moved    chan struct{} // closed when there is a sample after the last, or another watcher
}

// SilentBroker is a broker in service that does not say what it counts.
type SilentBroker struct {
	Broker int32  `json:"broker"`
	Why    string `json:"why"`
}

func newRecorder(told Tellers, bucket func() float64) *recorder {
	return &recorder{told: told, bucket: bucket, moved: make(chan struct{})}
}

// watch looks until ctx ends: at least each [figures.Every], twice as often while somebody
// follows. It blocks on the brokers, for as long as Tellers does.
func (r *recorder) watch(ctx context.Context) {
	if r.told == nil {
		return
	}
	for due := time.Now(); ; {
		r.look(ctx)
		for {
			r.mu.Lock()
			wait, moved := figures.Every, r.moved
			if r.watchers > 0 {
				wait = liveEvery
			}
			r.mu.Unlock()
			timer := time.NewTimer(time.Until(due.Add(wait)))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-moved: // somebody follows by now
				timer.Stop()
				continue
			case <-timer.C:
			}
			due = due.Add(wait)
			if late := time.Now(); due.Before(late.Add(-wait)) { // after a pause there is nothing to make up for
				due = late
			}
			break
		}
	}
}

// look asks the brokers once.
func (r *recorder) look(ctx context.Context) {
	s := &figures.Sample{Brokers: map[int32]figures.Counts{}, BucketBytes: r.bucket()}
	unknown := []SilentBroker{}
	for _, is := range r.told.Told(ctx, TellFigures) {
		if counts, why := answered[figures.Counts](is); counts != nil {
			s.Brokers[is.Broker] = *counts
		} else {
			unknown = append(unknown, SilentBroker{is.Broker, why})
		}
	}
	if s.Time = time.Now(); ctx.Err() == nil {
		r.take(s, unknown)
	}
}

// take keeps what was seen.
func (r *recorder) take(s *figures.Sample, unknown []SilentBroker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		p := figures.Between(r.last, s)
		r.live = &p
	}
	switch {
	case r.kept == nil:
		r.kept = s
	case s.Time.Sub(r.kept.Time) >= figures.Every-liveEvery/2:
		r.hour.Add(figures.Between(r.kept, s))
		r.kept = s
	}
	r.last, r.unknown = s, unknown
	r.move()
}

// move wakes those who wait. r.mu is held.
func (r *recorder) move() {
	close(r.moved)
	r.moved = make(chan struct{})
}

// follow has the recorder look more often until leave.
func (r *recorder) follow() (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watchers++; r.watchers == 1 {
		r.move()
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watchers--
	}
}

// now is the last point, who was silent, and what is closed when there is more.
func (r *recorder) now() (live *figures.Point, unknown []SilentBroker, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live, r.unknown, r.moved
}

// after is what is kept of the time after a moment.
func (r *recorder) after(t time.Time) History {
	r.mu.Lock()
	points := r.hour.After(t)
	r.mu.Unlock()
	h := History{Every: figures.Every.Seconds(), Times: []float64{}, Figures: map[string][]*Figure{}}
	for name := range figuresOf(&figures.Point{}) {
		h.Figures[name] = []*Figure{}
	}
	for i := range points {
		h.Times = append(h.Times, unixSeconds(points[i].Time))
		for name, v := range figuresOf(&points[i]) {
			h.Figures[name] = append(h.Figures[name], known(v))
		}
	}
	return h
}

// unixSeconds is a time to the tenth of a second.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()/100) / 10 }

type (
	pastQuery struct {
		Since float64 `query:"since" minimum:"0" doc:"points after this time alone, in seconds since 1970; left out: all of the hour"`
	}
	pastOutput struct{ Body History }
)

type historyAPI struct{ recorder *recorder }

func registerHistory(h *routes, a historyAPI) {
	route(h, http.MethodGet, historyPath, onCluster[pastQuery](describesCluster).noting("kept in the memory of the process that answers, since its start"), a.history)
}

func (a historyAPI) history(_ context.Context, in *pastQuery) (*pastOutput, error) {
	return &pastOutput{a.recorder.after(time.UnixMilli(int64(min(in.Since, 1e12) * 1000)))}, nil
}
