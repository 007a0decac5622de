package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
)

// told is what a follower sent, a word each.
func told(next int64, what any) string {
	switch is := what.(type) {
	case AuditEvent:
		return fmt.Sprintf("%s@%d", is.Resource, next)
	case AuditPosition:
		return fmt.Sprintf("at %d", is.Next)
	case AuditTrouble:
		return is.Detail
	}
	return fmt.Sprintf("%T", what)
}

// growing is an audit log that grows while it is read.
type growing struct {
	mu sync.Mutex
	*auditTopic
	said []string // by who follows
}

func (g *growing) ReadAudit(ctx context.Context, from int64) (broker.AuditPage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.auditTopic.ReadAudit(ctx, from)
}

func (g *growing) tell(next int64, what any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said = append(g.said, told(next, what))
	return nil
}

// change does something, and returns what was said before.
func (g *growing) change(do func(*auditTopic)) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	said := strings.Join(g.said, " ")
	g.said = nil
	do(g.auditTopic)
	return said
}

// Who follows the audit log is told of what is wanted, once, as it comes; from where it is
// asked, and else from the end on.
func TestAuditIsFollowed(t *testing.T) {
	for _, c := range []struct {
		what   string
		next   int64
		filter audit.Filter
		want   string
	}{
		{"from now on", -1, audit.Filter{}, "at 21; t1@22"},
		{"from an offset on", 18, audit.Filter{}, "t17@19 t18@20 t19@21; t1@22"},
		{"what is wanted", 0, audit.Filter{Principal: "bob"}, "t0@2 at 7 t10@12 at 14 at 21; at 22"},
		{"from behind the end", 1000, audit.Filter{}, "at 21; t1@22"},
	} {
		synctest.Test(t, func(t *testing.T) {
			topic := &growing{auditTopic: auditOf(t, 20)}
			more := auditOf(t, 2).records[2] // an event, t1
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				f := auditFollower{log: topic, filter: c.filter, next: c.next}
				ended <- f.follow(ctx, topic.tell)
			}()
			time.Sleep(3*auditPace + auditPoll/2) // of the bubble's clock: all that is there was looked at
			before := topic.change(func(is *auditTopic) { is.records = append(is.records, more) })
			time.Sleep(2 * auditPoll)
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", c.what, err)
			}
			after := topic.change(func(*auditTopic) {})
			if got := before + "; " + after; got != c.want {
				t.Errorf("%s: %q, want %q", c.what, got, c.want)
			}
		})
	}
}

// That the log cannot be read is told once, and what is written meanwhile comes when it can.
func TestAFollowerWaitsForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := &growing{auditTopic: auditOf(t, 3)}
		topic.err = errors.New("broker 2 is away")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			f := auditFollower{log: topic, next: 2}
			ended <- f.follow(ctx, topic.tell)
		}()
		time.Sleep(10 * auditPoll)
		before := topic.change(func(is *auditTopic) { is.err = nil })
		time.Sleep(2 * auditPoll)
		cancel()
		<-ended
		if got := before + "; " + topic.change(func(*auditTopic) {}); got != "broker 2 is away; t1@3 t2@4" {
			t.Errorf("%q", got)
		}
	})
}

// A follower ends with who takes what it sends.
func TestAFollowerEndsWithItsReader(t *testing.T) {
	gone := errors.New("the page is closed")
	f := auditFollower{log: auditOf(t, 3)}
	n := 0
	err := f.follow(t.Context(), func(int64, any) error { n++; return gone })
	if !errors.Is(err, gone) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
}

// The audit log is streamed to who may read it, from where the reader has come to, and no longer
// than it may.
func TestAuditIsStreamed(t *testing.T) {
	topic := &growing{auditTopic: auditOf(t, 3)} // 0 begins, 1 to 3 are events
	r := newReading(t, func(o *Options) { o.AuditLog = topic })
	alice := r.token("t", "alice", true, time.Time{})
	const path = auditPath + "/stream"
	if answer := r.get(http.DefaultClient, path, alice); answer.StatusCode != http.StatusForbidden {
		t.Errorf("without a rule: %d", answer.StatusCode)
	}
	if answer := r.get(http.DefaultClient, path, ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("nobody: %d", answer.StatusCode)
	}
	r.allow("alice", acl.Read, acl.Topic, broker.AuditTopic)
	if answer := r.get(http.DefaultClient, path+"?outcome=perhaps", alice); answer.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a filter that is none: %d", answer.StatusCode)
	}
	next := func(from *reader) string {
		t.Helper()
		event, data, _ := from.next()
		var is struct {
			Resource string
			Next     int64
		}
		if err := json.Unmarshal(data, &is); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return fmt.Sprintf("%s %s%d", event, is.Resource, is.Next)
	}
	s := r.open(path+"?after=0&principal=alice", alice)
	for _, want := range []string{"audit t10", "audit t20"} {
		if got := next(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// Who connects again says what it has had.
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path+"?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+alice)
	q.Header.Set("Last-Event-ID", "3")
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	again := newReader(t, answer.Body)
	if got := next(again); got != "audit t20" {
		t.Errorf("behind the event before: %q", got)
	}
	_ = answer.Body.Close()
	rule := acl.Rule{Resource: acl.Topic, Pattern: acl.Literal, Name: broker.AuditTopic, Principal: "User:alice", Host: "*", Operation: acl.Read, Permission: acl.Allow}
	if err := r.c.AlterACLs(t.Context(), []controller.ACLChange{{Rule: rule, Delete: true}})[0]; err != nil {
		t.Fatal(err)
	}
	if why := s.ends(); why.Again || !strings.Contains(why.Reason, "may not read topic."+broker.AuditTopic) {
		t.Errorf("%+v", why)
	}
}
