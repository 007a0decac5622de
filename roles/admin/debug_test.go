package admin

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/security/acl"
)

type linesOf []string

func (l linesOf) Last(n int) (lines [][]byte) {
	for _, line := range l[max(0, len(l)-n):] {
		lines = append(lines, []byte(line))
	}
	return lines
}

// Whoever may alter the cluster looks into the process, and nobody else, on a broker that
// serves no API too.
func TestWhoLooksIntoAProcess(t *testing.T) {
	whole := newAsking(t, func(o *Options) { o.Logs = linesOf{"{}\n"} })
	brokerOnly := askingOf(t, whole.c, func(o *Options) {
		o.Cluster, o.Brokers, o.Controllers, o.Groups, o.Bucket, o.AuditLog, o.Transforms = nil, nil, nil, nil, nil, nil, nil
		o.Image = whole.c.Image
	})
	looker, operator := whole.token("l", "looker", true, time.Time{}), whole.token("o", "operator", true, time.Time{})
	whole.allow("looker", acl.Describe, acl.Cluster, "")
	whole.allow("operator", acl.Alter, acl.Cluster, "")
	for what, a := range map[string]*asking{"with the API": whole, "a broker": brokerOnly} {
		for _, path := range []string{profilePath, profilePath + "goroutine?debug=2", profilePath + "heap", logsPath} {
			at := what + " " + path
			a.want(at+", nobody", http.StatusUnauthorized, a.do(http.MethodGet, path, ""))
			a.want(at+", who may describe", http.StatusForbidden, a.do(http.MethodGet, path, "", "Authorization", "Bearer "+looker), "--resource cluster --permissions alter")
			a.want(at, http.StatusOK, a.do(http.MethodGet, path, "", "Authorization", "Bearer "+operator))
		}
		a.want(what+" metrics, who may not", http.StatusForbidden, a.do(http.MethodGet, metricsPath, "", "Authorization", "Bearer "+whole.token(what, "nobody", true, time.Time{})))
		a.want(what+" metrics", http.StatusOK, a.do(http.MethodGet, metricsPath, "", "Authorization", "Bearer "+looker))
	}
}

func TestProfilesOfAProcess(t *testing.T) {
	a := newAsking(t)
	get := func(path string) *httptest.ResponseRecorder {
		return a.do(http.MethodGet, path, "", "Authorization", "Bearer "+a.local)
	}
	a.want("the list", http.StatusOK, get(profilePath), "goroutine\n", "profile\n", "trace\n")
	a.want("goroutines in words", http.StatusOK, get(profilePath+"goroutine?debug=1"), "TestProfilesOfAProcess")
	for _, name := range []string{"allocs", "goroutine", "heap", "threadcreate", "profile?seconds=0.05", "block?seconds=0.01", "mutex?seconds=0.01"} {
		if w := get(profilePath + name); w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte{0x1f, 0x8b}) { // gzip
			t.Errorf("%s: %d, %d bytes", name, w.Code, w.Body.Len())
		}
	}
	if w := get(profilePath + "trace?seconds=0.01"); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), "go 1.") {
		t.Errorf("trace: %d, %d bytes", w.Code, w.Body.Len())
	}
	for _, wrong := range []string{"profile?seconds=31", "profile?seconds=0", "profile?seconds=-1", "profile?seconds=NaN", "profile?seconds=x", "trace?seconds=6", "heap?debug=3", "heap?debug=x"} {
		a.want(wrong, http.StatusUnprocessableEntity, get(profilePath+wrong))
	}
	a.remote = "10.0.0.10:1234" // the other has asked for as many as it may
	for _, none := range []string{"cmdline", "symbol", "ghost"} {
		a.want(none, http.StatusNotFound, get(profilePath+none), "no profile is called")
	}
	a.want("no log", http.StatusOK, get(logsPath))
	for _, none := range []string{debugPath, debugPath + "vars", profilePath + "heap/x", debugPath + "logs/x"} {
		if w := get(none); w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s %s", none, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
	for _, known := range []string{logsPath, profilePath, profilePath + "heap"} {
		if w := a.do(http.MethodPost, known, "", "Authorization", "Bearer "+a.local); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("POST %s: %d %s %s", known, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}

// A profile that takes time is alone, and ends with the server.
func TestOneProfileAtATime(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	g := debugging{stopping: stopping, place: make(chan struct{}, 1)}
	call := func() *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, profilePath+"mutex?seconds=30", nil)
		r.SetPathValue("name", "mutex")
		g.profile(w, r)
		return w
	}
	g.place <- struct{}{} // one is being made
	if w := call(); w.Code != http.StatusConflict {
		t.Errorf("a second one: %d %s", w.Code, w.Body)
	}
	<-g.place
	stop()
	if w := call(); w.Code != http.StatusServiceUnavailable {
		t.Errorf("of a server that stops: %d %s", w.Code, w.Body)
	}
}

func TestLogsOfAProcess(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.Logs = linesOf{"1\n", "2\n", "3\n"} })
	get := func(path string) *httptest.ResponseRecorder {
		return a.do(http.MethodGet, path, "", "Authorization", "Bearer "+a.local)
	}
	for path, want := range map[string]string{logsPath: "1\n2\n3\n", logsPath + "?lines=2": "2\n3\n", logsPath + "?lines=99": "1\n2\n3\n"} {
		if got := get(path).Body.String(); got != want {
			t.Errorf("%s is %q", path, got)
		}
	}
	for _, wrong := range []string{"0", "-1", "x", "1.5"} {
		a.want(wrong, http.StatusUnprocessableEntity, get(logsPath+"?lines="+wrong))
	}
}

// What limits calls of the API limits looks into the process too, also once it is changed.
func TestLimitsThatChangeHoldForLooks(t *testing.T) {
	a := newAsking(t)
	a.s.SetLimits(1, 2, 10) // four calls of all at once
	refused := 0
	for range 6 {
		if w := a.do(http.MethodGet, logsPath, "", "Authorization", "Bearer "+a.local); w.Code == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("all of six are served")
	}
}
