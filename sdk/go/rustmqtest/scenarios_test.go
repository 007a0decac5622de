package rustmqtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/twmb/franz-go/pkg/kerr"

	rustmq "rustmq.dev/rustmq/sdk/go"
	"rustmq.dev/rustmq/sdk/go/rustmqtest"
)

// scenario is a file of sdk/scenarios; README.md there says what each field means.
type scenario struct {
	Kind string `toml:"kind"`
	What string `toml:"what"`
	Case []run  `toml:"case"`
}

type run struct {
	Name          string `toml:"name"`
	Codec         string `toml:"codec"`
	Acks          string `toml:"acks"`
	Records       int    `toml:"records"`
	ValueBytes    int    `toml:"value_bytes"`
	Keys          int    `toml:"keys"`
	Partitions    int32  `toml:"partitions"`
	Workers       int    `toml:"workers"`
	Protocol      string `toml:"protocol"`
	Members       int    `toml:"members"`
	Leaves        int    `toml:"leaves"`
	Kills         int    `toml:"kills"`
	ServerKills   int    `toml:"server_kills"`
	SessionMs     int    `toml:"session_ms"`
	HandleMs      int    `toml:"handle_ms"`
	TopicMaxBytes int    `toml:"topic_max_bytes"`
	At            string `toml:"at"`
	Transport     string `toml:"transport"`
	DelayMs       int    `toml:"delay_ms"`
	Rebinds       int    `toml:"rebinds"`
	Restarts      int    `toml:"restarts"`
	Rotations     int    `toml:"rotations"`
	Expect        struct {
		Missing    int    `toml:"missing"`
		Duplicates *int   `toml:"duplicates"`
		Ordered    bool   `toml:"ordered"`
		Outcome    string `toml:"outcome"`
		Retriable  *bool  `toml:"retriable"`
		Rejoins    *int   `toml:"rejoins"`
		Usable     bool   `toml:"usable"`
	} `toml:"expect"`
}

// judge compares how often each of n records was seen with what is expected.
func (r run) judge(t *testing.T, n int, seen map[int]int) {
	t.Helper()
	missing, duplicates := 0, 0
	for i := range n {
		switch seen[i] {
		case 0:
			missing++
		default:
			duplicates += seen[i] - 1
		}
	}
	if missing != r.Expect.Missing || r.Expect.Duplicates != nil && duplicates != *r.Expect.Duplicates || len(seen) > n {
		t.Errorf("of %d records %d are missing, and %d there more than once; %d strangers", n, missing, duplicates, max(0, len(seen)+missing-n))
	}
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(*testing.T, *rustmqtest.Server, run){
		"round-trip": roundTrip, "order": order, "rebalance": rebalance, "exactly-once": exactlyOnce, "size": size, "cancel": cancelled, "slow": slow, "failover": failover,
		"udp-blocked": udpBlocked, "address": addressChanges, "tickets": ticketsOutstanding, "rotation": certificatesRotate,
	}
	files, err := filepath.Glob("../../scenarios/*.toml")
	if err != nil || len(files) != len(kinds) {
		t.Fatalf("%d files of scenarios for %d kinds, %v", len(files), len(kinds), err)
	}
	server := rustmqtest.Start(t, rustmqtest.Options{Set: map[string]string{"wal.segment_size": "64MiB"}})
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s scenario
		if err := toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(&s); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		do := kinds[s.Kind]
		if do == nil {
			t.Fatalf("%s: kind %q is not known here", file, s.Kind)
		}
		for _, r := range s.Case {
			t.Run(s.Kind+"/"+r.Name, func(t *testing.T) {
				t.Parallel()
				do(t, server, r)
			})
		}
	}
}

// fresh is a name that no other case has.
func fresh(t *testing.T) string {
	name := make([]byte, 0, len(t.Name()))
	for _, c := range []byte(t.Name()) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			name = append(name, c)
		} else {
			name = append(name, '-')
		}
	}
	return string(name)
}

