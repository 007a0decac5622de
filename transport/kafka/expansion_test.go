package kafka_test

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"rustmq.dev/rustmq/transport/kafka"
)

// expanding parks requests of correlation id 1, and has others take room for what is
// decoded of them, and for a large answer; both stay until they are taken.
type expanding struct {
	mu           sync.Mutex
	parked, made []*kafka.Request // guarded by mu
	refused      int              // guarded by mu
}

func (h *expanding) serve(r *kafka.Request) {
	if r.CorrelationID == 1 {
		r.Park(1000)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.parked = append(h.parked, r)
		return
	}
	err := r.Expand(200_000)
	if err == nil {
		err = r.Reserve(300_000)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.refused++
		r.Close(err)
		return
	}
	h.made = append(h.made, r)
}

// take returns those that are made, and forgets them.
func (h *expanding) take() (made []*kafka.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	made, h.made = h.made, nil
	return made
}

// answerAll answers what is parked and made, until nothing is.
func (h *expanding) answerAll() {
	for _, r := range h.parked {
		r.Drop()
	}
	synctest.Wait()
	for made := h.take(); len(made) > 0; made = h.take() {
		for _, r := range made {
			r.Drop()
		}
		synctest.Wait()
	}
}

// TestWhoWaitsBehindOthersKeepsNoExpansion: clients that have requests parked, and more
// decoded behind them, keep nobody from being decoded, who may be the one that the parked
// wait for. Beyond what may be kept by those that wait, they are closed.
func TestWhoWaitsBehindOthersKeepsNoExpansion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(expanding)
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalMemory: 1 << 20}, Handler: roomy{h.serve}})
		const clients = 8
		for range clients {
			send(s, slices.Concat(frame(12, 0, 1, nil), frame(12, 0, 2, make([]byte, 100_000))))
			synctest.Wait()
		}
		if len(h.made) != 0 || len(h.parked) != clients || h.refused != clients-3 { // a quarter is for those that keep little
			t.Errorf("%d large answers are made behind %d that wait, %d are refused", len(h.made), len(h.parked), h.refused)
		}
		send(s, frame(12, 0, 2, nil))
		synctest.Wait()
		if len(h.made) != 1 {
			t.Error("one that has nothing before it waits for room to be decoded")
		}
		h.answerAll()
		closeServer(t, s)
		if used, unsent := s.InUse(); used != 0 || unsent != 0 {
			t.Errorf("%d and %d bytes are held at the end", used, unsent)
		}
	})
}

// TestWhoWaitsForAnswersKeepsNoExpansion: where answers that nobody takes use their
// memory up, who waits for it keeps nobody from being decoded.
func TestWhoWaitsForAnswersKeepsNoExpansion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var decoded, answered atomic.Int32
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalMemory: 1 << 20, TotalUnsent: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			err := r.Expand(200_000)
			if err == nil && r.CorrelationID == 1 {
				decoded.Add(1)
				err = r.Reserve(300_000)
			}
			if err != nil {
				r.Close(err)
				return
			}
			answered.Add(1)
			r.RespondRaw(net.Buffers{make([]byte, 300_000)}, nil)
		}}})
		for range 6 {
			send(s, frame(12, 0, 1, nil))
			synctest.Wait()
		}
		if decoded.Load() != 6 || answered.Load() != 3 {
			t.Fatalf("%d requests are decoded, %d answered", decoded.Load(), answered.Load())
		}
		send(s, frame(12, 0, 2, nil))
		synctest.Wait()
		if answered.Load() != 4 {
			t.Error("one that needs no room for its answer waits to be decoded")
		}
		closeServer(t, s)
		if used, unsent := s.InUse(); used != 0 || unsent != 0 {
			t.Errorf("%d and %d bytes are held at the end", used, unsent)
		}
	})
}
