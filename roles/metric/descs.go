package metric

import "github.com/prometheus/client_golang/prometheus"

// Descs is the descriptions of a collector. The zero value has none. It is not safe for
// concurrent use while it grows.
type Descs struct{ all []*prometheus.Desc }

// New makes a description of what is called rustmq_ and name.
func (d *Descs) New(name, help string, labels ...string) *prometheus.Desc {
	made := prometheus.NewDesc("rustmq_"+name, help, labels, nil)
	d.all = append(d.all, made)
	return made
}

// Describe implements a part of prometheus.Collector.
func (d *Descs) Describe(out chan<- *prometheus.Desc) {
	for _, one := range d.all {
		out <- one
	}
}
