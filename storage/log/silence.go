package log

import "time"

// producerClock finds how far the wall clock, by which producers are silent, was set ahead. It
// is a pure core.
type producerClock struct {
	wall time.Time
	mono time.Duration // when wall was looked at
}

// look returns how far the wall clock was set ahead since the last look, 0 for less than
// it may be wrong by anyway; mono grows steadily. What a machine sleeps is taken for that, too.
func (c *producerClock) look(wall time.Time, mono time.Duration) (ahead time.Duration) {
	wall = wall.Round(0)
	if !c.wall.IsZero() {
		ahead = wall.Sub(c.wall) - (mono - c.mono)
	}
	c.wall, c.mono = wall, mono
	if ahead < time.Second {
		return 0
	}
	return ahead
}

// forgetSilent forgets the producers that have been silent for [Options].ProducerExpiry. Of a
// clock that was set ahead nobody has been silent for longer: the answer to what one sent last
// may be lost, and it sends that again.
func (s *Store) forgetSilent(now time.Time, ahead time.Duration) {
	for _, l := range s.all() {
		l.mu.Lock()
		l.producers.setAhead(ahead.Milliseconds(), now.UnixMilli())
		l.mu.Unlock()
	}
	s.expire(now.Add(-s.o.ProducerExpiry).UnixMilli())
}
