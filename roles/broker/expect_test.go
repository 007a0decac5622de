package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/batch"
)

func expectingOffset(value string, offset int64) *kgo.Record {
	return &kgo.Record{Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "rustmq.expect.offset", Value: strconv.AppendInt(nil, offset, 10)}}}
}

// TestOneOfRacingClientsAppends: of clients that append what they decided by the
// same records, one succeeds for each offset; the others are refused with a code of
// its own, read on, and go on with the same producer. Whatever codec they use.
func TestOneOfRacingClientsAppends(t *testing.T) {
	_, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	on := "true"
	if _, err := kadm.NewClient(newClient(t, addr)).CreateTopic(ctx, 1, 1, map[string]*string{"rustmq.expect.offset": &on}, "ledger"); err != nil {
		t.Fatal(err)
	}
	const rounds = 30
	var mu sync.Mutex // guards won
	won := map[int64][]string{}
	var all sync.WaitGroup
	for i, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		name := strconv.Itoa(i)
		cl := newClient(t, addr, kgo.DefaultProduceTopic("ledger"), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(codec))
		all.Go(func() {
			for next := int64(0); next < rounds; {
				r, err := cl.ProduceSync(ctx, expectingOffset(name, next)).First()
				switch {
				case err == nil && r.Offset == next:
					mu.Lock()
					won[next] = append(won[next], name)
					mu.Unlock()
					next++
				case errors.Is(err, kerr.PolicyViolation):
					if next, err = endOf(ctx, cl, "ledger", next); err != nil {
						t.Error(err)
						return
					}
				default:
					t.Errorf("client %s expected %d: %+v, %v", name, next, r, err)
					return
				}
			}
		})
	}
	all.Wait()
	reader := newClient(t, addr, kgo.ConsumeTopics("ledger"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for i, r := range consume(ctx, t, reader, rounds) {
		if r.Offset != int64(i) || !slices.Equal(won[r.Offset], []string{string(r.Value)}) {
			t.Errorf("offset %d was written by %s, and given to %v", r.Offset, r.Value, won[r.Offset])
		}
	}
}

// endOf is the high watermark, which must be beyond an offset: who was refused
// there can read why.
func endOf(ctx context.Context, cl *kgo.Client, topic string, beyond int64) (int64, error) {
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	o, _ := listed.Lookup(topic, 0)
	if o.Err == nil && o.Offset <= beyond {
		return 0, errors.New("refused because of what cannot be read yet")
	}
	return o.Offset, o.Err
}

// TestConditionIsAnsweredWithItsReason: what a client sees of one that is wrong, and
// of one that stands where it cannot.
func TestConditionIsAnsweredWithItsReason(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("ledger", 1, "rustmq.expect.offset", "true")
	n.controller.createTopic("plain", 1)
	n.settle(t.Context())
	c := n.connect()
	of := func(expected ...string) []byte {
		w := batch.NewBuilder(batch.BuilderOptions{})
		for _, e := range expected {
			w.Add(1000, nil, []byte("v"), batch.Header{Key: []byte("rustmq.expect.offset"), Value: []byte(e)})
		}
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tc := range []struct {
		topic   string
		records []byte
		want    *kerr.Error
		offset  int64
		message string
	}{
		{"ledger", of("0"), nil, 0, ""},
		{"ledger", of("0"), kerr.PolicyViolation, -1, "expects offset 0, the next one is 1"},
		{"ledger", of("1", "2"), kerr.InvalidRecord, -1, "only the first"},
		{"ledger", of("one"), kerr.InvalidRecord, -1, "decimal digits"},
		{"ledger", of("1"), nil, 1, ""},
		{"ledger", batchOf(t, "whatever comes"), nil, 2, ""},
		{"plain", of("7", "one"), nil, 0, ""},
	} {
		p := ask[*kmsg.ProduceResponse](c, 8, produceTo(tc.topic, 0, -1, tc.records))
		requireProduced(t, p, tc.want, tc.offset)
		got := ""
		if m := p.Topics[0].Partitions[0].ErrorMessage; m != nil {
			got = *m
		}
		if !strings.Contains(got, tc.message) || (got == "") != (tc.message == "") {
			t.Errorf("%s: %q, want %q", tc.topic, got, tc.message)
		}
	}
}

// TestConfigWithoutASynonymIsDescribed: rustmq's own keys have none of the broker's.
func TestConfigWithoutASynonymIsDescribed(t *testing.T) {
	n := startNode(t)
	got := n.Broker.topicConfigs(nil, 1, []string{"rustmq.expect.offset"})
	if len(got) != 1 || got[0].ConfigType != kmsg.ConfigTypeBoolean || *got[0].Value != "false" || !got[0].IsDefault {
		t.Errorf("%+v", got)
	}
}

// TestRefusedTransactionIsAborted: a condition counts what the transaction itself has
// appended, and who is refused in a transaction aborts it and begins the next.
func TestRefusedTransactionIsAborted(t *testing.T) {
	_, addr := startCluster(t)
	ctx := within(t, 30*time.Second)
	on := "true"
	if _, err := kadm.NewClient(newClient(t, addr)).CreateTopic(ctx, 1, 1, map[string]*string{"rustmq.expect.offset": &on}, "ledger"); err != nil {
		t.Fatal(err)
	}
	cl := newClient(t, addr, kgo.DefaultProduceTopic("ledger"), kgo.ProducerLinger(0), kgo.TransactionalID("writer"))
	next := int64(0)
	for _, tc := range []struct {
		value string
		off   int64
		want  error
		takes int64 // records and a marker, which comes before the next transaction
	}{{"first", 0, nil, 3}, {"refused", 3, kerr.PolicyViolation, 2}, {"second", 0, nil, 3}} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(ctx, expectingOffset(tc.value, next)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(ctx, expectingOffset(tc.value, next+1+tc.off)).FirstErr(); !errors.Is(err, tc.want) {
			t.Fatalf("%s: %v", tc.value, err)
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(tc.want == nil)); err != nil {
			t.Fatalf("end %s: %v", tc.value, err)
		}
		next += tc.takes
	}
	reader := newClient(t, addr, kgo.ConsumeTopics("ledger"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for i, r := range consume(ctx, t, reader, 4) {
		if want := []string{"first", "first", "second", "second"}[i]; string(r.Value) != want {
			t.Errorf("record %d is %s, want %s", i, r.Value, want)
		}
	}
}
