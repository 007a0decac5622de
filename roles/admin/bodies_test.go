package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/audit"
)

// Who sends a body slowly takes no place among those that are served, and is cut off; so is
// whoever sends a head without an end.
func TestSlowAndEndlessRequestsAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Metrics: prometheus.NewRegistry(), Ready: func() error { return nil }, Healthy: func() error { return nil }, Cluster: struct{ Cluster }{}})
		l := listenPipes()
		go func() { _ = s.Serve(l) }() // ends with the listener
		began := time.Now()
		var slow []net.Conn
		for range maxRequests + 4 {
			c := l.dial()
			if _, err := io.WriteString(c, "POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, c)
		}
		synctest.Wait()
		c := l.dial()
		go func() {
			_, _ = io.WriteString(c, "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		}()
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("beside slow bodies: %v, %v", resp, err)
		}
		_ = c.Close()
		for _, c := range slow {
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took < requestTimeout || took > requestTimeout+time.Minute {
			t.Errorf("they were cut off after %v", took)
		}
		bomb := l.dial()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, err := io.WriteString(bomb, "GET / HTTP/1.1\r\nHost: localhost\r\n")
			for n := 0; n < 100 && err == nil; n++ {
				_, err = io.WriteString(bomb, "X-A: "+strings.Repeat("a", 1000)+"\r\n")
			}
		}()
		if resp, err := http.ReadResponse(bufio.NewReader(bomb), nil); err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a head of 100 KiB: %v, %v", resp, err)
		}
		_ = bomb.Close()
		<-sent
		if err := s.http.Close(); err != nil {
			t.Error(err)
		}
		s.stop()
		time.Sleep(time.Second) // net/http lingers over a head that is too large
	})
}

// longCheck takes longer than a body may take to come.
type longCheck struct{ noBucket }

func (longCheck) Check(ctx context.Context, _ controller.CheckRequest) (*controller.CheckReport, error) {
	select {
	case <-time.After(5 * time.Minute):
		return &controller.CheckReport{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// What takes minutes is not ended by the time in which a request has to come.
func TestALongCallIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Metrics: prometheus.NewRegistry(), Ready: func() error { return nil }, Healthy: func() error { return nil }, Cluster: struct{ Cluster }{}, Bucket: longCheck{}})
		l := listenPipes()
		go func() { _ = s.Serve(l) }() // ends with the listener
		c := l.dial()
		go func() {
			_, _ = io.WriteString(c, "POST /api/v1/storage/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%v, %v", resp, err)
		}
		_ = c.Close()
		if err := s.http.Close(); err != nil {
			t.Error(err)
		}
		s.stop()
	})
}

// What a stranger sends is small, and large bodies are few at once, whoever sends them.
func TestBodiesThatComeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under, end := make(chan struct{}, 100), make(chan struct{})
		h := takeBodies(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if n, err := io.Copy(io.Discard, r.Body); err != nil || n != r.ContentLength && r.ContentLength >= 0 {
				t.Errorf("%d bytes of %d: %v", n, r.ContentLength, err)
			}
			under <- struct{}{}
			<-end
		}))
		send := func(path string, size int, chunked bool) int {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(strings.Repeat("x", size)))
			if chunked {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for _, chunked := range []bool{false, true} {
			if code := send(sessionPath, maxLoginBytes+1, chunked); code != http.StatusRequestEntityTooLarge {
				t.Errorf("a login of many bytes: %d", code)
			}
			if code := send("/api/v1/acls", maxBodyBytes+1, chunked); code != http.StatusRequestEntityTooLarge {
				t.Errorf("more than the most: %d", code)
			}
		}
		looking := httptest.NewRequest(http.MethodGet, eventsPath, strings.NewReader(strings.Repeat("x", smallBodyBytes)))
		for _, looking.ContentLength = range []int64{smallBodyBytes, -1} {
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, looking); w.Code != http.StatusRequestEntityTooLarge {
				t.Errorf("a body of what only looks: %d", w.Code)
			}
		}
		var all sync.WaitGroup
		for range maxLargeBodies {
			all.Go(func() { send("/api/v1/acls", maxBodyBytes, false) })
		}
		synctest.Wait()
		if len(under) != maxLargeBodies {
			t.Errorf("%d are served", len(under))
		}
		all.Go(func() {
			if code := send("/api/v1/acls", maxBodyBytes, true); code != http.StatusServiceUnavailable {
				t.Errorf("one more: %d", code)
			}
		})
		all.Go(func() { send("/api/v1/acls", smallBodyBytes-1, true) })
		synctest.Wait()
		if len(under) != maxLargeBodies+1 {
			t.Errorf("%d are served with a small one", len(under))
		}
		close(end)
		all.Wait()
	})
}

