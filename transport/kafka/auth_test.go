package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// door answers SaslAuthenticate by f and Heartbeat at once, and serves nothing else.
type door struct {
	authenticate func(*kafka.Request)
	served       chan int16
}

func newDoor(f func(*kafka.Request)) *door { return &door{f, make(chan int16, 1000)} }

func (*door) Versions() []kafka.ApiVersion {
	return []kafka.ApiVersion{{Key: 3, Max: 0}, {Key: 12, Max: 0}, {Key: 17, Max: 1}, {Key: 36, Max: 2}}
}
func (*door) ConnClosed(*kafka.Conn) {}
func (d *door) Serve(r *kafka.Request) {
	d.served <- r.Key
	if r.Key == 36 {
		d.authenticate(r)
		return
	}
	r.RespondRaw(nil, nil)
}

func respond(r *kafka.Request) { r.RespondRaw(nil, nil) }

// ended reports whether the server has closed the connection.
func ended(t *testing.T, c io.Reader) bool {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, io.EOF)
}

func TestStrangersAreServedOnlyWhatTheyNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := newCounts()
		d := newDoor(func(r *kafka.Request) {
			r.Conn.Authenticate("User:alice")
			respond(r)
		})
		s := kafka.New(kafka.Options{Handler: d, RequireAuth: true, Metrics: seen})
		for _, key := range []int16{3, 12} {
			c := send(s, append(frame(18, 0, 1, nil), frame(key, 0, 2, nil)...))
			if got, _ := readAnswer(t, c); got != 1 {
				t.Errorf("answer to %d", got)
			}
			if !ended(t, c) {
				t.Errorf("a stranger's request of key %d does not end its connection", key)
			}
		}
		synctest.Wait()
		if len(d.served) != 0 || seen.failed["unauthenticated"] != 2 {
			t.Errorf("%d requests of strangers came through, %v", len(d.served), seen.failed)
		}
		c := send(s, append(append(frame(17, 1, 1, nil), frame(36, 1, 2, nil)...), frame(12, 0, 3, nil)...))
		for want := range int32(3) {
			if got, _ := readAnswer(t, c); got != want+1 {
				t.Errorf("answer to %d", got)
			}
		}
		closeServer(t, s)
	})
}

func TestStrangersHaveLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(func(r *kafka.Request) {
			r.Conn.Authenticate("User:alice")
			respond(r)
		})
		seen := newCounts()
		s := kafka.New(kafka.Options{Handler: d, RequireAuth: true, Metrics: seen, Limits: kafka.Limits{AuthTimeout: 10 * time.Second}})
		began := time.Now()
		slow, known := pipe(s, kafka.Info{}), pipe(s, kafka.Info{})
		for range 3 {
			go func() { _, _ = slow.Write(frame(18, 0, 1, nil)) }()
			readAnswer(t, slow)
			time.Sleep(3 * time.Second)
		}
		go func() { _, _ = known.Write(frame(36, 0, 1, nil)) }()
		readAnswer(t, known)
		if !ended(t, slow) || time.Since(began) != 10*time.Second || seen.failed["unauthenticated"] != 1 {
			t.Errorf("ended after %v, %v", time.Since(began), seen.failed)
		}
		time.Sleep(time.Minute)
		go func() { _, _ = known.Write(frame(12, 0, 2, nil)) }()
		if got, _ := readAnswer(t, known); got != 2 {
			t.Errorf("answer to %d", got)
		}
		closeServer(t, s)
	})
}

// A stranger that takes none of its answers waits for nobody, and is not waited for.
func TestStrangersWhoTakeNoAnswersHaveLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kafka.New(kafka.Options{Handler: newDoor(nil), RequireAuth: true, Limits: kafka.Limits{AuthTimeout: 10 * time.Second}})
		began := time.Now()
		c := send(s, frame(18, 0, 1, nil))
		time.Sleep(11 * time.Second)
		if _, err := io.ReadAll(c); err != nil || time.Since(began) > 12*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		closeServer(t, s)
	})
}

func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(func(r *kafka.Request) {
			r.Conn.AuthenticateUntil("User:alice", time.Now().Add(time.Minute))
			respond(r)
		})
		s := kafka.New(kafka.Options{Handler: d, RequireAuth: true})
		c := pipe(s, kafka.Info{})
		ask := func(key int16) {
			go func() { _, _ = c.Write(frame(key, 0, int32(key), nil)) }()
		}
		asked := func(key int16) {
			t.Helper()
			ask(key)
			if got, _ := readAnswer(t, c); got != int32(key) {
				t.Errorf("answer to %d", got)
			}
		}
		asked(36)
		time.Sleep(59 * time.Second)
		asked(12)
		time.Sleep(2 * time.Second)
		asked(18)
		asked(36)
		asked(12)
		time.Sleep(time.Minute)
		ask(12)
		if !ended(t, c) {
			t.Error("served after its session")
		}
		closeServer(t, s)
	})
}

