package kafka_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/transport/kafka"
)

// roomy answers requests of its key by f, and ListGroups at once.
type roomy struct{ serve func(*kafka.Request) }

func (roomy) Versions() []kafka.ApiVersion {
	return []kafka.ApiVersion{{Key: 12, Max: 0}, {Key: 16, Max: 0}}
}
func (roomy) ConnClosed(*kafka.Conn) {}
func (h roomy) Serve(r *kafka.Request) {
	if r.Key == 16 {
		r.RespondRaw(nil, nil)
		return
	}
	h.serve(r)
}

// servedAtOnce fails the test unless a client that just came is answered without
// waiting.
func servedAtOnce(t *testing.T, s *kafka.Server) {
	t.Helper()
	c := pipe(s, kafka.Info{})
	began := time.Now()
	go func() { _, _ = c.Write(frame(16, 0, 3, nil)) }()
	if got, _ := readAnswer(t, c); got != 3 || time.Since(began) != 0 {
		t.Errorf("answer to %d after %v", got, time.Since(began))
	}
	c.Close()
}

// send writes in the background what may not be read at once.
func send(s *kafka.Server, input []byte) net.Conn {
	c := pipe(s, kafka.Info{})
	go func() { _, _ = c.Write(input) }()
	return c
}

// TestHalfFramesStopNobody lets more connections than fit announce a frame and send
// little of it, or nothing.
func TestHalfFramesStopNobody(t *testing.T) {
	for _, sent := range []int{0, 1, 100, 10_000} {
		synctest.Test(t, func(t *testing.T) {
			s := kafka.New(kafka.Options{Handler: roomy{}, Limits: kafka.Limits{TotalMemory: 1 << 20}})
			for range 100 {
				send(s, append(binary.BigEndian.AppendUint32(nil, 60<<10), make([]byte, sent)...))
			}
			synctest.Wait()
			if used, _ := s.InUse(); used != 0 {
				t.Errorf("%d bytes are taken for frames of which %d bytes came", used, sent)
			}
			servedAtOnce(t, s)
			closeServer(t, s)
		})
	}
}

// TestStalledFramesLeaveRoomForSmallOnes has the frames that stall just above what
// counts as small.
func TestStalledFramesLeaveRoomForSmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kafka.New(kafka.Options{Handler: roomy{}, Limits: kafka.Limits{TotalMemory: 1 << 20}})
		for range 20 {
			send(s, append(binary.BigEndian.AppendUint32(nil, 64<<10+1), make([]byte, 20<<10)...))
		}
		synctest.Wait()
		servedAtOnce(t, s)
		closeServer(t, s)
	})
}

// TestFramesArriveInPieces cuts frames of many sizes where a reader may stumble.
func TestFramesArriveInPieces(t *testing.T) {
	rng := random(t)
	for _, size := range []int{0, 50, 54, 55, 64, 1000, 16<<10 - 14, 16<<10 - 11, 16<<10 - 10, 16 << 10, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			s := kafka.New(kafka.Options{Handler: roomy{func(r *kafka.Request) {
				r.RespondRaw(net.Buffers{bytes.Clone(r.Body)}, nil)
			}}})
			c := pipe(s, kafka.Info{})
			body := make([]byte, size)
			for i := range body {
				body[i] = byte(rng.Uint32())
			}
			input := append(frame(12, 0, 1, body), frame(12, 0, 2, body)...)
			go func() {
				for len(input) > 0 {
					n := min(len(input), 1+rng.IntN(max(1, size/2)))
					if _, err := c.Write(input[:n]); err != nil {
						t.Error(err)
						return
					}
					input = input[n:]
				}
			}()
			for want := range int32(2) {
				if got, answer := readAnswer(t, c); got != want+1 || !bytes.Equal(answer, body) {
					t.Errorf("answer to %d of %d bytes, want that to %d of %d", got, len(answer), want+1, size)
				}
			}
			closeServer(t, s)
		})
	}
}

// TestWaitingRequestsHoldNoFrame parks requests whose frames take more than all
// memory for frames.
func TestWaitingRequestsHoldNoFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var parked []*kafka.Request
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalMemory: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			if err := r.Expand(200_000); err != nil {
				t.Error(err)
			}
			if !r.Park(100) {
				t.Error("no room to wait")
			}
			mu.Lock()
			parked = append(parked, r)
			mu.Unlock()
		}}})
		for range 20 {
			send(s, frame(12, 0, 1, make([]byte, 250_000)))
		}
		synctest.Wait()
		if used, _ := s.InUse(); len(parked) != 20 || used != 2000 {
			t.Errorf("%d requests wait, and hold %d bytes", len(parked), used)
		}
		servedAtOnce(t, s)
		for _, r := range parked {
			r.Drop()
		}
		closeServer(t, s)
		if used, _ := s.InUse(); used != 0 {
			t.Errorf("%d bytes are held at the end", used)
		}
	})
}

// TestWaitingRequestsAreBounded: what waiting ones keep has a bound, and who finds it
// reached goes on as before.
func TestWaitingRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var parked, refused []*kafka.Request
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalMemory: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.Park(200_000) {
				parked = append(parked, r)
			} else if refused = append(refused, r); len(r.Body) != 1000 {
				t.Errorf("a request that was not parked has a body of %d bytes", len(r.Body))
			}
		}}})
		for range 8 {
			send(s, frame(12, 0, 1, make([]byte, 1000)))
		}
		synctest.Wait()
		if len(parked) != 3 || len(refused) != 5 { // a quarter is for those that keep little
			t.Errorf("%d requests wait, %d may not", len(parked), len(refused))
		}
		for _, r := range append(parked, refused...) {
			r.Drop()
		}
		closeServer(t, s)
	})
}

