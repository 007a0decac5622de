package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rustmq.dev/rustmq/roles/controller"
)

const (
	// Of the disk of the data directory, what is free when it is a warning, and when it is
	// critical, whichever is less of a share and of bytes: segments are made ahead, and a log
	// that can have no file refuses producers. A large disk has room for long at a tenth.
	diskShort, diskShortBytes = 0.10, 5 << 30
	diskOut, diskOutBytes     = 0.03, 1 << 30
	// tellWait is how long the controller may take to be told.
	tellWait = 3 * time.Second
)

// nodeDoor is what the admin API, and the controller that leads, are told of this node.
type nodeDoor struct{ n *Node }

// ID implements admin.Node.
func (d nodeDoor) ID() int32 { return d.n.config.Broker.ID }

// Troubles implements admin.Node.
func (d nodeDoor) Troubles() []controller.Trouble {
	n, now := d.n, time.Now()
	all := []controller.Trouble{}
	add := func(kind, severity string, since time.Time, what, do string) {
		all = append(all, controller.Trouble{Kind: kind, Severity: severity, Since: since, What: what, Do: do})
	}
	if err := n.failure(); err != nil {
		add("node", controller.Critical, time.Time{}, "it cannot go on: "+err.Error(), "its log says why, and what to do; start it again when that is mended")
	}
	all = append(all, d.storage(now)...)
	for _, e := range n.certificateEnds() {
		if what := e.warning(now); what != "" {
			severity := controller.Warning
			if e.notAfter.Sub(now) < certificateDaily {
				severity = controller.Critical
			}
			add("certificate", severity, e.notAfter.Add(-certificateSoon), what, "issue another (`rustmq admin certs renew`), and put it into its place at the node: it is taken once the file has changed")
		}
	}
	for _, what := range n.revocationWarnings() {
		add("certificate", controller.Warning, time.Time{}, what, "copy the authority's present list there: it is read once the file has changed")
	}
	for _, what := range n.auditWarnings() {
		add("audit", controller.Critical, time.Time{}, what, "see to the topic __audit: `rustmq admin topics describe __audit` says who leads it and who is in sync")
	}
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	for _, p := range n.live.refused {
		add("config", controller.Warning, time.Time{}, fmt.Sprintf("%s, as it is set in the cluster, is not obeyed there: %s", p.Key, p.Reason), fmt.Sprintf("`rustmq admin config set %s=…` with a value that all nodes can have, or `unset`", p.Key))
	}
	return all
}

// storage is what is wrong with the disk, the log, and the way to the bucket.
func (d nodeDoor) storage(now time.Time) (all []controller.Trouble) {
	n := d.n
	if free, total, err := n.dir.Space("."); err == nil && total > 0 {
		if short, out := diskRoom(free, total); short {
			share := float64(free) / float64(total)
			t := controller.Trouble{
				Kind: "disk", Severity: controller.Warning,
				What: fmt.Sprintf("%.1f %% of the disk of its data directory, %s, is free: where nothing is, the log can have no further file, and producers are refused", 100*share, n.root),
				Do:   "make room there, or lower wal.capacity; `rustmq admin storage` says what the log holds",
			}
			if out {
				t.Severity = controller.Critical
			}
			all = append(all, t)
		}
	}
	if n.bucket != nil {
		s := bucketDoor{n}.State()
		all = append(all, s.Troubles(now)...)
	}
	if n.broker == nil {
		return all
	}
	if h := n.broker.Healing(); h.Now > 0 {
		all = append(all, controller.Trouble{
			Kind: "healing", Severity: controller.Warning, Partitions: h.Partitions,
			What: fmt.Sprintf("what its disk could not give back whole begins anew from others, and is not in sync yet (%d of its replicas); of one: %v", h.Now, h.Why),
			Do:   "nothing, they come by themselves; suspect that disk, and replace it if it happens again",
		})
	}
	return all
}

// diskRoom judges the free bytes of a disk: they are few, and so few that a log may have no
// further file soon.
func diskRoom(free, total int64) (short, out bool) {
	below := func(share float64, bytes int64) bool { return free < min(int64(share*float64(total)), bytes) }
	return below(diskShort, diskShortBytes), below(diskOut, diskOutBytes)
}

// tellsTroubles says whether what is wrong here is told of the node with this id: a process
// with the role admin alone may have the id of a broker, whose troubles it would wipe out.
func (n *Node) tellsTroubles() bool { return n.has("broker") || n.has("controller") }

// tellTroubles tells the controller that leads, from time to time, what is wrong with this
// node: any node of the cluster can be asked for it then.
func (n *Node) tellTroubles() {
	if n.door == nil || !n.tellsTroubles() {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	n.opened("telling of troubles", func(context.Context) error { stop(); return nil })
	n.serving.Go(func() { // blocks on the controllers
		ticker := time.NewTicker(controller.TroublesEvery)
		defer ticker.Stop()
		told := false
		for {
			found := nodeDoor{n}.Troubles()
			for i := range found {
				found[i] = found[i].Bounded()
			}
			if len(found) > controller.MaxTroubles {
				found = found[:controller.MaxTroubles]
			}
			if told || len(found) > 0 {
				telling, cancel := context.WithTimeout(ctx, tellWait)
				err := n.door.ReportTroubles(telling, n.config.Broker.ID, found)
				cancel()
				if told = len(found) > 0 || err != nil; err != nil && !errors.Is(err, context.Canceled) {
					n.log.Debug("the controller was not told what is wrong here; it will be", "error", err)
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}
