package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/storage/guard"
)

// refreshWait is how long a token waits for the keys of its issuer to be read anew.
const refreshWait = 3 * time.Second

// Errors, beside those of package sasl, of which a client is told no more than
// [sasl.ErrDenied].
var (
	// ErrUnsupported: the mechanism is not offered on that connection.
	ErrUnsupported = errors.New("the mechanism is not offered")
	// ErrState: the message is not due.
	ErrState = errors.New("the message is not due")
	// ErrSlowed: the client has failed too often lately. It is told nothing, and its
	// connection ends: clients try that again, after a while.
	ErrSlowed = errors.New("too many failures lately")
)

// Options of a Table.
type Options struct {
	Mechanisms *sasl.Mechanisms
	// MaxSession is how long a client may go on until it authenticates again; 0: as long
	// as its connection, or its token, lasts.
	MaxSession time.Duration
	// Refresh has the keys of tokens read anew, and reports whether they were; nil: they
	// are as they are.
	Refresh func(context.Context) bool
	Brake   sasl.BrakeLimits
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
}

// Client is the connection of a client.
type Client struct {
	Connection uint64
	Address    string // what connections of one client have in common
	Encrypted  bool
}

// Result is what a message of a client comes to.
type Result struct {
	Answer []byte // for the client
	Done   bool   // it is Principal
	// Principal is in Kafka's form, "User:alice".
	Principal string
	// Ends is when it has to authenticate again, in Lifetime; zero: never.
	Ends     time.Time
	Lifetime time.Duration
	// Refused is why the client will be refused, which its next message ends: a client is
	// told of a token that is not good before it is denied. Nil: nothing is known yet.
	Refused error
	// Told: that it is refused was said of the message before.
	Told bool
}

// Table is the logins of a broker.
type Table struct {
	o       Options
	salting chan struct{} // holds a token for each password that is being salted
	counts  *prometheus.CounterVec

	mu     sync.Mutex
	logins map[uint64]*login // by connection; guarded by mu
	brake  *sasl.Brake       // guarded by mu
}

// login is what is known of a connection.
type login struct {
	mechanism string
	user      string        // empty: it has not authenticated yet
	exchange  sasl.Exchange // nil: none is under way
}

// Results that attempts are counted by.
const (
	succeeded = "succeeded"
	failed    = "failed"
	slowed    = "slowed"
)

// New returns a table without logins.
func New(o Options) *Table {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Table{
		o: o, logins: map[uint64]*login{}, brake: sasl.NewBrake(o.Brake),
		salting: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		counts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "rustmq", Subsystem: "broker", Name: "authentications_total",
			Help: "Authentications of clients by SASL: those that succeeded, failed, or were not judged for there were too many failures lately.",
		}, []string{"mechanism", "result"}),
	}
	for _, mechanism := range o.Mechanisms.Enabled {
		for _, result := range []string{succeeded, failed, slowed} {
			t.counts.WithLabelValues(mechanism, result)
		}
	}
	return t
}

// Metrics counts authentications.
func (t *Table) Metrics() prometheus.Collector { return t.counts }

// Offered are the mechanisms that a client can use.
func (t *Table) Offered(c Client) []string { return t.o.Mechanisms.Offered(c.Encrypted) }