// TestExpansionsWaitForRoom: more is not decoded at once than there is room for.
func TestExpansionsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var expanded []*kafka.Request
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalMemory: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			if err := r.Expand(200_000); err != nil {
				r.Close(err)
				return
			}
			mu.Lock()
			expanded = append(expanded, r)
			mu.Unlock()
		}}})
		for range 6 {
			send(s, frame(12, 0, 1, nil))
		}
		synctest.Wait()
		if len(expanded) != 3 { // a quarter is for those that take little
			t.Fatalf("%d requests are decoded at once", len(expanded))
		}
		servedAtOnce(t, s)
		first := expanded
		expanded = nil
		for _, r := range first {
			r.Drop()
		}
		synctest.Wait()
		if len(expanded) != 3 {
			t.Errorf("%d more are decoded when those are answered", len(expanded))
		}
		for _, r := range expanded {
			r.Drop()
		}
		closeServer(t, s)
		if used, _ := s.InUse(); used != 0 {
			t.Errorf("%d bytes are held at the end", used)
		}
	})
}

// TestLargeAnswersAreMadeWithinTheirBudget has clients ask for what they do not take.
func TestLargeAnswersAreMadeWithinTheirBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer = 300_000
		made := 0
		var mu sync.Mutex
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalUnsent: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			if err := r.Reserve(2 * answer); err != nil {
				r.Close(err)
				return
			}
			mu.Lock()
			made++
			mu.Unlock()
			r.RespondRaw(net.Buffers{make([]byte, answer)}, nil)
		}}})
		var clients []net.Conn
		for range 20 {
			clients = append(clients, send(s, frame(12, 0, 1, make([]byte, 100_000))))
		}
		synctest.Wait()
		if used, unsent := s.InUse(); unsent > 1<<20 || used != 0 || made != 2 {
			t.Errorf("%d answers were made, %d bytes are not sent; %d bytes of frames wait for that", made, unsent, used)
		}
		servedAtOnce(t, s)
		var taken sync.WaitGroup
		for _, c := range clients { // all come through when they are taken
			taken.Go(func() {
				if _, body := readAnswer(t, c); len(body) != answer {
					t.Errorf("an answer of %d bytes", len(body))
				}
			})
		}
		taken.Wait()
		closeServer(t, s)
		if used, unsent := s.InUse(); used != 0 || unsent != 0 {
			t.Errorf("%d and %d bytes are held at the end", used, unsent)
		}
	})
}

// TestSlowReadersAreCutWhileMemoryIsShort has a client take a large answer a MiB at a
// time, each in time.
func TestSlowReadersAreCutWhileMemoryIsShort(t *testing.T) {
	for name, test := range map[string]struct {
		memory int64
		want   int // MiB that it gets
	}{
		"short":  {16 << 20, 2}, // 50 s: 30, and 20 for 10 MiB
		"plenty": {1 << 30, 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalUnsent: test.memory}, Handler: roomy{func(r *kafka.Request) {
					r.RespondRaw(net.Buffers{make([]byte, 10<<20)}, nil)
				}}})
				c := send(s, frame(12, 0, 1, nil))
				piece, taken := make([]byte, 1<<20), 0
				for range 10 {
					pass(20 * time.Second)
					n, err := io.ReadFull(c, piece)
					if taken += n; err != nil {
						break
					}
				}
				if taken>>20 != test.want {
					t.Errorf("it took %d MiB", taken>>20)
				}
				closeServer(t, s)
			})
		})
	}
}

// TestAnswersToComeStopTheirConnection pipelines requests whose answers are made
// elsewhere, and large.
func TestAnswersToComeStopTheirConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var waiting []*kafka.Request
		s := kafka.New(kafka.Options{Limits: kafka.Limits{ConnMemory: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			if err := r.Reserve(300_000); err != nil {
				t.Error(err)
			}
			mu.Lock()
			waiting = append(waiting, r)
			mu.Unlock()
		}}})
		send(s, bytes.Repeat(frame(12, 0, 1, nil), 100))
		synctest.Wait()
		if len(waiting) != 4 {
			t.Errorf("%d answers are made at once", len(waiting))
		}
		closeServer(t, s)
		for _, r := range waiting {
			r.Drop()
		}
	})
}

// TestAnswersBehindWhoWaitsTakeNothing: a client that has requests parked, and asks for
// large answers behind them, keeps them from nobody else.
func TestAnswersBehindWhoWaitsTakeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var parked, made []*kafka.Request
		s := kafka.New(kafka.Options{Limits: kafka.Limits{TotalUnsent: 1 << 20}, Handler: roomy{func(r *kafka.Request) {
			if r.CorrelationID == 1 {
				r.Park(1000)
				mu.Lock()
				defer mu.Unlock()
				parked = append(parked, r)
				return
			}
			if err := r.Reserve(300_000); err != nil {
				r.Close(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, r)
		}}})
		for range 4 {
			send(s, slices.Concat(frame(12, 0, 1, nil), frame(12, 0, 2, nil)))
		}
		synctest.Wait()
		send(s, frame(12, 0, 2, nil))
		synctest.Wait()
		if len(made) != 1 {
			t.Errorf("%d large answers are made, one of them can be sent", len(made))
		}
		for _, r := range parked {
			r.Drop()
		}
		synctest.Wait()
		for range 4 { // as there is room again
			mu.Lock()
			answers := made
			made = nil
			mu.Unlock()
			for _, r := range answers {
				r.Drop()
			}
			synctest.Wait()
		}
		if len(made) != 0 {
			t.Errorf("%d answers are left", len(made))
		}
		closeServer(t, s)
	})
}
