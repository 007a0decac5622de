// Package metric makes descriptions of metrics and remembers them, so that a collector that
// computes its values when it is asked can say beforehand what they will be.
//
// Invariant: a collector that describes itself by a [Descs] exports nothing that is not in
// it, or a scrape fails: what is exported is known without a scrape, and listed in
// docs/reference/metrics.md.
package metric