// Handshake begins an exchange. Errors: ErrUnsupported, after which a client may try
// another mechanism, ErrState, and sasl.ErrDenied.
func (t *Table) Handshake(c Client, mechanism string) error {
	exchange, offered := t.o.Mechanisms.Begin(mechanism, c.Encrypted)
	if !offered {
		return fmt.Errorf("%.64q: %w", mechanism, ErrUnsupported)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.logins[c.Connection]
	switch {
	case l == nil:
		l = &login{}
		t.logins[c.Connection] = l
	case l.exchange != nil:
		return fmt.Errorf("a handshake within an exchange: %w", ErrState)
	case !guard.Check("login.same-mechanism", l.user == "" || l.mechanism == mechanism):
		return &sasl.Denial{Reason: fmt.Sprintf("it authenticates again by %s, and was by %s", mechanism, l.mechanism), User: l.user}
	}
	l.mechanism, l.exchange = mechanism, exchange
	return nil
}

// Authenticate takes the next message of a client's exchange. ctx ends with the
// connection. Errors: ErrState, ErrSlowed, sasl.ErrDenied, or that of ctx; the exchange
// has ended then.
func (t *Table) Authenticate(ctx context.Context, c Client, message []byte) (Result, error) {
	t.mu.Lock()
	l := t.logins[c.Connection]
	var x sasl.Exchange
	if l != nil {
		x, l.exchange = l.exchange, nil
	}
	t.mu.Unlock()
	if x == nil {
		return Result{}, fmt.Errorf("no handshake came before: %w", ErrState)
	}
	user, judges := x.Judges(message)
	if judges && !t.begin(c, user) {
		t.count(l.mechanism, slowed)
		return Result{}, fmt.Errorf("%s as %.64q: %w", l.mechanism, user, ErrSlowed)
	}
	told := sasl.Refused(x) != nil
	out, x, err := t.step(ctx, t.o.Mechanisms, l.mechanism, c, x, message)
	if err == nil && out.Done && !guard.Check("login.same-user", l.user == "" || l.user == out.User) {
		err = &sasl.Denial{Reason: fmt.Sprintf("it authenticates again as %q, and was %q", out.User, l.user), User: out.User}
	}
	if err != nil {
		t.count(l.mechanism, failed)
		if d, is := errors.AsType[*sasl.Denial](err); is && d.User != "" {
			return Result{Told: told}, fmt.Errorf("%s as %q: %w", l.mechanism, d.User, err)
		}
		return Result{Told: told}, fmt.Errorf("%s: %w", l.mechanism, err)
	}
	if !out.Done {
		t.mu.Lock()
		l.exchange = x
		t.mu.Unlock()
		return Result{Answer: out.Answer, Refused: sasl.Refused(x)}, nil
	}
	t.count(l.mechanism, succeeded)
	now := t.o.Now()
	t.mu.Lock()
	l.user = out.User
	if judges {
		t.brake.Succeeded(now, c.Address, user)
	}
	t.mu.Unlock()
	return t.result(now, out), nil
}

// begin takes what an attempt uses if it fails.
func (t *Table) begin(c Client, user string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.brake.Begin(t.o.Now(), c.Address, user)
}

// step has the exchange take a message. A token whose key is not known gets another
// chance, with another exchange, once the keys are read anew.
func (t *Table) step(ctx context.Context, m *sasl.Mechanisms, mechanism string, c Client, x sasl.Exchange, message []byte) (sasl.Outcome, sasl.Exchange, error) {
	if mechanism == sasl.Plain {
		select {
		case t.salting <- struct{}{}:
			defer func() { <-t.salting }()
		case <-ctx.Done():
			return sasl.Outcome{}, x, ctx.Err()
		}
	}
	out, err := x.Step(t.o.Now(), message)
	if d, is := errors.AsType[*sasl.Denial](sasl.Refused(x)); err == nil && is && d.UnknownKey && t.refreshed(ctx) {
		if again, offered := m.Begin(mechanism, c.Encrypted); offered {
			x = again
			out, err = x.Step(t.o.Now(), message)
		}
	}
	return out, x, err
}

func (t *Table) refreshed(ctx context.Context) bool {
	if t.o.Refresh == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	return t.o.Refresh(ctx)
}

// result is that of a client who is known now.
func (t *Table) result(now time.Time, out sasl.Outcome) Result {
	r := Result{Answer: out.Answer, Done: true, Principal: "User:" + out.User}
	if t.o.MaxSession > 0 {
		r.Ends = now.Add(t.o.MaxSession)
	}
	if !out.Expires.IsZero() && (r.Ends.IsZero() || out.Expires.Before(r.Ends)) {
		r.Ends = out.Expires
	}
	if !r.Ends.IsZero() {
		r.Lifetime = max(r.Ends.Sub(now), time.Millisecond)
	}
	return r
}

func (t *Table) count(mechanism, result string) { t.counts.WithLabelValues(mechanism, result).Inc() }

// Closed forgets a connection.
func (t *Table) Closed(connection uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.logins, connection)
}

// Open is how many connections are known of.
func (t *Table) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.logins)
}
