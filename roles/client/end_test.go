package client

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// compactedTopic makes one of one partition.
func compactedTopic(t *testing.T, addr, name string) {
	t.Helper()
	if _, err := admin(t, addr).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": kmsg.StringPtr("compact")}, name); err != nil {
		t.Fatal(err)
	}
	rustmq(t, "k=v\n", "produce", name, "-b", addr, "-f", "%k=%v")
}

// fetchAnswers makes the broker answer every fetch with the error, or with
// nothing when there is none.
func fetchAnswers(c *kfake.Cluster, code *kerr.Error) {
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.FetchRequest)
		resp := in.ResponseKind().(*kmsg.FetchResponse)
		if code == nil {
			return resp, nil, true
		}
		for _, topic := range in.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.ErrorCode = partition.Partition, code.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// TestWhatCannotBeReadIsNoHole holds that a compacted topic which the broker
// cannot read for a while is not printed in part as if that were all.
func TestWhatCannotBeReadIsNoHole(t *testing.T) {
	t.Parallel()
	c, addr := broker(t)
	compactedTopic(t, addr, "c")
	fetchAnswers(c, kerr.KafkaStorageError)
	began := time.Now()
	err := fails(t, "", "consume", "c", "-b", addr, "-e", "--timeout", "5s")
	if !strings.Contains(err.Error(), "KAFKA_STORAGE_ERROR") || !strings.Contains(err.Error(), "rustmq admin storage check") || !strings.Contains(err.Error(), "partition 0 has offsets up to 0") {
		t.Error(err)
	}
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("gave up after %v", took)
	}
}

// TestHoleAtTheEndIsTold has a compacted topic whose last offsets hold nothing.
func TestHoleAtTheEndIsTold(t *testing.T) {
	t.Parallel()
	c, addr := broker(t)
	compactedTopic(t, addr, "c")
	fetchAnswers(c, nil)
	_, stderr := rustmq(t, "", "consume", "c", "-b", addr, "-e", "--timeout", "1s")
	if !strings.Contains(stderr, "partition 0 ended at its start of 0") || !strings.Contains(stderr, "compacted away") {
		t.Errorf("said %q", stderr)
	}
}

// TestWhatPassesIsNotTold holds that a broker which cannot read for a moment is
// asked again, and not in a busy loop.
func TestWhatPassesIsNotTold(t *testing.T) {
	t.Parallel()
	c, addr := broker(t)
	seed(t, addr, 0, "a")
	var mu sync.Mutex
	refused := 0
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if refused++; refused > 3 {
			return nil, nil, false
		}
		c.KeepControl()
		in := req.(*kmsg.FetchRequest)
		resp := in.ResponseKind().(*kmsg.FetchResponse)
		for _, topic := range in.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.ErrorCode = partition.Partition, kerr.NotLeaderForPartition.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	if stdout, stderr := rustmq(t, "", "consume", "t", "-b", addr, "-e"); stdout != "a\n" || stderr != "" {
		t.Errorf("printed %q, said %q", stdout, stderr)
	}
}

// TestInterruptBeforeTheEndFails holds that a part is not taken for the whole by
// who looks at the exit code: only a tail has no end to come to.
func TestInterruptBeforeTheEndFails(t *testing.T) {
	t.Parallel()
	c, addr := broker(t)
	seed(t, addr, 0, "a")
	for _, flags := range []string{"-n 2", "-e"} {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		w := newWorld("")
		ended := make(chan error, 1)
		if flags == "-e" {
			asked := make(chan struct{}, 1)
			c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				select {
				case asked <- struct{}{}:
				default:
				}
				return req.(*kmsg.FetchRequest).ResponseKind(), nil, true // nothing, for ever
			})
			go func() { ended <- w.run(ctx, "consume", "t", "-b", addr, "-e") }()
			<-asked
		} else {
			go func() { ended <- w.run(ctx, "consume", "t", "-b", addr, "-n", "2") }()
			w.stdout.await(t, "a\n")
		}
		interrupt()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "interrupted after ") || !strings.Contains(err.Error(), "the end was not reached") {
			t.Errorf("%s: %v", flags, err)
		}
	}
}

