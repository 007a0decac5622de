package login_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"rustmq.dev/rustmq/roles/broker/login"
	"rustmq.dev/rustmq/security/sasl"
)

// mechanisms know alice and bob, by one password.
func mechanisms(t *testing.T) *sasl.Mechanisms {
	t.Helper()
	known, err := sasl.NewCredential(sasl.ScramSHA256, "open sesame", []byte("0123456789"), sasl.MinIterations)
	if err != nil {
		t.Fatal(err)
	}
	return &sasl.Mechanisms{
		Enabled: []string{sasl.ScramSHA256, sasl.ScramSHA512, sasl.Plain},
		Lookup: func(mechanism, user string) (sasl.Credential, bool) {
			return known, mechanism == sasl.ScramSHA256 && (user == "alice" || user == "bob")
		},
		FakeSecret: func() []byte { return []byte("a secret of sixteen bytes") },
	}
}

func client(connection uint64, address string) login.Client {
	return login.Client{Connection: connection, Address: address, Encrypted: true}
}

// plain logs in by PLAIN.
func plain(t *login.Table, c login.Client, user, password string) (login.Result, error) {
	if err := t.Handshake(c, sasl.Plain); err != nil {
		return login.Result{}, err
	}
	return t.Authenticate(context.Background(), c, []byte("\x00"+user+"\x00"+password))
}

// byScram logs in by SCRAM-SHA-256.
func byScram(t *testing.T, table *login.Table, c login.Client, user, password string) (login.Result, error) {
	t.Helper()
	session, message, err := scram.Auth{User: user, Pass: password}.AsSha256Mechanism().Authenticate(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Handshake(c, sasl.ScramSHA256); err != nil {
		return login.Result{}, err
	}
	for {
		r, err := table.Authenticate(t.Context(), c, message)
		if err != nil || r.Done {
			return r, err
		}
		if _, message, err = session.Challenge(r.Answer); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogin(t *testing.T) {
	table := login.New(login.Options{Mechanisms: mechanisms(t), MaxSession: time.Minute})
	for i, in := range []func(c login.Client) (login.Result, error){
		func(c login.Client) (login.Result, error) { return plain(table, c, "alice", "open sesame") },
		func(c login.Client) (login.Result, error) { return byScram(t, table, c, "alice", "open sesame") },
	} {
		c := client(uint64(i), "a")
		for range 2 { // and again
			r, err := in(c)
			if err != nil || !r.Done || r.Principal != "User:alice" || r.Lifetime != time.Minute || r.Ends.IsZero() {
				t.Errorf("%+v, %v", r, err)
			}
		}
		table.Closed(c.Connection)
	}
	if table.Open() != 0 {
		t.Errorf("%d connections are known still", table.Open())
	}
	// What is logged of a failure names the user, and no password.
	if _, err := plain(table, client(9, "a"), "alice", "a wrong one"); err == nil || !strings.Contains(err.Error(), `PLAIN as "alice"`) || strings.Contains(err.Error(), "a wrong one") {
		t.Error(err)
	}
	const want = `# HELP rustmq_broker_authentications_total Authentications of clients by SASL: those that succeeded, failed, or were not judged for there were too many failures lately.
# TYPE rustmq_broker_authentications_total counter
rustmq_broker_authentications_total{mechanism="PLAIN",result="failed"} 1
rustmq_broker_authentications_total{mechanism="PLAIN",result="slowed"} 0
rustmq_broker_authentications_total{mechanism="PLAIN",result="succeeded"} 2
rustmq_broker_authentications_total{mechanism="SCRAM-SHA-256",result="failed"} 0
rustmq_broker_authentications_total{mechanism="SCRAM-SHA-256",result="slowed"} 0
rustmq_broker_authentications_total{mechanism="SCRAM-SHA-256",result="succeeded"} 2
rustmq_broker_authentications_total{mechanism="SCRAM-SHA-512",result="failed"} 0
rustmq_broker_authentications_total{mechanism="SCRAM-SHA-512",result="slowed"} 0
rustmq_broker_authentications_total{mechanism="SCRAM-SHA-512",result="succeeded"} 0
`
	if err := testutil.CollectAndCompare(table.Metrics(), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// A client that authenticates again stays who it is, by the same mechanism.
func TestNobodyBecomesAnother(t *testing.T) {
	table := login.New(login.Options{Mechanisms: mechanisms(t)})
	c := client(1, "a")
	if r, err := plain(table, c, "alice", "open sesame"); err != nil || r.Lifetime != 0 {
		t.Fatal(r, err)
	}
	if r, err := plain(table, c, "bob", "open sesame"); !errors.Is(err, sasl.ErrDenied) || r.Principal != "" {
		t.Errorf("as bob: %+v, %v", r, err)
	}
	if _, err := byScram(t, table, c, "alice", "open sesame"); !errors.Is(err, sasl.ErrDenied) {
		t.Errorf("by another mechanism: %v", err)
	}
	if _, err := plain(table, c, "alice", "open sesame"); err != nil {
		t.Errorf("as herself: %v", err)
	}
}

func TestMessagesOutOfTurn(t *testing.T) {
	table := login.New(login.Options{Mechanisms: mechanisms(t)})
	c := client(1, "a")
	message := []byte("\x00alice\x00open sesame")
	if _, err := table.Authenticate(t.Context(), c, message); !errors.Is(err, login.ErrState) {
		t.Errorf("before a handshake: %v", err)
	}
	if err := table.Handshake(c, sasl.Plain); err != nil {
		t.Fatal(err)
	}
	if err := table.Handshake(c, sasl.Plain); !errors.Is(err, login.ErrState) {
		t.Errorf("a second handshake: %v", err)
	}
	if _, err := table.Authenticate(t.Context(), c, []byte("x")); !errors.Is(err, sasl.ErrDenied) {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := table.Authenticate(t.Context(), c, message); !errors.Is(err, login.ErrState) {
		t.Errorf("behind nonsense: %v", err)
	}
	if err := table.Handshake(c, "GSSAPI"); !errors.Is(err, login.ErrUnsupported) {
		t.Errorf("an unknown mechanism: %v", err)
	}
	clear := login.Client{Connection: 2, Address: "a"}
	if err := table.Handshake(clear, sasl.Plain); !errors.Is(err, login.ErrUnsupported) {
		t.Errorf("PLAIN in the clear: %v", err)
	}
}

// Who guesses is slowed down, by address and user; who knows the password is not, from
// elsewhere.
func TestGuessesAreSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := login.New(login.Options{Mechanisms: mechanisms(t), Brake: sasl.BrakeLimits{UserBurst: 3, UserEvery: time.Minute}})
		connection := uint64(0)
		try := func(address, password string) error {
			connection++
			_, err := byScram(t, table, client(connection, address), "alice", password)
			return err
		}
		for i := range 5 {
			want := sasl.ErrDenied
			if i >= 3 {
				want = login.ErrSlowed
			}
			if err := try("a", "wrong"); !errors.Is(err, want) {
				t.Errorf("guess %d: %v", i, err)
			}
		}
		if err := try("a", "open sesame"); !errors.Is(err, login.ErrSlowed) {
			t.Errorf("judged all the same: %v", err)
		}
		if err := try("b", "open sesame"); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
		time.Sleep(time.Minute)
		if err := try("a", "open sesame"); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}