func roundTrip(t *testing.T, server *rustmqtest.Server, r run) {
	acks, ok := map[string]rustmq.Acks{"all": rustmq.AcksAll, "leader": rustmq.AcksLeader, "none": rustmq.AcksNone}[r.Acks]
	if !ok {
		t.Fatalf("acks %q", r.Acks)
	}
	client, name := server.Client(t, rustmq.WithCompression(r.Codec), rustmq.WithAcks(acks)), fresh(t)
	topic(t, client, rustmq.Topic{Name: name, Partitions: 2})
	random := rand.NewChaCha8([32]byte{1})
	values := map[string]int{}
	var records []*rustmq.Record
	for i := range r.Records {
		value := make([]byte, r.ValueBytes)
		_, _ = random.Read(value[len(value)/2:]) // it never fails
		values[string(value)] = i
		records = append(records, &rustmq.Record{Topic: name, Key: fmt.Append(nil, i), Value: value, Headers: []rustmq.Header{{Key: "h", Value: []byte("v")}}})
	}
	if err := client.ProduceSync(within(t, moments), records...).Err(); err != nil {
		t.Fatal(err)
	}
	c, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seen := map[int]int{}
	for n := 0; n < r.Records; {
		got, err := c.Poll(within(t, moments))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			n++
			if i, ok := values[string(m.Value)]; ok && string(m.Record.Key) == fmt.Sprint(i) && len(m.Record.Headers) == 1 {
				seen[i]++
			}
		}
	}
	r.judge(t, r.Records, seen)
}

