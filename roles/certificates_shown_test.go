package roles_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/admin"
)

// A node tells its operator what it was configured with and from where, and which certificates
// it shows and trusts; and nobody else.
func TestANodeTellsOfItself(t *testing.T) {
	s, n, dir := restNode(t)
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	must(t, err)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: s.client(""), DisableKeepAlives: true}, Timeout: 10 * time.Second}
	get := func(path string, into any) string {
		t.Helper()
		q, err := http.NewRequest(http.MethodGet, "https://"+n.HTTP()+path, nil)
		must(t, err)
		if into != nil {
			q.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		}
		resp, err := web.Do(q)
		must(t, err)
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		must(t, err)
		if into != nil {
			must(t, json.Unmarshal(raw, into))
		} else if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s, a stranger: %s", path, resp.Status)
		}
		return string(raw)
	}
	var config admin.ConfigView
	get("/api/v1/config", &config)
	if config.Node != 1 || len(config.Settings) != len(configs.Keys()) {
		t.Errorf("node %d, %d keys", config.Node, len(config.Settings))
	}
	is := func(key string) admin.Setting {
		return config.Settings[slices.IndexFunc(config.Settings, func(s admin.Setting) bool { return s.Key == key })]
	}
	if s := is("network.tls"); s.Value != "on" || s.Source == "" || s.Source == is("network.idle_timeout").Source {
		t.Errorf("%+v", s)
	}
	var certificates struct{ Certificates []admin.NodeCertificate }
	said := get("/api/v1/node/certificates", &certificates)
	uses := map[string]admin.NodeCertificate{}
	for _, c := range certificates.Certificates {
		uses[c.Use] = c
	}
	own, authority := uses["tls"], uses["client-ca"]
	if !slices.Contains(own.Names, "127.0.0.1") || !strings.HasSuffix(own.File, "node-1.pem") || !own.NotAfter.After(time.Now()) || len(own.SHA256) != 64 || own.Issuer == "" || own.Serial == "" {
		t.Errorf("%+v", own)
	}
	if authority.Subject == "" || authority.Issuer == "" || strings.Contains(said, "PRIVATE") {
		t.Errorf("%+v", authority)
	}
	get("/api/v1/config", nil)
	get("/api/v1/node/certificates", nil)
}
