package roles_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A node tells its log, and how it runs, though it prints neither.
func TestANodeTellsItsLog(t *testing.T) {
	n := node(t)
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]string{"/debug/logs": `"msg":"cluster made","node":"1"`, "/debug/pprof/goroutine?debug=1": "roles.(*Node)"} {
		resp, err := http.Get("http://" + n.HTTP() + path)
		must(t, err)
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if !strings.Contains(string(text), want) {
			t.Errorf("%s: %d, without %s: %.300s", path, resp.StatusCode, want, text)
		}
	}
}
