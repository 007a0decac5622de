package telemetry

import "time"

// Labels are what tells series apart, in the order of [Sample].Labels.
func Labels() []string {
	return []string{"metric", "attributes", "client_id", "client_software_name", "client_software_version"}
}

const numLabels = 5

// Sample is the latest of one series.
type Sample struct {
	Labels  [numLabels]string // valid UTF-8
	Counter bool              // it only grows, but for the start of its clients
	Value   float64           // in the client's unit: KIP-714 counts milliseconds and bytes
}

// reason is why a point is not kept.
type reason int

const (
	leftForLimit reason = iota // there are as many series as may be
	leftForText                // names and values of attributes are too long, or no UTF-8
	leftForType                // no sum or gauge, or an attribute that is made of others
	leftUnasked                // no subscription of the client has the metric
	reasons
)

// reasonNames are values of a label.
var reasonNames = [reasons]string{leftForLimit: "limit", leftForText: "text", leftForType: "type", leftUnasked: "unasked"}

// Counts says what a table holds and has left out.
type Counts struct {
	Instances, Series int
	Left              map[string]uint64 // points that were not kept, by reason
}

// Collect returns what is there, in no order.
func (t *Table) Collect(now time.Time) ([]Sample, Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	counts := Counts{Instances: t.instances.Len(), Left: map[string]uint64{}}
	for why, n := range t.left {
		counts.Left[reasonNames[why]] = n
	}
	samples := make([]Sample, 0, len(t.series))
	for _, s := range t.series {
		if !now.After(s.expires) {
			samples = append(samples, s.Sample)
		}
	}
	counts.Series = len(samples)
	return samples, counts
}
