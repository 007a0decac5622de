package figures

import (
	"math"
	"time"
)

// Counts is what a broker has counted since it began, and how it stands.
type Counts struct {
	Started         time.Time    `json:"started"`
	ProducedBytes   float64      `json:"produced_bytes"`
	ProducedRecords float64      `json:"produced_records"`
	FetchedBytes    float64      `json:"fetched_bytes"`
	Requests        float64      `json:"requests"` // of all APIs
	UploadedBytes   float64      `json:"uploaded_bytes"`
	Produce         Distribution `json:"produce"` // from arrival to answer
	Fetch           Distribution `json:"fetch"`   // the same, without the wait for records
	Sync            Distribution `json:"sync"`    // of the log

	LogBytes     float64 `json:"log_bytes"`     // of the log on disk that are still needed
	MemoryBytes  float64 `json:"memory_bytes"`  // of them in memory
	WaitingBytes float64 `json:"waiting_bytes"` // that are to be uploaded
	Connections  float64 `json:"connections"`
	Partitions   float64 `json:"partitions"` // that it leads
}

// Point is a cluster at a time, as rates since the point before: a second, in bytes, requests or
// records; times in seconds. What is not known is NaN.
type Point struct {
	Time                                                                      time.Time
	ProducedBytes, ProducedRecords, FetchedBytes, Requests, UploadedBytes     float64
	ProduceP50, ProduceP99, ProduceP999, FetchP50, FetchP99, SyncP50, SyncP99 float64
	LogBytes, MemoryBytes, WaitingBytes, BucketBytes, Connections             float64
	Brokers                                                                   int // that have answered
}

// Sample is what brokers have answered at a time.
type Sample struct {
	Time        time.Time
	Brokers     map[int32]Counts
	BucketBytes float64 // of records in the bucket, as the metadata have it
}

// Between is the point at the end of the time between two samples. Brokers that are not in both,
// or began anew, are left out of rates.
func Between(before, after *Sample) Point {
	p := Point{Time: after.Time, Brokers: len(after.Brokers), BucketBytes: after.BucketBytes}
	seconds := after.Time.Sub(before.Time).Seconds()
	var produce, fetch, sync Distribution
	rated := 0
	for id, now := range after.Brokers {
		p.LogBytes += now.LogBytes
		p.MemoryBytes += now.MemoryBytes
		p.WaitingBytes += now.WaitingBytes
		p.Connections += now.Connections
		was, known := before.Brokers[id]
		if !known || !was.Started.Equal(now.Started) || now.ProducedBytes < was.ProducedBytes || now.FetchedBytes < was.FetchedBytes || now.Requests < was.Requests {
			continue
		}
		produced, ok1 := now.Produce.since(was.Produce)
		fetched, ok2 := now.Fetch.since(was.Fetch)
		synced, ok3 := now.Sync.since(was.Sync)
		if !ok1 || !ok2 || !ok3 {
			continue
		}
		rated++
		p.ProducedBytes += (now.ProducedBytes - was.ProducedBytes) / seconds
		p.ProducedRecords += (now.ProducedRecords - was.ProducedRecords) / seconds
		p.FetchedBytes += (now.FetchedBytes - was.FetchedBytes) / seconds
		p.Requests += (now.Requests - was.Requests) / seconds
		p.UploadedBytes += max(0, now.UploadedBytes-was.UploadedBytes) / seconds
		produce, fetch, sync = produce.plus(produced), fetch.plus(fetched), sync.plus(synced)
	}
	if rated == 0 || !(seconds > 0) {
		p.ProducedBytes, p.ProducedRecords, p.FetchedBytes, p.Requests, p.UploadedBytes = math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()
	}
	if p.Brokers == 0 {
		p.LogBytes, p.MemoryBytes, p.WaitingBytes, p.Connections = math.NaN(), math.NaN(), math.NaN(), math.NaN()
	}
	p.ProduceP50, p.ProduceP99, p.ProduceP999 = produce.Quantile(0.5), produce.Quantile(0.99), produce.Quantile(0.999)
	p.FetchP50, p.FetchP99 = fetch.Quantile(0.5), fetch.Quantile(0.99)
	p.SyncP50, p.SyncP99 = sync.Quantile(0.5), sync.Quantile(0.99)
	return p
}

const (
	// Every is the time between two points of an hour.
	Every = 5 * time.Second
	// Points is how many an hour holds.
	Points = int(time.Hour / Every)
)

// Hour keeps the points of the last hour.
type Hour struct {
	ring []Point
	next int // where the next goes once the ring is full
}

// Add keeps a point, in place of the oldest where there are as many as may be.
func (h *Hour) Add(p Point) {
	if len(h.ring) < Points {
		h.ring = append(h.ring, p)
		return
	}
	h.ring[h.next] = p
	h.next = (h.next + 1) % Points
}

// After returns the points after a time, the oldest first.
func (h *Hour) After(t time.Time) (points []Point) {
	for i := range h.ring {
		if p := h.ring[(h.next+i)%len(h.ring)]; p.Time.After(t) {
			points = append(points, p)
		}
	}
	return points
}
