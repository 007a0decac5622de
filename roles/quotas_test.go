package roles_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// throttles are how long a client was told to wait.
type throttles chan time.Duration

func (t throttles) OnBrokerThrottle(_ kgo.BrokerMetadata, wait time.Duration, _ bool) { t <- wait }

// The quota that holds a client is that of the user whom SASL has proved and of the client
// id that it gives itself: the most specific of KIP-55, for each two clients at once. Taken
// away one by one, the next comes into force.
func TestQuotasOfUsersAndClientIDs(t *testing.T) {
	t.Parallel()
	n, _ := securedNode(t, "")
	dial := dials(t, n)["TLS"]
	admin := func(stdin string, args ...string) {
		t.Helper()
		if code, _, stderr := rustmq(t, stdin, append(append([]string{"admin"}, args...), "--url", "http://"+n.HTTP())...); code != 0 {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
	}
	admin("open sesame\n", "users", "create", "bob")
	admin("", "topics", "create", "t")
	// rate is by which a client is held: a record of 100 kB takes more than comes at once by
	// any of these, and the wait says how much.
	value := bytes.Repeat([]byte("v"), 100_000)
	rate := func(user, clientID string) int {
		t.Helper()
		told := make(throttles, 10)
		cl := kafkaClient(t, n, scram.Auth{User: user, Pass: "open sesame"}.AsSha512Mechanism(), dial,
			kgo.ClientID(clientID), kgo.WithHooks(told), kgo.ProducerBatchCompression(kgo.NoCompression()))
		defer cl.Close()
		must(t, cl.ProduceSync(t.Context(), &kgo.Record{Value: value}).FirstErr())
		select {
		case wait := <-told:
			return int(math.Round(float64(len(value)) / (wait.Seconds() + 10) / 500))
		default: // the answer of a producer has come, and what it says with it
			return 0
		}
	}
	quotas := []struct {
		entity       string
		alice, other int // which of these holds alice's app, and what else does then
		user, id     string
	}{
		{"--user alice --client-id app", 0, 1, "alice", "other"},
		{"--user alice --default-client-id", 1, 3, "bob", "app"},
		{"--user alice", 2, 4, "bob", "x"},
		{"--default-user --client-id app", 3, 4, "bob", "y"},
		{"--default-user --default-client-id", 4, 4, "bob", "app"},
		{"--default-user", 5, 5, "bob", "other"},
		{"--client-id app", 6, 7, "alice", "other"},
		{"--default-client-id", 7, 7, "bob", "x"},
	} // nobody is held by one twice: who owes has to wait longer
	// The i-th is of 500(i+4) bytes a second: 4 to 11 come out of rate.
	set := func(i int, word string) {
		t.Helper()
		admin("", append(append([]string{"quotas", "set"}, strings.Fields(quotas[i].entity)...), strings.Fields(word)...)...)
	}
	for i := range quotas {
		set(i, fmt.Sprintf("producer_byte_rate=%d", 500*(i+4)))
	}
	for i, q := range quotas {
		if got := rate("alice", "app") - 4; got != q.alice {
			t.Errorf("alice's app is held by %d of the quotas from %d on, want %d", got, i, q.alice)
		}
		if got := rate(q.user, q.id) - 4; got != q.other {
			t.Errorf("%s's %s is held by %d of the quotas from %d on, want %d", q.user, q.id, got, i, q.other)
		}
		set(i, "--delete producer_byte_rate")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if got := rate("alice", "app"); got != 0 || ctx.Err() != nil {
		t.Errorf("without quotas alice's app is held by %d", got)
	}
}
