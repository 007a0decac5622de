package async

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func produceOf(records []byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.SetVersion(produceVersion)
	id := "id"
	q.TransactionID, q.Acks, q.TimeoutMillis = &id, -1, 1000
	q.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 3, Records: records}}}}
	return q
}

// TestRecordsGoAsTheyAre: a Produce whose records are written apart has the bytes that it has
// with them in it.
func TestRecordsGoAsTheyAre(t *testing.T) {
	for _, size := range []int{1, 126, 127, 128, 1 << 14, 1 << 20} {
		records := bytes.Repeat([]byte{7}, size)
		want := kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, produceOf(records), 1)
		ours, theirs := net.Pipe()
		l := newLine(ours, func(n int) []byte { return make([]byte, n) })
		asked := make(chan error, 1)
		go func() {
			_, err := l.askWith(context.Background(), produceOf(nil), records)
			asked <- err
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(theirs, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes of records: the request differs from what it is with them", size)
		}
		if err := theirs.Close(); err != nil {
			t.Error(err)
		}
		if err := <-asked; !errors.Is(err, errLineEnded) {
			t.Errorf("a request that has no answer: %v", err)
		}
	}
}

// TestForeignAnswersEndALine: what nobody asked for, or says that it is too long, is no answer.
func TestForeignAnswersEndALine(t *testing.T) {
	for name, answer := range map[string][]byte{
		"to another request": {0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0},
		"too short":          {0, 0, 0, 2, 0, 0, 0, 1},
		"too long":           {0x7f, 0, 0, 0, 0, 0, 0, 1},
		"malformed":          {0, 0, 0, 6, 0, 0, 0, 1, 0, 0xff},
	} {
		ours, theirs := net.Pipe()
		l := newLine(ours, func(n int) []byte { return make([]byte, n) })
		go func() {
			_, _ = io.CopyN(io.Discard, theirs, 4) // the request has begun
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			_, _ = theirs.Write(answer)
		}()
		q := kmsg.NewPtrMetadataRequest()
		q.SetVersion(metadataVersion)
		if p, err := l.ask(t.Context(), q); err == nil {
			t.Errorf("%s: taken as %+v", name, p)
		}
		if p, err := l.ask(t.Context(), q); err == nil {
			t.Errorf("%s: the line goes on, and says %+v", name, p)
		}
		_ = theirs.Close()
	}
}
