package clean

import "time"

// Policy is what the configuration of a topic says of compaction by key.
type Policy struct {
	DirtyRatio      float64       // min.cleanable.dirty.ratio: share of new bytes that is worth a round
	MinLag          time.Duration // min.compaction.lag.ms: what is younger is left alone
	MaxLag          time.Duration // max.compaction.lag.ms: what is older is not left alone; 0: no bound
	DeleteRetention time.Duration // delete.retention.ms: how long tombstones stay after a round
}