// Who is denied is told, and nothing that it has sent behind that is looked at.
func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := newCounts()
		d := newDoor(func(r *kafka.Request) { r.Deny(kmsg.NewPtrSASLAuthenticateResponse(), errors.New("wrong password")) })
		s := kafka.New(kafka.Options{Handler: d, RequireAuth: true, Metrics: seen})
		c := send(s, append(frame(36, 0, 1, nil), frame(36, 0, 2, nil)...))
		if got, _ := readAnswer(t, c); got != 1 {
			t.Errorf("answer to %d", got)
		}
		if !ended(t, c) || len(d.served) != 1 || seen.failed["unauthenticated"] != 1 {
			t.Errorf("%d requests came through, %v", len(d.served), seen.failed)
		}
		closeServer(t, s)
	})
}

// Strangers who stall in their frames take nothing from others, be they strangers too.
func TestStalledStrangersStopNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := kafka.New(kafka.Options{Handler: newDoor(respond), RequireAuth: true, Limits: kafka.Limits{PreAuthMemory: 1 << 20, TotalMemory: 1 << 20}})
		for range 100 {
			send(s, append(binary.BigEndian.AppendUint32(nil, 60<<10), make([]byte, 20<<10)...))
		}
		synctest.Wait()
		for _, info := range []kafka.Info{{Principal: "User:bob"}, {}} {
			began := time.Now()
			c := pipe(s, info)
			size := 100
			if info.Principal != "" {
				size = 900 << 10
			}
			go func() { _, _ = c.Write(frame(36, 0, 7, make([]byte, size))) }()
			if got, _ := readAnswer(t, c); got != 7 || time.Since(began) != 0 {
				t.Errorf("answer to %d after %v", got, time.Since(began))
			}
		}
		closeServer(t, s)
	})
}

// What is said in 0-RTT may be a replay: strangers are told what is served, and nothing
// else until the handshake is complete, whatever may be served early to others (RULES §8).
func TestNothingOfStrangersIsServedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(respond)
		s := kafka.New(kafka.Options{Handler: d, RequireAuth: true, EarlyOK: func(*kafka.Request) bool { return true }})
		for _, info := range []kafka.Info{{}, {Principal: "User:bob"}} {
			handshake := make(chan struct{})
			info.Early = func() bool {
				select {
				case <-handshake:
					return false
				default:
					return true
				}
			}
			info.Confirm = func(context.Context) error { <-handshake; return nil }
			c := pipe(s, info)
			go func() { _, _ = c.Write(append(frame(18, 0, 1, nil), frame(36, 0, 2, nil)...)) }()
			readAnswer(t, c)
			synctest.Wait()
			if len(d.served) != 0 {
				t.Error("served in 0-RTT")
			}
			close(handshake)
			if got, _ := readAnswer(t, c); got != 2 {
				t.Errorf("answer to %d", got)
			}
			<-d.served
		}
		closeServer(t, s)
	})
}

// What strangers ask for and do not take is little, however many they are.
func TestStrangersWaitForFewAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(nil)
		s := kafka.New(kafka.Options{Handler: d, RequireAuth: true})
		var asks []byte
		for i := range int32(100) {
			asks = append(asks, frame(17, 1, i, nil)...)
		}
		send(s, asks)
		synctest.Wait()
		if n := len(d.served); n != 8 {
			t.Errorf("%d requests were served before any answer was taken", n)
		}
		closeServer(t, s)
	})
}

// TestStrangersGiveWay has all places taken, by one that has said who it is and two that have
// not: who comes is let in, and the stranger who came first has to go. Where all are known, who
// comes has to.
func TestStrangersGiveWay(t *testing.T) {
	for _, asked := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			seen := newCounts()
			d := newDoor(func(r *kafka.Request) {
				r.Conn.Authenticate("User:alice")
				respond(r)
			})
			s := kafka.New(kafka.Options{Handler: d, RequireAuth: asked, Metrics: seen, Limits: kafka.Limits{MaxConns: 3, PerIP: 3}})
			identify := func(c net.Conn) {
				go func() { _, _ = c.Write(frame(36, 0, 1, nil)) }()
				if got, _ := readAnswer(t, c); got != 1 {
					t.Errorf("answer to %d", got)
				}
			}
			knock := func() net.Conn {
				c := pipe(s, kafka.Info{})
				synctest.Wait()
				return c
			}
			known := knock()
			identify(known)
			first, second, third := knock(), knock(), knock()
			if !ended(t, first) || seen.refused["max_connections"] != 1 {
				t.Errorf("who came first, and is silent, stays: %v", seen.refused)
			}
			for _, c := range []net.Conn{known, second, third} {
				identify(c)
			}
			if late := knock(); !ended(t, late) || seen.refused["max_connections"] != 2 {
				t.Errorf("one more than there may be: %v", seen.refused)
			}
			identify(known)
			closeServer(t, s)
		})
	}
}
