package kafka_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/transport/kafka"
)

// A client that is muted is answered, and what it sends all the same is served when
// its time has come: also what was sent before.
func TestMutedClientsAreServedLater(t *testing.T) {
	for _, pipelined := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker()
			s := kafka.New(kafka.Options{Handler: b})
			defer closeServer(t, s)
			c := pipe(s, kafka.Info{})
			write := func(id int32) {
				if _, err := c.Write(frame(12, 0, id, nil)); err != nil {
					t.Error(err)
				}
			}
			write(1)
			<-b.arrived
			first := b.take()[0]
			sent := make(chan struct{})
			if pipelined {
				// The reader is in the middle of the second when the first is answered.
				half := frame(12, 0, 2, nil)
				if _, err := c.Write(half[:6]); err != nil {
					t.Fatal(err)
				}
				go func() { defer close(sent); synctest.Wait(); _, _ = c.Write(half[6:]) }()
			}
			began := time.Now()
			first.Conn.Mute(began.Add(5 * time.Second))
			first.Conn.Mute(began.Add(time.Second)) // the latest counts
			first.Respond(kmsg.NewPtrHeartbeatResponse())
			if got, _ := readAnswer(t, c); got != 1 || time.Since(began) != 0 {
				t.Fatalf("answer to %d after %v", got, time.Since(began))
			}
			if !pipelined {
				go func() { defer close(sent); write(2) }()
			}
			<-b.arrived
			if waited := time.Since(began); waited != 5*time.Second {
				t.Errorf("pipelined %v: served after %v", pipelined, waited)
			}
			<-sent
			b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
			readAnswer(t, c)
			c.Close()
		})
	}
}

// Nobody waits for a muted client: neither the end of its connection, nor that of
// the server.
func TestMutedClientsHoldUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: b})
		c := pipe(s, kafka.Info{})
		if _, err := c.Write(frame(12, 0, 1, nil)); err != nil {
			t.Fatal(err)
		}
		<-b.arrived
		r := b.take()[0]
		r.Conn.Mute(time.Now().Add(time.Hour))
		r.Respond(kmsg.NewPtrHeartbeatResponse())
		readAnswer(t, c)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil || time.Since(began) > time.Second {
			t.Errorf("shut down after %v: %v", time.Since(began), err)
		}
	})
}

// muting mutes who sends the first request, before anything else is read.
type muting struct {
	*broker
	once sync.Once
}

func (m *muting) Serve(r *kafka.Request) {
	m.once.Do(func() { r.Conn.Mute(time.Now().Add(time.Minute)) })
	m.broker.Serve(r)
}

// A frame has the time that frames have from when the server goes on to read it, not
// from when another did that was cut at the same place.
func TestCutFrameBehindAMuteHasItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		s := kafka.New(kafka.Options{Handler: &muting{broker: b}})
		defer closeServer(t, s)
		c := pipe(s, kafka.Info{})
		defer c.Close()
		write := func(b []byte) {
			t.Helper()
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		first, second := frame(12, 0, 1, nil), frame(12, 0, 2, nil)
		write(first[:2]) // within its length
		synctest.Wait()
		write(append(first[2:len(first):len(first)], second[:2]...))
		<-b.arrived
		b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
		readAnswer(t, c)
		time.Sleep(time.Minute + time.Second)
		write(second[2:])
		<-b.arrived
		b.take()[0].Respond(kmsg.NewPtrHeartbeatResponse())
		if got, _ := readAnswer(t, c); got != 2 {
			t.Errorf("answer to %d", got)
		}
	})
}
