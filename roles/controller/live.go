package controller

import "time"

// Live is what of [Options] may change while the controller runs; a zero duration or number
// of partitions leaves what it was.
type Live struct {
	DefaultPartitions    int32
	MaxPartitions        int
	MovesPerMinute       int // 0: no leadership is moved, as with the next of replicas
	SpreadMovesPerMinute int
	HighestFeatureLevel  uint32
	// Retention and Audit are those of BucketOptions.
	Retention, Audit time.Duration
}

// live returns what of the options is in effect as the controller is opened.
func (o *Options) live() Live {
	l := Live{DefaultPartitions: o.DefaultPartitions, MaxPartitions: o.MaxPartitions, MovesPerMinute: o.MovesPerMinute, SpreadMovesPerMinute: o.SpreadMovesPerMinute, HighestFeatureLevel: o.HighestFeatureLevel}
	if o.Bucket != nil {
		l.Retention, l.Audit = o.Bucket.Retention, o.Bucket.Audit
	}
	return l
}

// SetLive changes what the controller obeys from now on.
func (c *Controller) SetLive(l Live) {
	was := *c.live.Load()
	if l.DefaultPartitions <= 0 {
		l.DefaultPartitions = was.DefaultPartitions
	}
	if l.MaxPartitions <= 0 {
		l.MaxPartitions = was.MaxPartitions
	}
	if l.Retention <= 0 {
		l.Retention = was.Retention
	}
	if l.Audit <= 0 {
		l.Audit = was.Audit
	}
	c.live.Store(&l)
	c.quota.bound(l.MaxPartitions)
	c.balanceMu.Lock()
	defer c.balanceMu.Unlock()
	c.balance.movesAMinute = l.MovesPerMinute
}

// ruled is rules, with what is in effect now.
func (c *Controller) ruled() rules {
	r := c.rules
	r.defaultPartitions = c.live.Load().DefaultPartitions
	return r
}
