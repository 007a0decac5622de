package broker

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/wire"
	"rustmq.dev/rustmq/transport/kafka"
)

// fill gives the fields of a request random values: small numbers, names that
// exist and names that do not.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Type().Field(i).Type != reflect.TypeFor[kmsg.Tags]() {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Slice:
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString([]string{"events", "group", "member", "", "1", "max.message.bytes", "roundrobin", "range", "../x"}[rng.IntN(9)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{-2, -1, 0, 1, 2, 7, 100, 127}[rng.IntN(8)])
	case reflect.Uint8:
		v.SetUint(uint64(rng.IntN(256)))
	}
}

// every calls f with random requests of every served API and version.
func every(seed uint64, n int, f func(kmsg.Request)) {
	for _, a := range servedAPIs() {
		for version := a.min; version <= a.max; version++ {
			rng := rand.New(rand.NewPCG(seed, uint64(a.key)<<16|uint64(version)))
			for range n {
				q := kmsg.RequestForKey(a.key.Int16())
				fill(rng, reflect.ValueOf(q).Elem())
				q.SetVersion(version)
				f(q)
			}
		}
	}
}

// Random requests of every API and version are answered, or end their
// connection; the broker goes on.
func TestEveryVersionIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t)
		n.controller.createTopic("events", 2)
		n.settle(t.Context())
		answered := map[kmsg.Key]int{}
		every(1, 8, func(q kmsg.Request) {
			c := n.connect()
			defer c.conn.Close()
			c.send(q)
			c.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := c.tryReceive(); err == nil {
				answered[kmsg.Key(q.Key())]++
			} else if err != io.EOF && !isTimeout(err) {
				t.Fatalf("%s v%d %+v: %v", kmsg.NameForKey(q.Key()), q.GetVersion(), q, err)
			}
		})
		for _, a := range servedAPIs() {
			if answered[a.key] == 0 {
				t.Errorf("no request of %s was answered", kmsg.NameForKey(a.key.Int16()))
			}
		}
		n.controller.createTopic("afterwards", 1)
		n.settle(t.Context())
		n.connect().produce("afterwards", 0, "alive")
	})
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// What is announced is decoded by kmsg or by hand, in every version.
func TestAnnouncedVersionsAreKnown(t *testing.T) {
	for _, v := range startNode(t).Versions() {
		q := kmsg.RequestForKey(v.Key)
		if q == nil || v.Min < 0 || v.Max > q.MaxVersion() || v.Min > v.Max {
			t.Errorf("%s v%d to v%d", kmsg.NameForKey(v.Key), v.Min, v.Max)
		}
	}
}

// Bodies of every kind of damage neither crash the broker nor hold it up.
func FuzzServe(f *testing.F) {
	every(2, 2, func(q kmsg.Request) { f.Add(q.Key(), q.GetVersion(), q.AppendTo(nil)) })
	n := startNode(f)
	n.controller.createTopic("events", 2)
	n.settle(f.Context())
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.server.ServeConn(far, kafka.Info{Listener: "kafka", Transport: "tcp"})
		}()
		q := kmsg.RequestForKey(key)
		if q == nil {
			q = kmsg.NewPtrMetadataRequest()
		}
		q.SetVersion(version)
		frame := binary.BigEndian.AppendUint16(nil, uint16(key))
		frame = binary.BigEndian.AppendUint16(frame, uint16(version))
		frame = append(frame, 0, 0, 0, 1, 0xff, 0xff)
		if q.IsFlexible() {
			frame = append(frame, 0)
		}
		frame = append(frame, body...)
		near.SetDeadline(time.Now().Add(20 * time.Millisecond))
		near.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
		io.ReadFull(near, make([]byte, 4))
		near.Close()
		<-done
	})
}

// A body that promises more than it holds is refused before room is made.
func TestPromisesOfABodyAreNotBelieved(t *testing.T) {
	n := startNode(t)
	for name, body := range map[string][]byte{
		"tags":       {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"topics":     {0xff, 0xff, 0xff, 0xff, 0x07},
		"cut string": {2, 200, 1, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := wire.Check(int16(kmsg.Metadata), 9, body); err == nil {
				t.Fatal("the body is well formed")
			}
			c := n.connect()
			frame := append([]byte{0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0}, body...)
			// The broker may have closed before the last byte is taken.
			_, _ = c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
			if !c.closed() {
				t.Error("the connection goes on")
			}
		})
	}
}

// What may be a replay makes no topic and opens no session (RULES §8).
func TestEarlyDataChangesNothing(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	topics := n.controller.Image().NumTopics()
	c := n.connectBy(kafka.Info{Listener: "kafka", Transport: "quic", Early: func() bool { return true }})

	q := metadataOf("new")
	q.AllowAutoTopicCreation = true
	if p := ask[*kmsg.MetadataResponse](c, 9, q); p.Topics[0].ErrorCode == 0 {
		t.Errorf("metadata: %+v", p.Topics)
	}
	if p := ask[*kmsg.FetchResponse](c, 12, inSession(fetchFrom("events", 0, 0, 0), 0, 0)); p.SessionID != 0 {
		t.Errorf("fetch opened session %d", p.SessionID)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"group"}
	if p := ask[*kmsg.FindCoordinatorResponse](c, 4, find); p.Coordinators[0].ErrorCode == 0 {
		t.Errorf("find coordinator: %+v", p.Coordinators)
	}
	if got := n.controller.Image().NumTopics(); got != topics {
		t.Errorf("%d topics were made", got-topics)
	}
	for _, a := range servedAPIs() {
		changes := a.key == kmsg.Produce || a.key == kmsg.CreateTopics || a.key == kmsg.JoinGroup || a.key == kmsg.OffsetCommit || a.key == kmsg.InitProducerID
		if changes && EarlyOK(&kafka.Request{Key: a.key.Int16()}) {
			t.Errorf("%s is served in 0-RTT", kmsg.NameForKey(a.key.Int16()))
		}
	}
}
