// Package telemetry takes the metrics that clients push (KIP-714), and holds of each the
// latest value for who collects. It owns the subscriptions, which say what clients are to
// push and how often, who has pushed when, and the series; it knows no connection and no
// clock of its own, and keeps nothing on disk.
//
// A [Subscription] is made of the configs of one resource. Those that match a client are
// united ([Table.Subscribe]): the prefixes of all, and the least of the intervals. The
// subscription id that the client has to push under is
//
//	crc32c(prefixes in order, each with a newline, then the interval in ms, decimal)
//	  xor the four words of the client instance id
//
// so that it changes with what the client is to do, on every broker in the same way: a
// broker takes pushes of instances that it has never seen.
//
// A payload is OpenTelemetry's MetricsData in protobuf, compressed as a whole. Read are
// sums and gauges, of them
//
//	MetricsData      1 resource metrics
//	ResourceMetrics  2 scope metrics
//	ScopeMetrics     2 metrics
//	Metric           1 name, 5 gauge, 7 sum
//	Gauge            1 points
//	Sum              1 points, 2 temporality (1 delta), 3 monotonic
//	point            4 double or 6 int (both 8 bytes), 7 attributes, 8 flags (1: no value)
//	attribute        1 key, 2 value: 1 string, 2 bool, 3 int or 4 double
//
// Whatever else is there is stepped over, but it has to be protobuf. Clients are asked
// for deltas, and these are added up here: a client that pushes to another broker, and
// two that have one client id, then count right in the sum of all. What comes as
// cumulative replaces the value.
//
// A series is what has the same metric, attributes, client id, and name and version of
// the client's software. It is forgotten three intervals after its last push.
//
// Invariants:
//   - What clients make a table hold is bounded: series by [Options], the text of each
//     by [maxText], and instances by [maxInstances], of which the one that was silent for
//     longest gives way. Names of clients end up as values of labels and never as names.
//   - A payload that does not decode to its end changes nothing.
//   - A payload expands to at most [maxPayload] bytes, and one at a time is expanded.
//     Reading it takes no memory in proportion to what it says of itself.
//   - An instance pushes once in an interval, but for the first push of a new
//     subscription and for its last.
//
// Everything may be called from any goroutine. Lock order: expanding, mu.
package telemetry