// TestGroupEndsWhereItStarts holds that -o counts for what a group has not
// committed, also when it points to the end: there is nothing to wait for.
func TestGroupEndsWhereItStarts(t *testing.T) {
	_, addr := broker(t)
	seed(t, addr, 0, "a", "b")
	for i, c := range []struct{ offset, want string }{{"end", ""}, {"7", ""}, {"+5", ""}, {"@-1h", ""}, {"1", "b\n"}} {
		group := fmt.Sprint("g", i)
		if stdout, _ := rustmq(t, "", "consume", "t", "-b", addr, "-g", group, "-e", "-o", c.offset, "--timeout", "1m"); stdout != c.want {
			t.Errorf("-o %s printed %q, want %q", c.offset, stdout, c.want)
		}
	}
}

// TestLostSessionIsNoEnd holds that a client that falls out of its group says so
// and joins it again, and that what no try can mend ends it.
func TestLostSessionIsNoEnd(t *testing.T) {
	c, addr := broker(t)
	seed(t, addr, 0, "a")
	refuse := func(code *kerr.Error, keep bool) {
		c.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
			if keep {
				c.KeepControl()
			}
			resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
			resp.ErrorCode = code.Code
			return resp, nil, true
		})
	}
	refuse(kerr.UnknownServerError, false)
	stdout, stderr := rustmq(t, "", "consume", "t", "-b", addr, "-g", "g", "-n", "1")
	if stdout != "a\n" || !strings.Contains(stderr, "out of the group g, joining it again") {
		t.Errorf("printed %q, said %q", stdout, stderr)
	}
	refuse(kerr.GroupAuthorizationFailed, true)
	if err := fails(t, "", "consume", "t", "-b", addr, "-g", "other", "-n", "1"); !strings.Contains(err.Error(), "join the group other: GROUP_AUTHORIZATION_FAILED") || !strings.Contains(err.Error(), "--principal ANONYMOUS --resource group.other --permissions read") {
		t.Error(err)
	}
}

// TestTimeInTheFuture holds that nothing older than the time is printed.
func TestTimeInTheFuture(t *testing.T) {
	_, addr := broker(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	w := newWorld("")
	ended := make(chan error, 1)
	at := time.Now().Add(time.Hour)
	go func() { ended <- w.run(ctx, "consume", "t", "-b", addr, "-o", "@"+at.Format(time.RFC3339Nano)) }()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := 0; !strings.Contains(w.stdout.String(), "due"); i++ { // whenever it has begun to listen
		for value, when := range map[string]time.Time{"early": at.Add(-time.Minute), "due": at.Add(time.Minute)} {
			if value == "due" && i%2 == 0 {
				continue // one round with early records alone
			}
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte(value), Timestamp: when}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if i > 500 {
			t.Fatal("what came was not printed")
		}
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if stdout := w.stdout.String(); !strings.HasPrefix(stdout, "due\n") {
		t.Errorf("printed %q", stdout)
	}
}

// TestSecondsAreNoMilliseconds holds that a time of `date +%s` is not read as
// January 1970 without a word.
func TestSecondsAreNoMilliseconds(t *testing.T) {
	_, addr := broker(t)
	seed(t, addr, 0, "a")
	for offset, said := range map[string]bool{"@1517443200": true, "@1517443200000": false, "@1970-02-01": false} {
		if _, stderr := rustmq(t, "", "consume", "t", "-b", addr, "-e", "-o", offset); strings.Contains(stderr, "--offset "+offset+"000") != said {
			t.Errorf("%s: said %q", offset, stderr)
		}
	}
}

// TestTimeMayBeLookedForLong holds that --timeout reaches the question where a
// time lies, which a broker may have to read from its bucket for.
func TestTimeMayBeLookedForLong(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{time.Second: pingTimeout, time.Minute: time.Minute} {
		if got := (&consume{timeout: timeout}).patience(); got != want {
			t.Errorf("--timeout %v: %v, want %v", timeout, got, want)
		}
	}
}