// recorded keeps events.
type recorded struct {
	events  []audit.Event
	refuses error
}

func (r *recorded) Record(e audit.Event) { r.events = append(r.events, e) }
func (r *recorded) Admit() error         { return r.refuses }

// take returns what was recorded since the last time, one line for each.
func (r *recorded) take() string {
	var lines []string
	for _, e := range r.events {
		lines = append(lines, fmt.Sprintf("%s %s %s %s/%s %s", e.Principal, e.Action, e.Outcome, e.ResourceType, e.Resource, e.Source))
	}
	r.events = nil
	return strings.Join(lines, "; ")
}

// Whatever changes something is recorded, and whatever is refused, with who asked and without
// what proved it. Where nothing can be recorded nothing is changed.
func TestCallsAreAudited(t *testing.T) {
	r := &recorded{}
	a := newAsking(t, func(o *Options) { o.Audit = r })
	a.user("alice", "open sesame")
	root := []string{"Authorization", "Bearer " + a.local, requestID, "r-1"}
	alice := []string{"Authorization", basic("alice", "open sesame")}
	for _, c := range []struct {
		method, path, body string
		as                 []string
		want               string
	}{
		{http.MethodPost, "/api/v1/topics", `{"name":"made"}`, root, "Local:admin login allowed / 10.0.0.9:1234; Local:admin topic.create allowed topic/made 10.0.0.9:1234"},
		{http.MethodPost, "/api/v1/topics", `{"name":"made"}`, root, "Local:admin login allowed / 10.0.0.9:1234; Local:admin topic.create failed topic/made 10.0.0.9:1234"},
		{http.MethodDelete, "/api/v1/topics/made", "", alice, "User:alice login allowed / 10.0.0.9:1234; User:alice topic.delete denied topic/made 10.0.0.9:1234"},
		{http.MethodGet, brokersPath, "", alice, "User:alice login allowed / 10.0.0.9:1234; User:alice cluster.describe denied cluster/kafka-cluster 10.0.0.9:1234"},
		{http.MethodGet, "/api/v1/topics", "", alice, "User:alice login allowed / 10.0.0.9:1234"},
		{http.MethodGet, "/api/v1/topics", "", nil, " login denied path//api/v1/topics 10.0.0.9:1234"},
		{http.MethodGet, "/api/v1/topics", "", []string{"Authorization", basic("alice", "a wrong one")}, " login denied path//api/v1/topics 10.0.0.9:1234"},
		{http.MethodPost, "/api/v1/users", `{"name":"bob","password":"a secret one"}`, root, "Local:admin login allowed / 10.0.0.9:1234; Local:admin user.create allowed user/bob 10.0.0.9:1234"},
		{http.MethodDelete, "/api/v1/users/bob", "", root, "Local:admin login allowed / 10.0.0.9:1234; Local:admin user.delete allowed user/bob 10.0.0.9:1234"},
		{http.MethodPost, sessionPath, `{"user":"alice","password":"a wrong one"}`, nil, " login denied path//api/v1/session 10.0.0.9:1234; User:ANONYMOUS session.begin denied session/alice 10.0.0.9:1234"},
		{http.MethodPost, sessionPath, `{"user":"alice","password":"open sesame"}`, nil, "User:alice login allowed / 10.0.0.9:1234; User:alice session.begin allowed session/alice 10.0.0.9:1234"},
	} {
		a.do(c.method, c.path, c.body, c.as...)
		for _, e := range r.events {
			if said := fmt.Sprintf("%+v", e); strings.Contains(said, "open sesame") || strings.Contains(said, "secret one") || strings.Contains(said, "a wrong one") || strings.Contains(said, a.local) {
				t.Errorf("a secret is recorded: %s", said)
			}
			if e.Door != audit.DoorREST || len(c.as) > 2 && e.Request != "r-1" {
				t.Errorf("%+v", e)
			}
		}
		if got := r.take(); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, got, c.want)
		}
	}
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/api/v1/acls", `{"acls":[{"principal":"User:bob","host":"*","resource_type":"topic","pattern":"prefixed","name":"bills","operation":"read","permission":"allow"},{"principal":"User:bob","host":"10.0.0.0/8","resource_type":"cluster","pattern":"literal","name":"kafka-cluster","operation":"describe","permission":"deny"}]}`,
			"acl.create topic bills: allow User:bob read from * (prefixed); acl.create cluster kafka-cluster: deny User:bob describe from 10.0.0.0/8 (literal)"},
		{http.MethodDelete, "/api/v1/acls?principal=User:bob&resource_type=topic", "", "acl.delete topic bills: allow User:bob read from * (prefixed)"},
		{http.MethodDelete, "/api/v1/acls?principal=User:carol", "", "acl.delete acl kafka-cluster: no rule is so"},
		{http.MethodPost, "/api/v1/acls/check", `{"principal":"bob","resource_type":"topic","name":"bills","operation":"read"}`, ""},
		{http.MethodPost, "/api/v1/topics", `{"name":"asked","dry_run":true}`, ""},
		{http.MethodPatch, "/api/v1/topics/made", `{"set":{"retention.ms":"1000"},"delete":["retention.bytes"]}`, "topic.alter-configs topic made: set retention.ms, delete retention.bytes"},
		{http.MethodPost, "/api/v1/topics/made/partitions", `{"total":3}`, "topic.create-partitions topic made: partitions=3"},
		{http.MethodPatch, "/api/v1/quotas", `{"user":"bob","default_client_id":true,"set":{"producer_byte_rate":1024},"delete":["consumer_byte_rate"]}`, "quota.alter quota client-id=<default>,user=bob: producer_byte_rate=1024, remove consumer_byte_rate"},
		{http.MethodPost, "/api/v1/brokers/1/drain", `{"draining":false}`, "broker.drain broker 1: undrained"},
		{http.MethodPost, "/api/v1/cluster/rebalance", `{"dry_run":true}`, ""},
		{http.MethodPost, "/api/v1/storage/check", `{"repair":true}`, "storage.check storage kafka-cluster: orphans are deleted"},
		{http.MethodPost, "/api/v1/groups/g/reset-offsets", `{"to":"earliest","all_topics":true}`, ""},
		{http.MethodPost, tokensPath, `{"name":"ci","principal":"User:bob","read_only":true}`, "token.create token ci: for User:bob read-only, expires never"},
		{http.MethodPost, tokensPath, `{"name":"ci","principal":"User:bob"}`, "token.create token ci: for User:bob, expires never"},
	} {
		a.do(c.method, c.path, c.body, root...)
		var told []string
		for _, e := range r.events {
			if e.Action != audit.Login {
				told = append(told, fmt.Sprintf("%s %s %s: %s", e.Action, e.ResourceType, e.Resource, e.Detail))
			} else if e.Detail != "by the token of the data directory" {
				t.Errorf("%+v", e)
			}
		}
		r.events = nil
		if got := strings.Join(told, "; "); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, got, c.want)
		}
	}
	a.do(http.MethodGet, brokersPath, "")
	if e := r.events[0]; e.Reason != errUnsaid.Error() {
		t.Errorf("a call that does not say who calls: %+v", e)
	}
	r.refuses = fmt.Errorf("the disk is full")
	a.want("where nothing can be recorded", http.StatusServiceUnavailable, a.do(http.MethodDelete, "/api/v1/topics/made", "", root...), "the disk is full")
	if _, there := a.c.Image().Topic("made"); !there {
		t.Error("it is done")
	}
}
