package kafka_test

import (
	"context"
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
