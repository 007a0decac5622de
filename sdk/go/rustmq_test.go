package rustmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRetriable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{context.Canceled, false},
		{context.DeadlineExceeded, true},
		{ErrClosed, false},
		{ErrFenced, false},
		{ErrBreakerOpen, true},
		{kgo.ErrRecordTimeout, true},
		{kerr.NotLeaderForPartition, true},
		{kerr.MessageTooLarge, false},
		{kerr.TransactionAbortable, true},
		{fmt.Errorf("wrapped: %w", kerr.NotEnoughReplicas), true},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		{&ConditionError{}, false},
		{Permanent(kerr.NotLeaderForPartition), false},
		{&DecodeError{errors.New("}")}, false},
		{errors.New("another"), false},
	} {
		if got := IsRetriable(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestPauses(t *testing.T) {
	f := Failures{Pause: time.Millisecond, MaxPause: 6 * time.Millisecond}
	for attempt, want := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 4: 6, 1000: 6} {
		if got := f.pause(attempt); got != want*time.Millisecond {
			t.Errorf("after %d attempts: %v", attempt, got)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, opts := range map[string][]Option{
		"empty address":        {WithBrokers("a:1", " ")},
		"codec":                {WithCompression("brotli")},
		"acks":                 {WithAcks(7)},
		"delivery time-out":    {WithDeliveryTimeout(time.Millisecond)},
		"buffer":               {WithBufferedBytes(0)},
		"half a pair":          {WithTLS(TLS{CertFile: "cert.pem"})},
		"token in the clear":   {WithToken(func(context.Context) (string, error) { return "", nil })},
		"breaker":              {WithCircuitBreaker(Breaker{})},
		"admin":                {WithAdmin("localhost:9642", nil, nil)},
		"token by http":        {WithAdmin("http://broker:9642", func(context.Context) (string, error) { return "", nil }, nil)},
		"transactional id":     {WithTransactionalID("", 0)},
		"file that is missing": {WithTLS(TLS{CAFile: "missing.pem"})},
	} {
		if c, err := New(opts...); err == nil {
			t.Errorf("%s: accepted", name)
			_ = c.Close()
		} else if !strings.HasPrefix(err.Error(), "rustmq: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, url := range []string{"https://broker:9642", "http://localhost:9642", "http://127.0.0.2:9642", "http://[::1]:9642"} {
		if c, err := New(WithAdmin(url, func(context.Context) (string, error) { return "", nil }, nil)); err != nil {
			t.Errorf("a token to %s: %v", url, err)
		} else {
			_ = c.Close()
		}
	}
	c, err := New(WithBrokers("h", "::1", "[::2]:7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := fmt.Sprint(c.config.brokers); got != "[h:9092 [::1]:9092 [::2]:7]" {
		t.Errorf("%v", got)
	}
	if _, err := NewConsumer(c, Raw(), ConsumerOptions{}); err == nil {
		t.Error("a consumer of nothing")
	}
	if _, err := NewProcessor(c, Raw(), "", ConsumerOptions{Topics: []string{"t"}, Group: "g"}); err == nil {
		t.Error("a processor without an id")
	}
}

func TestWindowsBoundRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &windows{timeout: 32 * time.Second}
		first := w.at(time.Now())
		if w.at(time.Now().Add(999*time.Millisecond)) != first {
			t.Error("records of one window have different deadlines")
		}
		time.Sleep(time.Second)
		second := w.at(time.Now())
		if second == first {
			t.Error("a window does not end")
		}
		time.Sleep(32*time.Second - time.Nanosecond)
		synctest.Wait()
		if first.Err() != nil {
			t.Error("a record ends before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !errors.Is(first.Err(), kgo.ErrRecordTimeout) || second.Err() != nil {
			t.Errorf("%v, %v", first.Err(), second.Err())
		}
		time.Sleep(time.Minute)
	})
}

// TestVersionIsInTheChangelog keeps the two from drifting apart.
func TestVersionIsInTheChangelog(t *testing.T) {
	raw, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "\n## "+Version) {
		t.Errorf("CHANGELOG.md says nothing of %s", Version)
	}
}
