package group

import (
	"time"

	"rustmq.dev/rustmq/storage/guard"
)

// expire takes back the offsets that have outlived their time, and groups of which
// nothing is left then. In a group with members, no offset of a topic that they
// consume expires.
func (c *Core) expireOffsets(believed time.Time) {
	for _, g := range c.sorted() {
		if g.deleting || g.writing > 0 || !g.settled() {
			continue // the next time
		}
		old := g.slots(func(s slot) bool {
			o, ok := g.offsets[s.topic][s.partition]
			return ok && !g.unstable(s) && g.outlived(s, o, believed.UnixMilli())
		})
		left := len(g.slots(func(slot) bool { return true })) - len(old)
		switch {
		case left == 0 && !g.peopled() && len(g.pending) == 0:
			g.note("group expired", nil)
			g.takeAllBack(func(error) {})
		case len(old) > 0:
			g.takeBack(old, func(error) {})
		}
	}
}

// outlived reports whether an offset has expired by now, in ms since 1970.
func (g *group) outlived(s slot, o commit, now int64) bool {
	if g.consumes(s.topic) {
		return false
	}
	if o.expires >= 0 {
		return guard.Check("group.offset-outlived", now >= o.expires)
	}
	since := o.timestamp
	switch {
	case g.consumer == nil && g.state != empty && g.state != stable:
		return false // what its members consume is being decided
	case !g.peopled() && g.protocolType != "":
		since = max(since, g.since) // they may have consumed until then
	}
	return guard.Check("group.offset-outlived", now-since >= g.core.opt.OffsetRetention.Milliseconds())
}

// consumes reports whether members consume a topic, or may.
func (g *group) consumes(topic string) bool {
	if g.consumer != nil {
		return g.consumer.subscribes(topic)
	}
	return g.state != empty && (g.unreadable || g.protocolType != consumerProtocol || g.subscribed[topic])
}
