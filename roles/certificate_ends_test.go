package roles

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
)

// days notes on which days of the bubble something is logged.
type days struct {
	slog.Handler
	began time.Time
	of    []int
	lines []string
}

func (d *days) Enabled(context.Context, slog.Level) bool { return true }

func (d *days) Handle(_ context.Context, r slog.Record) error {
	d.of = append(d.of, int(time.Since(d.began)/(24*time.Hour)))
	d.lines = append(d.lines, r.Message)
	return nil
}

// A certificate is warned of 30 days before its end, on each of the last seven, and on
// every day after it; another in its place ends that, and a start says it at once.
func TestEndsOfCertificatesAreWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &days{began: time.Now()}
		end := d.began.Add(40*24*time.Hour + time.Hour)
		renewed := make(chan time.Time, 1)
		ends := func() []certificateEnd {
			select {
			case end = <-renewed:
			default:
			}
			return []certificateEnd{{"cluster", "node-1.pem", end}, {"cluster-ca", "ca.pem", d.began.AddDate(10, 0, 0)}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { watchCertificates(ctx, slog.New(d), ends); close(done) }()
		day := func(n int) {
			time.Sleep(time.Until(d.began.Add(time.Duration(n)*24*time.Hour + time.Minute)))
			synctest.Wait()
		}
		day(43)
		want := []int{10, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42}
		if len(d.of) != len(want) {
			t.Fatalf("it was warned of on days %v, want %v", d.of, want)
		}
		for i := range want {
			if d.of[i] != want[i] {
				t.Errorf("it was warned of on days %v, want %v", d.of, want)
				break
			}
		}
		if first, last := d.lines[0], d.lines[len(d.lines)-1]; !strings.Contains(first, "ends on "+end.UTC().Format(time.RFC3339)+", in 29 days") || !strings.Contains(last, "has ended") {
			t.Errorf("first %q, last %q", first, last)
		}
		renewed <- d.began.AddDate(1, 0, 0)
		day(200)
		if len(d.of) != len(want) {
			t.Errorf("another is in its place, and it was warned of on days %v", d.of[len(want):])
		}
		cancel()
		<-done
		late := &days{began: time.Now()}
		ctx, cancel = context.WithCancel(t.Context())
		done = make(chan struct{})
		go func() {
			watchCertificates(ctx, slog.New(late), func() []certificateEnd { return []certificateEnd{{"tls", "f", time.Now().Add(time.Hour)}} })
			close(done)
		}()
		synctest.Wait()
		cancel()
		<-done
		if len(late.of) != 1 {
			t.Errorf("at its start a node warned %d times", len(late.of))
		}
	})
}

// The authority counts too: what it has signed is not taken after its end.
func TestEndsOfTheClustersCertificatesAreExported(t *testing.T) {
	a := pkitest.New(t, "ca")
	soon := time.Now().Add(12*24*time.Hour + time.Minute).Truncate(time.Second)
	id := pki.Identity{Cluster: "prod", Node: 1, Roles: []string{pki.RoleBroker}}
	template := pkitest.Server(id, "127.0.0.1")
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), soon
	a.Sign("node-1", template)
	m, err := a.Load("node-1", id)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Ends().Own; !got.Equal(soon) {
		t.Errorf("it ends %v, by its keeper %v", soon, got)
	}
	n := &Node{config: configs.Default(), peers: &peers{secure: m}}
	n.config.Security.Cluster.CertFile, n.config.Security.Cluster.CAFile = "node-1.pem", "ca.pem"
	ends := n.certificateEnds()
	if len(ends) != 2 || !ends[0].notAfter.Equal(soon) || ends[1].notAfter.IsZero() {
		t.Fatalf("%+v", ends)
	}
	if w := n.certificateWarnings(); len(w) == 0 || !strings.Contains(w[0], "node-1.pem of this node ends on") || !strings.Contains(w[0], "in 12 days") {
		t.Errorf("%q", w)
	}
	if n := testutil.CollectAndCount(endsCollector(n.certificateEnds), "rustmq_certificate_not_after_seconds"); n != 2 {
		t.Errorf("%d metrics", n)
	}
	again := *template
	again.NotAfter = soon.AddDate(1, 0, 0)
	a.Sign("node-1", &again)
	if err := m.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := n.certificateEnds()[0].notAfter; !got.After(soon) {
		t.Errorf("loaded again, it ends %v", got)
	}
}