func order(t *testing.T, server *rustmqtest.Server, r run) {
	client, name := server.Client(t), fresh(t)
	fill(t, client, name, r.Partitions, r.Records, r.Keys)
	ctx, cancel := context.WithCancel(within(t, moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{name}, Group: name, Workers: r.Workers})
	var mu sync.Mutex
	seen, last := map[int]int{}, map[string]int{}
	if err := c.Run(ctx, func(_ context.Context, m *rustmq.Message[int]) error {
		mu.Lock()
		defer mu.Unlock()
		key := string(m.Record.Key)
		if before, ok := last[key]; ok && before >= m.Value && r.Expect.Ordered {
			t.Errorf("%s: %d comes after %d", key, m.Value, before)
		}
		last[key] = m.Value
		if seen[m.Value]++; len(seen) == r.Records {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.judge(t, r.Records, seen)
}

func rebalance(t *testing.T, server *rustmqtest.Server, r run) {
	client, name := server.Client(t), fresh(t)
	topic(t, client, rustmq.Topic{Name: name, Partitions: r.Partitions})
	var mu sync.Mutex
	seen := map[int]int{}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }
	type member struct {
		way    faults
		cancel context.CancelFunc
		ended  chan struct{}
		held   atomic.Int64
	}
	join := func() *member {
		m := &member{ended: make(chan struct{})}
		ctx, cancel := context.WithCancel(within(t, 2*moments))
		m.cancel = cancel
		c := consumer(t, server.Client(t, m.way.option()), rustmq.ConsumerOptions{
			Topics: []string{name}, Group: name, Classic: r.Protocol == "classic", SessionTimeout: time.Duration(r.SessionMs) * time.Millisecond, MaxPoll: 10, CommitEvery: 50 * time.Millisecond,
		})
		go func() {
			defer close(m.ended)
			if err := c.Run(ctx, func(_ context.Context, msg *rustmq.Message[int]) error {
				mu.Lock()
				defer mu.Unlock()
				seen[msg.Value]++
				m.held.Add(1)
				return nil
			}); err != nil {
				t.Error(err)
			}
			m.way.cut(false) // who vanished must be able to end
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}()
		return m
	}
	sent := 0
	send := func(n int) {
		t.Helper()
		for range n {
			if err := client.ProduceSync(within(t, moments), &rustmq.Record{Topic: name, Key: fmt.Append(nil, sent), Value: fmt.Append(nil, sent)}).Err(); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	steps := r.Members + r.Leaves + r.Kills
	var members []*member
	for range r.Members {
		members = append(members, join())
		send(r.Records / steps)
		eventually(t, "what was sent is handled", func() bool { return count() == sent })
	}
	for range r.Leaves {
		members[0].cancel()
		send(r.Records / steps) // while it leaves
		<-members[0].ended
		members = members[1:]
		eventually(t, "what was sent is handled", func() bool { return count() == sent })
	}
	for range r.Kills {
		members[0].way.cut(true)
		defer func(m *member) { m.cancel(); <-m.ended }(members[0])
		send(r.Records / steps)
		members = members[1:]
		eventually(t, "what was sent is handled", func() bool { return count() == sent })
	}
	for _, m := range members {
		m.cancel()
		<-m.ended
	}
	mu.Lock()
	defer mu.Unlock()
	r.judge(t, sent, seen)
}

// exactlyOnce has a server and a processor that are processes of their own, to be killed.
func exactlyOnce(t *testing.T, _ *rustmqtest.Server, r run) {
	// An address of its own: on another's a port may be taken while the server is away.
	dir, host := t.TempDir(), fmt.Sprintf("127.%d.%d.1", 201+rand.IntN(50), rand.IntN(250))
	server := begin(t, "server", dir+","+host)
	client, err := rustmq.New(rustmq.WithBrokers(server.first))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fill(t, client, "in", r.Partitions, r.Records, r.Records)
	topic(t, client, rustmq.Topic{Name: "out", Partitions: r.Partitions})
	out := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{"out"}})
	seen, total := map[int]int{}, 0
	read := func(until int) {
		t.Helper()
		for total < until {
			got, err := out.Poll(within(t, 2*moments))
			if err != nil {
				t.Fatalf("after %d records: %v", total, err)
			}
			for _, m := range got {
				seen[m.Value]++
				total++
			}
		}
	}
	processor := begin(t, "processor", server.first)
	steps := r.Kills + r.ServerKills + 1
	for i := range r.Kills + r.ServerKills {
		read((i + 1) * r.Records / steps)
		if i < r.Kills {
			processor.kill()
			processor = begin(t, "processor", server.first)
			continue
		}
		server.kill()
		server = begin(t, "server", dir+","+host)
	}
	read(r.Records)
	processor.kill()
	r.judge(t, r.Records, seen)
	// Nothing comes behind it: the end of what is committed was read.
	if got, err := out.Poll(within(t, time.Second)); err == nil {
		t.Errorf("%d records too many", len(got))
	}
}

func size(t *testing.T, server *rustmqtest.Server, r run) {
	client, name := server.Client(t, rustmq.WithMaxRecordBytes(int32(r.ValueBytes)+64<<10), rustmq.WithCompression(rustmq.Uncompressed)), fresh(t)
	topic(t, client, rustmq.Topic{Name: name, Partitions: 1, Config: map[string]string{"max.message.bytes": fmt.Sprint(r.TopicMaxBytes)}})
	value := bytes.Repeat([]byte("0123456789abcdef"), r.ValueBytes/16)
	err := client.ProduceSync(within(t, moments), &rustmq.Record{Topic: name, Value: value}).Err()
	if r.Expect.Outcome == "refused" {
		if !errors.Is(err, kerr.MessageTooLarge) && !errors.Is(err, kerr.RecordListTooLarge) || rustmq.IsRetriable(err) != *r.Expect.Retriable {
			t.Fatalf("%v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := rustmq.NewConsumer(client, rustmq.Raw(), rustmq.ConsumerOptions{Topics: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Poll(within(t, moments))
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Value, value) {
		t.Fatalf("%d messages, %v", len(got), err)
	}
}

// cancelled cuts the way to the broker, so that the call has to wait.
func cancelled(t *testing.T, server *rustmqtest.Server, r run) {
	way := faults{quiet: true}
	name := fresh(t)
	client := server.Client(t, way.option(), rustmq.WithBufferedBytes(10_000), rustmq.WithTransactionalID(name, 0))
	topic(t, client, rustmq.Topic{Name: name, Partitions: 1})
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{name}, Group: name})
	ctx := within(t, moments)
	send := func(ctx context.Context) error {
		return client.ProduceSync(ctx, &rustmq.Record{Topic: name, Value: []byte("1")}).Err()
	}
	if err := send(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Poll(ctx); err != nil || len(got) != 1 { // what comes next has to wait
		t.Fatalf("%d messages, %v", len(got), err)
	}
	calls := map[string]func(context.Context) error{
		"ping":    client.Ping,
		"produce": send,
		"produce-full": func(ctx context.Context) error {
			for range 3 {
				client.Produce(ctx, &rustmq.Record{Topic: name, Value: make([]byte, 4000)}, nil)
			}
			return ctx.Err()
		},
		"flush": func(ctx context.Context) error {
			client.Produce(ctx, &rustmq.Record{Topic: name, Value: []byte("2")}, nil)
			return client.Flush(ctx)
		},
		"poll": func(ctx context.Context) error { _, err := c.Poll(ctx); return err },
		"run": func(ctx context.Context) error {
			if err := c.Run(ctx, func(context.Context, *rustmq.Message[int]) error { return nil }); err != nil {
				return err
			}
			return ctx.Err()
		},
		"transaction": func(ctx context.Context) error {
			return client.Transact(ctx, func(tx *rustmq.Tx) error {
				return tx.ProduceSync(ctx, &rustmq.Record{Topic: name, Value: []byte("3")}).Err()
			})
		},
		"admin": func(ctx context.Context) error { _, err := client.Admin().Topics(ctx); return err },
	}
	call := calls[r.At]
	if call == nil {
		t.Fatalf("at %q is not known here", r.At)
	}
	before := way.dials.Load()
	way.cut(true)
	waiting, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- call(waiting) }()
	eventually(t, "the call waits for a broker", func() bool { return way.dials.Load() > before })
	cancel()
	if r.At == "transaction" {
		way.cut(false) // it is aborted, of which the broker is told
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-ctx.Done():
		t.Fatal("the call goes on")
	}
	way.cut(false)
	if r.Expect.Usable {
		eventually(t, "the client works", func() bool { return send(ctx) == nil })
		if got, err := c.Poll(ctx); err != nil || len(got) == 0 {
			t.Errorf("%d messages, %v", len(got), err)
		}
	}
}

func slow(t *testing.T, server *rustmqtest.Server, r run) {
	client, name := server.Client(t), fresh(t)
	fill(t, client, name, 1, r.Records, r.Records)
	ctx, cancel := context.WithCancel(within(t, 2*moments))
	defer cancel()
	c := consumer(t, client, rustmq.ConsumerOptions{Topics: []string{name}, Group: name, Classic: r.Protocol == "classic", SessionTimeout: time.Duration(r.SessionMs) * time.Millisecond})
	_, began := c.Kafka().GroupMetadata()
	seen := map[int]int{}
	if err := c.Run(ctx, func(ctx context.Context, m *rustmq.Message[int]) error {
		if _, is := c.Kafka().GroupMetadata(); len(seen) == 0 {
			began = is
		} else if r.Expect.Rejoins != nil && *r.Expect.Rejoins != int(is-began) {
			t.Errorf("the group has gone from generation %d to %d", began, is)
		}
		select {
		case <-time.After(time.Duration(r.HandleMs) * time.Millisecond):
		case <-ctx.Done():
		}
		if seen[m.Value]++; len(seen) == r.Records {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.judge(t, r.Records, seen)
}
