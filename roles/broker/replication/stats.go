package replication

import "rustmq.dev/rustmq/storage"

// Stats is a moment of a leader.
type Stats struct {
	Bytes, Shrinks, Growths int64 // since the start
	UnderReplicated         int   // partitions with fewer in sync than replicas
	Followers               []FollowerStats
}

// FollowerStats is a moment of one follower.
type FollowerStats struct {
	Broker      int32
	Partitions  int
	Lag         int64   // records that it has not confirmed
	Unconfirmed int64   // bytes that were sent to it and are not confirmed
	Fullness    float64 // of its WAL, 0 to 1
}

// Stats returns the present figures. It takes the longer the more partitions are led.
func (l *Leader) Stats() Stats {
	s := Stats{Bytes: l.counts.bytes.Load(), Shrinks: l.counts.shrinks.Load(), Growths: l.counts.growths.Load()}
	for _, p := range l.all() {
		p.mu.Lock()
		if len(p.isr.committed) < len(p.isr.members)+1 {
			s.UnderReplicated++
		}
		p.mu.Unlock()
	}
	type reached struct {
		of   *led
		to   storage.Offset
		slot int
	}
	var all []reached
	l.mu.Lock()
	for id, k := range l.links {
		k.mu.Lock()
		f := FollowerStats{Broker: id, Unconfirmed: k.tail.flying + k.catchUp.flying, Fullness: float64(max(k.tail.fullness, k.catchUp.fullness)) / 1000}
		for _, lane := range [...]*lane{k.tail, k.catchUp} {
			for of := range lane.feeds {
				f.Partitions++
				all = append(all, reached{of.p, of.confirmed, len(s.Followers)})
			}
		}
		k.mu.Unlock()
		s.Followers = append(s.Followers, f)
	}
	l.mu.Unlock()
	for _, r := range all {
		s.Followers[r.slot].Lag += int64(max(0, r.of.log.End()-r.to))
	}
	return s
}
