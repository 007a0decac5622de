package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
)

// reading is a server whose streams are read over a connection, on loopback.
type reading struct {
	*asking
	url string
}

// newReading serves on loopback, with a pulse that a test can wait for.
func newReading(t *testing.T, change ...func(*Options)) *reading {
	t.Helper()
	c, _ := alone(t)
	a := askingOf(t, c, append([]func(*Options){func(o *Options) {
		o.TLS, o.Reachable, o.streamPulse = nil, false, pulse{check: 5 * time.Millisecond, beat: 20 * time.Millisecond, longest: time.Hour}
	}}, change...)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := a.s.Close(ctx); err != nil {
			t.Error(err)
		}
		<-served
	})
	return &reading{a, "http://" + l.Addr().String()}
}

// open reads a stream as who has a token; it fails where there is none.
func (r *reading) open(path, token string) *reader {
	r.t.Helper()
	answer := r.get(http.DefaultClient, path, token)
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/event-stream" || answer.Header.Get("Cache-Control") != "no-store" {
		text, _ := io.ReadAll(answer.Body)
		r.t.Fatalf("%s: %d %v %s", path, answer.StatusCode, answer.Header, text)
	}
	return newReader(r.t, answer.Body)
}

func (r *reading) get(by *http.Client, path, token string) *http.Response {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute) // streams that stay open for a whole test too
	r.t.Cleanup(cancel)
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := by.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// reader reads the events of a stream.
type reader struct {
	t    *testing.T
	body io.Closer
	text *bufio.Scanner
}

func newReader(t *testing.T, body io.ReadCloser) *reader {
	return &reader{t, body, bufio.NewScanner(body)}
}

// next returns the next event, and those of its lines that are comments.
func (r *reader) next() (event string, data json.RawMessage, comments int) {
	r.t.Helper()
	for r.text.Scan() {
		name, value, _ := strings.Cut(r.text.Text(), ": ")
		switch {
		case name == "event":
			event = value
		case name == "data":
			data = json.RawMessage(value)
		case strings.HasPrefix(r.text.Text(), ":"):
			comments++
		case name == "" && data != nil:
			return event, data, comments
		}
	}
	return "", nil, comments
}

// ends reads on until the stream ends, and returns what it says of that.
func (r *reader) ends() ended {
	r.t.Helper()
	for {
		event, data, _ := r.next()
		switch event {
		case "end":
			var why ended
			if err := json.Unmarshal(data, &why); err != nil {
				r.t.Fatal(err)
			}
			if event, _, _ := r.next(); event != "" {
				r.t.Errorf("a stream that has ended says %s", event)
			}
			return why
		case "":
			r.t.Fatal("the stream ends without a word")
		}
	}
}

// A stream lives: what there is to say is said at once, and where there is nothing a comment is.
func TestAStreamBeats(t *testing.T) {
	r := newReading(t)
	s := r.open(eventsPath, r.local)
	if event, data, _ := s.next(); event != "overview" || !json.Valid(data) {
		t.Fatalf("%q %s", event, data)
	}
	for comments := 0; comments == 0; {
		event, _, beats := s.next()
		if event == "" {
			t.Fatal("the stream ended")
		}
		comments += beats
	}
}

// What brokers made for themselves is told apart from what users have.
func TestTheOverviewCountsTopicsOfUsers(t *testing.T) {
	r := newReading(t)
	made := []controller.NewTopic{{Name: "__consumer_offsets", Partitions: 50, ReplicationFactor: 1, Internal: true}, {Name: "__not_ours", Partitions: 2, ReplicationFactor: 1}}
	for _, result := range r.c.CreateTopics(t.Context(), made, false) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	event, data, _ := r.open(eventsPath, r.local).next()
	var is Overview
	if err := json.Unmarshal(data, &is); err != nil {
		t.Fatalf("%s %s: %v", event, data, err)
	}
	if is.Topics != 3 || is.Partitions != 12+1+2 || is.Internal != 1 {
		t.Errorf("%d topics with %d partitions, and %d internal ones", is.Topics, is.Partitions, is.Internal)
	}
}

// Whatever let a stream begin, when it is not good any more, the stream ends, and who reads is
// told not to ask again.
func TestAStreamEndsWithWhatItBeganBy(t *testing.T) {
	for what, c := range map[string]struct {
		ends func(*reading)
		says string
	}{
		"the token is revoked": {func(r *reading) {
			if err := r.c.DeleteAPIToken(r.t.Context(), "t"); err != nil {
				r.t.Fatal(err)
			}
		}, "not good any more"},
		"the rights are taken back": {func(r *reading) {
			rule := acl.Rule{Resource: acl.Cluster, Pattern: acl.Literal, Name: acl.ClusterName, Principal: "User:alice", Host: "*", Operation: acl.Describe, Permission: acl.Allow}
			if err := r.c.AlterACLs(r.t.Context(), []controller.ACLChange{{Rule: rule, Delete: true}})[0]; err != nil {
				r.t.Fatal(err)
			}
		}, "may not describe cluster"},
		"the user is gone": {func(r *reading) {
			if err := r.c.AlterUsers(r.t.Context(), []metadata.UserChange{{User: "alice", Remove: []metadata.ScramMechanism{metadata.ScramSHA256}}})[0]; err != nil {
				r.t.Fatal(err)
			}
		}, "not good any more"},
	} {
		t.Run(what, func(t *testing.T) {
			r := newReading(t)
			r.user("alice", "open sesame")
			r.allow("alice", acl.Describe, acl.Cluster, "")
			s := r.open(eventsPath, r.token("t", "alice", false, time.Time{}))
			s.next()
			c.ends(r)
			if why := s.ends(); why.Again || !strings.Contains(why.Reason, c.says) {
				t.Errorf("%+v", why)
			}
		})
	}
}

