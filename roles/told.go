package roles

import (
	"context"
	"errors"
	"slices"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/figures"
	"rustmq.dev/rustmq/storage/wal"
)

// tell answers what operators ask about this process, which is one of a broker: broker.Options.Tell.
func (n *Node) tell(_ context.Context, what string) (any, error) {
	n.mu.Lock()
	ready := n.ready
	n.mu.Unlock()
	if !ready { // others may ask as soon as it answers them, and not all of it is there yet
		return nil, errors.New("it is starting or stopping: ask again")
	}
	switch what {
	case admin.TellNode:
		return n.figures(), nil
	case admin.TellFigures:
		return n.counts(), nil
	}
	if what == admin.TellCertificates {
		return nodeDoor{n}.Certificates(), nil
	}
	if name, all, is := admin.ModuleAsked(what); is {
		return n.transforms.told(name, all), nil
	}
	return nil, metadata.Errorf(metadata.UnsupportedVersion, "%q: this version (%s) knows nothing of that; give all nodes the same one", what, Version())
}

// figures is how this process stands.
func (n *Node) figures() admin.NodeFigures {
	health := n.bucket.bucket.State()
	f := admin.NodeFigures{
		Version: Version(), Roles: n.config.RoleList(), Started: n.bucket.since, DataDir: n.root, HTTP: n.httpURL(), Circuit: health.Circuit.String(),
		WAL: n.walState(), Upload: n.uploadState(), Damage: n.damageState(), Troubles: []string{},
	}
	if free, total, err := n.dir.Space("."); err == nil {
		f.DiskFree, f.DiskTotal = free, total
	}
	if health.LastError != nil && time.Since(health.LastErrorAt) < time.Hour {
		f.LastError = health.LastError.Error()
	}
	for _, t := range (nodeDoor{n}).Troubles() {
		f.Troubles = append(f.Troubles, t.What)
	}
	return f
}

// counts is what this process has counted since it began.
func (n *Node) counts() figures.Counts {
	c := figures.Counts{Started: n.bucket.since}
	n.broker.Figures(&c)
	if n.store != nil {
		w := n.store.Stats().WAL
		c.LogBytes, c.MemoryBytes = float64(w.LiveBytes), float64(w.MemoryBytes)
		c.Sync = figures.Bounded(w.SyncsIn[:], wal.SyncBound)
	}
	if counts := n.kafkaCounts.Load(); counts != nil {
		c.Requests, c.Connections = counts.totals()
	}
	return c
}

// told is how modules are here: all that run or did something, or the one that is asked about,
// with its partitions.
func (t *transforms) told(name string, all bool) []admin.ETLNodeModule {
	modules := map[string]*admin.ETLNodeModule{}
	of := func(name string) *admin.ETLNodeModule {
		if modules[name] == nil {
			modules[name] = &admin.ETLNodeModule{Name: name, Counts: admin.ETLCounts{Outcomes: map[string]uint64{}}}
		}
		return modules[name]
	}
	status, _ := t.Status()
	for _, s := range status {
		m := of(s.Name)
		m.Active, m.Recent = true, s.Recent
		m.ETLHere = admin.ETLHere{Version: s.Version, Ready: s.Ready, Error: s.Error, Failures: s.Failures}
	}
	for name, is := range t.n.broker.TransformCounts() {
		c := &of(name).Counts
		c.Calls, c.Records, c.Failures, c.Seconds = c.Calls+is.Batches, c.Records+is.Records, c.Failures+is.Failures, is.Seconds
		for outcome, n := range is.Outcomes {
			c.Outcomes[outcome] += n
		}
	}
	t.mu.Lock()
	runner := t.runner
	t.mu.Unlock()
	if runner != nil {
		for name, is := range runner.Counts() {
			c := &of(name).Counts
			c.Calls, c.Failures, c.Restarts, c.Skipped = c.Calls+is.Transactions, c.Failures+is.Failures, is.Restarts, is.Skipped
			for outcome, n := range is.Records {
				c.Outcomes[outcome] += n
				c.Records += n
			}
		}
	}
	said := []admin.ETLNodeModule{}
	for _, m := range modules {
		if all {
			said = append(said, *m)
		} else if m.Name == name {
			m.Partitions = t.Partitions(name)
			said = append(said, *m)
		}
	}
	slices.SortFunc(said, func(a, b admin.ETLNodeModule) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return said
}
