package broker

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

// The log tells of so many slow requests in such a time: where everything is slow, the first
// say why.
const (
	slowLines = 10
	slowEvery = 10 * time.Second
)

// slowRequests tells the log of requests that take long, and counts them all.
type slowRequests struct {
	b         *Broker
	threshold atomic.Int64 // nanoseconds; 0: none is slow
	counts    *prometheus.CounterVec

	mu     sync.Mutex
	from   time.Time // when the interval began; guarded by mu, as the rest is
	told   int       // in it
	untold int       // since a line said how many
}

func newSlowRequests(b *Broker) *slowRequests {
	s := &slowRequests{b: b, counts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "rustmq", Subsystem: "broker", Name: "slow_requests_total",
		Help: "Requests that took operations.slow_request or longer, without what fetches and members of groups wait for.",
	}, []string{"api"})}
	s.threshold.Store(int64(b.opt.SlowRequest))
	return s
}

// SetSlowRequest says from when on a request is slow; 0: none is. It may be called at any time.
func (b *Broker) SetSlowRequest(from time.Duration) { b.metrics.slow.threshold.Store(int64(from)) }

// is reports whether a request is slow that took so long.
func (s *slowRequests) is(took time.Duration) bool {
	from := s.threshold.Load()
	return from > 0 && took >= time.Duration(from)
}

// tells counts a slow request, and reports whether the log is to be told of it, and how many
// were left out since the last.
func (s *slowRequests) tells(now time.Time, api string) (leftOut int, tell bool) {
	s.counts.WithLabelValues(api).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.from) >= slowEvery || now.Before(s.from) {
		s.from, s.told = now, 0
	}
	if !guard.Check("broker.slow-lines", s.told < slowLines) {
		s.untold++
		return 0, false
	}
	s.told++
	leftOut, s.untold = s.untold, 0
	return leftOut, true
}

// note tells of a request, if it is slow. rest says what it was about, and where its time went.
func (s *slowRequests) note(r *kafka.Request, now time.Time, took time.Duration, rest func() []slog.Attr) {
	if !s.is(took) {
		return
	}
	api := kmsg.NameForKey(r.Key)
	leftOut, tell := s.tells(now, api)
	if !tell {
		return
	}
	attrs := append([]slog.Attr{
		slog.String("api", api), slog.Int("version", int(r.Version)), slog.String("took", now.Sub(r.Received).String()),
		slog.String("client_id", r.ClientID), slog.String("principal", r.Conn.Principal()), slog.String("remote", r.Conn.RemoteAddr().String()),
	}, rest()...)
	if leftOut > 0 {
		attrs = append(attrs, slog.Int("left_out", leftOut))
	}
	s.b.log.LogAttrs(r.Context(), slog.LevelWarn, "a request was slow", attrs...)
}

// waitsByNature are requests that are answered when others come, or with the next session.
func waitsByNature(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.JoinGroup, kmsg.SyncGroup:
		return true
	}
	return false
}

// nothingMore is to be said of a request.
func nothingMore() []slog.Attr { return nil }

// attrs are the stages that a request has had, each with its unit: JSON would have nanoseconds.
func (t *stageTimes) attrs(of []stageObserver) []slog.Attr {
	var all []slog.Attr
	for _, o := range of {
		all = append(all, slog.String(o.of.String(), t[o.of].String()))
	}
	return all
}

// notes tells of a produce request, if it was slow: of its partitions the one that was last.
func (p *produceRequest) notes(now time.Time, t *stageTimes, last *producePart) {
	p.b.metrics.slow.note(p.r, now, t.served(), func() []slog.Attr {
		attrs := append(t.attrs(p.b.metrics.stages.produce), slog.Int("bytes", len(p.r.Body)), slog.Int("acks", int(p.q.Acks)), slog.Int("partitions", len(p.parts)))
		if last != nil && last.partition != nil {
			attrs = append(attrs, slog.String("topic", last.partition.topic.name), slog.Int("partition", int(last.partition.index)))
			if last.err != nil {
				attrs = append(attrs, slog.String("error", last.err.Error()))
			}
		}
		return attrs
	})
}

// notes tells of a fetch, if it was slow without what it waited for.
func (f *fetchRequest) notes(now time.Time, t *stageTimes) {
	f.b.metrics.slow.note(f.r, now, t.served(), func() []slog.Attr {
		attrs := append(t.attrs(f.b.metrics.stages.fetch), slog.Int("bytes", f.bytes), slog.Int("partitions", len(f.parts)))
		var most *fetchPart
		for _, part := range f.parts {
			if part.topic != nil && (most == nil || part.result.Bytes > most.result.Bytes) {
				most = part
			}
		}
		if most != nil {
			attrs = append(attrs, slog.String("topic", most.topic.name), slog.Int("partition", int(most.want.Index)))
		}
		return attrs
	})
}