// A stream of a session ends with it, and does not keep it: who only listens is not there.
func TestAStreamEndsWithItsSession(t *testing.T) {
	r := newReading(t, func(o *Options) { o.Access.SessionIdle = 300 * time.Millisecond })
	r.user("alice", "open sesame")
	r.allow("alice", acl.Describe, acl.Cluster, "")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	var stream *http.Response
	for stream == nil || stream.StatusCode == http.StatusUnauthorized { // on a busy machine a session may be over before it is used
		begin, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+sessionPath, strings.NewReader(`{"user":"alice","password":"open sesame"}`))
		if err != nil {
			t.Fatal(err)
		}
		begin.Header.Set("Content-Type", "application/json")
		answer, err := browser.Do(begin)
		if err != nil || answer.StatusCode != http.StatusCreated {
			t.Fatal(err, answer)
		}
		_ = answer.Body.Close()
		stream = r.get(browser, eventsPath, "")
	}
	if stream.StatusCode != http.StatusOK {
		t.Fatal(stream.StatusCode)
	}
	if why := newReader(t, stream.Body).ends(); why.Again || !strings.Contains(why.Reason, "log in again") {
		t.Errorf("%+v", why)
	}
	if after := r.get(browser, sessionPath, ""); after.StatusCode != http.StatusUnauthorized {
		t.Errorf("after it ended unused, the session answers %d", after.StatusCode)
	}
}

// Of one that has gone on for long its reader asks again, which proves anew who it is.
func TestAStreamIsBounded(t *testing.T) {
	r := newReading(t, func(o *Options) { o.streamPulse.longest = 50 * time.Millisecond })
	if why := r.open(eventsPath, r.local).ends(); !why.Again {
		t.Errorf("%+v", why)
	}
}

// When the server closes, streams end at once, with a word.
func TestStreamsEndWithTheServer(t *testing.T) {
	r := newReading(t)
	s := r.open(eventsPath, r.local)
	s.next()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- r.s.Close(ctx) }()
	if why := s.ends(); !why.Again || !strings.Contains(why.Reason, "stops") {
		t.Errorf("%+v", why)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// There are so many streams, of one caller and in all; a reader that goes makes room. They hold
// no place of other calls.
func TestStreamsAreBounded(t *testing.T) {
	r := newReading(t)
	var own []*reader
	for range maxCallerStreams {
		own = append(own, r.open(eventsPath, r.local))
	}
	refused := r.get(http.DefaultClient, eventsPath, r.local)
	if refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") == "" {
		t.Errorf("one more of the caller: %d %v", refused.StatusCode, refused.Header)
	}
	if other := r.get(http.DefaultClient, brokersPath, r.local); other.StatusCode != http.StatusOK {
		t.Errorf("a call beside them: %d", other.StatusCode)
	}
	_ = own[0].body.Close()
	for { // the server sees it at its next beat
		again := r.get(http.DefaultClient, eventsPath, r.local)
		if again.StatusCode == http.StatusOK {
			break
		}
		_ = again.Body.Close()
	}
	for n := maxCallerStreams; n < maxStreams; {
		user := "u" + strconv.Itoa(n)
		r.allow(user, acl.Describe, acl.Cluster, "")
		token := r.token(user, user, true, time.Time{})
		for range min(maxCallerStreams, maxStreams-n) {
			r.open(eventsPath, token)
			n++
		}
	}
	r.allow("last", acl.Describe, acl.Cluster, "")
	if refused := r.get(http.DefaultClient, eventsPath, r.token("last", "last", true, time.Time{})); refused.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more in all: %d", refused.StatusCode)
	}
}

// Where nobody is asked, a caller is where it calls from.
func TestStreamsOfAnOpenServer(t *testing.T) {
	r := newReading(t, func(o *Options) { o.Access = nil })
	for range maxCallerStreams {
		r.open(eventsPath, "")
	}
	if refused := r.get(http.DefaultClient, eventsPath, ""); refused.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d", refused.StatusCode)
	}
}

// An event is one, whatever its id says.
func TestIDsOfEventsAreOneLine(t *testing.T) {
	var b strings.Builder
	f := &following{w: &b, control: http.NewResponseController(untilFlushed{gone: func() {}})}
	if err := f.send("x", "1\ndata: forged\r\x00", map[string]string{"text": "a\nb"}); err != nil || b.String() != "event: x\nid: 1data: forged\ndata: {\"text\":\"a\\nb\"}\n\n" {
		t.Errorf("%v %q", err, b.String())
	}
}
