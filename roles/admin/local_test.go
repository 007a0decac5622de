package admin

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Commands find the token of a server of their own user by the address that they call, and
// send it nowhere else.
func TestTheTokenOfAServerGoesToThatServer(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	seen := make(chan string, 1)
	listens := func() string {
		return answers(t, func(w http.ResponseWriter, r *http.Request) {
			seen <- r.Header.Get("Authorization")
			_, _ = w.Write([]byte("{}"))
		})
	}
	ours, other := listens(), listens()
	file := filepath.Join(t.TempDir(), "admin.token")
	if err := os.WriteFile(file, []byte("rmq_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(ours, "http://")
	forget, err := NoteLocal(at, Local{URL: ours, TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	asks := func(url string, args ...string) string {
		t.Helper()
		if _, err := run(t.Context(), url, append([]string{"topics", "list"}, args...)...); err != nil {
			t.Fatal(err)
		}
		return <-seen
	}
	if got := asks(ours); got != "Bearer rmq_secret" {
		t.Errorf("the server is sent %q", got)
	}
	if got := asks(strings.Replace(ours, "127.0.0.1", "localhost", 1)); got != "Bearer rmq_secret" {
		t.Errorf("by another name it is sent %q", got)
	}
	if got := asks(other); got != "" {
		t.Errorf("another server is sent %q", got)
	}
	// The server was killed, and has started elsewhere, with another token in the same file: who
	// listens in its place is not sent that.
	if err := os.WriteFile(file, []byte("rmq_newer\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := asks(ours); got != "" {
		t.Errorf("in the place of a server that was killed it is sent %q", got)
	}
	if urls := localURLs(); len(urls) != 0 {
		t.Errorf("who finds nobody is told of one that was killed: %v", urls)
	}
	if err := os.WriteFile(file, []byte("rmq_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(own, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := asks(ours, "--token-file", own); got != "Bearer mine" {
		t.Errorf("with --token-file it is sent %q", got)
	}
	// A directory that others can write to may name any file, and any address.
	if err := os.Chmod(localDir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if got := asks(ours); got != "" {
		t.Errorf("by a directory of anybody it is sent %q", got)
	}
	if _, err := NoteLocal(at, Local{}); err == nil {
		t.Error("a server notes itself in a directory of anybody")
	}
	if err := os.Chmod(localDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if urls := localURLs(); len(urls) != 1 || urls[0] != ours {
		t.Errorf("%v", urls)
	}
	for i := range 3 * namedServers {
		at := fmt.Sprintf("127.0.0.%d:2", i+1)
		if _, err := NoteLocal(at, Local{URL: "http://" + at, TokenFile: file}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run(t.Context(), "http://127.0.0.1:1", "topics", "list"); err == nil || strings.Count(err.Error(), ":2") > namedServers || !strings.Contains(err.Error(), " more)") {
		t.Errorf("where many servers are: %v", err)
	}
	forget()
	if got := asks(ours); got != "" {
		t.Errorf("after its end it is sent %q", got)
	}
	if _, err := run(t.Context(), "http://127.0.0.1:1", "topics", "list", "--token-file", own, "--user", "a"); err == nil || !strings.Contains(err.Error(), "give one of them") {
		t.Error(err)
	}
	if _, err := run(t.Context(), "http://10.0.0.1:9642", "topics", "list", "--token-file", own); err == nil || !strings.Contains(err.Error(), "would be shown to the network") {
		t.Error(err)
	}
}

// A server makes another token with each start. What waits for it, as `cluster health
// --exit-when-healthy` does between two steps of an upgrade, goes on by the new one, also where
// it has begun before the server.
func TestWhoWaitsForAServerFindsItsNewToken(t *testing.T) {
	for _, before := range []string{"", "rmq_first"} {
		t.Setenv("TMPDIR", t.TempDir())
		file := filepath.Join(t.TempDir(), "admin.token")
		var at string
		starts := func(token string) {
			if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
				t.Error(err)
			}
			if _, err := NoteLocal(at, Local{URL: "http://" + at, TokenFile: file}); err != nil {
				t.Error(err)
			}
		}
		calls := 0
		url := answers(t, func(w http.ResponseWriter, r *http.Request) {
			if calls++; calls == 2 {
				starts("rmq_second")
			}
			if calls < 2 || r.Header.Get("Authorization") != "Bearer rmq_second" {
				http.Error(w, `{"detail": "it is not known who calls"}`, http.StatusUnauthorized)
				return
			}
			_, _ = w.Write([]byte(`{"healthy": true}`))
		})
		if at = strings.TrimPrefix(url, "http://"); before != "" {
			starts(before)
		}
		if out, err := run(t.Context(), url, "cluster", "health", "--exit-when-healthy", "--interval", "1ms", "--timeout", "1m"); err != nil {
			t.Errorf("after %q: %v: %s", before, err, out)
		}
	}
}
