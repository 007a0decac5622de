package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/audit"
)

// auditTopic is an audit log in memory, read in pages of seven, that a Log writes to.
type auditTopic struct {
	start   int64
	records [][]byte
	heads   []audit.Head
	err     error
}

func (a *auditTopic) Append(_ context.Context, records [][]byte) (int64, error) {
	first := a.start + int64(len(a.records))
	a.records = append(a.records, records...)
	return first, nil
}

func (a *auditTopic) ReadAudit(_ context.Context, from int64) (broker.AuditPage, error) {
	end := a.start + int64(len(a.records))
	page := broker.AuditPage{Start: a.start, End: end, Next: max(from, a.start)}
	for len(page.Records) < 7 && page.Next < end {
		page.Records = append(page.Records, broker.AuditRecord{Offset: page.Next, Value: a.records[page.Next-a.start]})
		page.Next++
	}
	return page, a.err
}

func (a *auditTopic) AuditHeads(context.Context) ([]audit.Head, []int32) { return a.heads, []int32{7} }

// auditOf has a log of n events, one a minute, of which each tenth is a denial of bob's.
func auditOf(t *testing.T, n int) *auditTopic {
	t.Helper()
	topic := &auditTopic{}
	l := audit.New(audit.Options{Node: 1, Policy: audit.NewPolicy(audit.ClassAdmin, audit.ClassDenied)})
	for i := range n {
		e := audit.Event{Time: noon.Add(time.Duration(i) * time.Minute), Principal: "User:alice", Action: "topic.create", ResourceType: "topic", Resource: fmt.Sprint("t", i), Outcome: audit.Allowed}
		if i%10 == 0 {
			e.Principal, e.Outcome = "User:bob", audit.Denied
		}
		l.Record(e)
	}
	l.Start(topic)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	head, _ := l.Head()
	topic.heads = []audit.Head{head}
	return topic
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func getAudit[P any](t *testing.T, a *auditTopic, path string, want int) (out P) {
	t.Helper()
	mux := http.NewServeMux()
	registerAPI(mux, Options{AuditLog: a}, nil, t.Context())
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/audit"+path, nil))
	if w.Code != want {
		t.Fatalf("%s: %d, %s", path, w.Code, w.Body)
	}
	if want == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestAuditIsListed(t *testing.T) {
	a := auditOf(t, 60)
	names := func(out AuditEvents) string {
		var all []string
		for _, e := range out.Events {
			all = append(all, e.Resource)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		query, want string
		more        bool
	}{
		{"?limit=3", "t57 t58 t59", true},
		{"?limit=3&outcome=denied", "t30 t40 t50", true},
		{"?principal=bob", "t0 t10 t20 t30 t40 t50", false},
		{"?principal=User:bob&since=2026-01-02T12:35:00Z", "t40 t50", false},
		{"?since=2026-01-02T12:05:00Z&until=2026-01-02T12:08:00Z", "t5 t6 t7", false},
		{"?resource=t5*&resource_type=topic&limit=2", "t58 t59", true},
		{"?action=acl.*", "", false},
		{"?after=11&limit=3", "t10 t11 t12", true},
		{"?after=59", "t58 t59", false},
		{"?after=61", "", false},
	} {
		out := getAudit[AuditEvents](t, a, c.query, http.StatusOK)
		if got := names(out); got != c.want || out.More != c.more || out.End != 61 {
			t.Errorf("%s: %q, more %v, want %q, %v", c.query, got, out.More, c.want, c.more)
		}
	}
	if out := getAudit[AuditEvents](t, a, "?after=11&limit=3", http.StatusOK); out.Next != 14 {
		t.Errorf("next is %d", out.Next)
	}
	for _, bad := range []string{"?limit=0", "?limit=10001", "?outcome=perhaps", "?since=now"} {
		getAudit[AuditEvents](t, a, bad, http.StatusUnprocessableEntity)
	}
	a.err = errors.New("away")
	getAudit[AuditEvents](t, a, "", http.StatusServiceUnavailable)
	if out := getAudit[AuditEvents](t, &auditTopic{}, "", http.StatusOK); len(out.Events) != 0 || out.More {
		t.Errorf("of nothing: %+v", out)
	}
}

// What was altered is shown, and marked.
func TestDamagedAuditIsShown(t *testing.T) {
	a := auditOf(t, 5)
	a.records[2] = []byte(strings.Replace(string(a.records[2]), "alice", "mallo", 1))
	a.records[4] = []byte("nothing")
	out := getAudit[AuditEvents](t, a, "", http.StatusOK)
	if len(out.Events) != 6 || out.Events[2].Damaged == "" || out.Events[4].Damaged == "" || out.Events[3].Damaged != "" {
		t.Errorf("%+v", out.Events)
	}
}

func TestAuditIsVerified(t *testing.T) {
	a := auditOf(t, 60)
	head := a.heads[0].Hash
	r := getAudit[AuditReport](t, a, "/verify?head="+head, http.StatusOK)
	if !r.Whole || r.Records != 61 || len(r.Unasked) != 1 || len(r.Heads) != 1 || r.Heads[0].Hash != head {
		t.Errorf("%+v", r)
	}
	a.start, a.records = 20, a.records[20:]
	if r := getAudit[AuditReport](t, a, "/verify", http.StatusOK); !r.Whole || !r.Cut || r.Start != 20 {
		t.Errorf("cut by retention: %+v", r)
	}
	a = auditOf(t, 60)
	a.records = a.records[:50]
	if r := getAudit[AuditReport](t, a, "/verify", http.StatusOK); r.Whole || r.Faults[0].Kind != audit.FaultTruncated {
		t.Errorf("cut at the end: %+v", r)
	}
	a = auditOf(t, 60)
	if r := getAudit[AuditReport](t, a, "/verify?head="+head, http.StatusOK); r.Whole || r.Faults[0].Kind != audit.FaultTruncated {
		t.Errorf("written anew: %+v", r)
	}
}

func TestMomentOf(t *testing.T) {
	for text, want := range map[string]time.Time{"2h": noon.Add(-2 * time.Hour), "7d": noon.AddDate(0, 0, -7), "2026-01-01T00:00:00Z": noon.Add(-36 * time.Hour), "0s": noon} {
		if got, err := momentOf(text, noon); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "yesterday", "-2h", "-1d", "1.5d", "99999999d"} {
		if got, err := momentOf(text, noon); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestLifetimesOfTokens(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "12h": 12 * time.Hour, "0": 0, "90m": 90 * time.Minute} {
		var l lifetime
		if err := l.Set(text); err != nil || time.Duration(l) != want {
			t.Errorf("%q: %v, %v", text, l.String(), err)
		}
		var again lifetime
		if err := again.Set(l.String()); err != nil || again != l {
			t.Errorf("%q is shown as %s, which is %v: %v", text, l.String(), again, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "30", "99999999d", "soon"} {
		if err := new(lifetime).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
