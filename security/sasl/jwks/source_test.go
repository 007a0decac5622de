package jwks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"rustmq.dev/rustmq/security/sasl"
	"rustmq.dev/rustmq/security/sasl/jwks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keySet(t *testing.T, ids ...string) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, id := range ids {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: id})
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func open(t *testing.T, o jwks.Options) *jwks.Source {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Interval == 0 {
		o.Interval = time.Hour
	}
	s, err := jwks.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reload has the keys read anew, and finds so many.
func reload(t *testing.T, s *jwks.Source, fails bool, n int) {
	t.Helper()
	if err := s.Reload(t.Context()); (err != nil) != fails || s.Keys().Len() != n {
		t.Errorf("%d keys, not %d, and %v", s.Keys().Len(), n, err)
	}
}

// A set is read from a URL over TLS of a certificate authority of one's own; a new key is
// found, and an issuer that is away or answers nonsense changes nothing.
func TestKeysOfAnIssuer(t *testing.T) {
	var body atomic.Pointer[[]byte]
	set := func(raw []byte) { body.Store(&raw) }
	set(keySet(t, "a"))
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw := *body.Load()
		if raw == nil {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(raw) // the client may have gone
	}))
	defer issuer.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, jwks.Options{Place: issuer.URL, CAFile: ca})
	reload(t, s, false, 1)
	set(keySet(t, "a", "b"))
	reload(t, s, false, 2)
	for _, raw := range [][]byte{nil, []byte("{"), []byte(strings.Repeat(" ", sasl.MaxKeySet+1))} {
		set(raw)
		reload(t, s, true, 2)
	}
	set(keySet(t, "a", "b", "c"))
	reload(t, s, false, 3)
	stranger := open(t, jwks.Options{Place: issuer.URL})
	reload(t, stranger, true, 0) // nobody it trusts has signed the certificate
}

func TestKeysOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	s := open(t, jwks.Options{Place: file})
	reload(t, s, true, 0)
	if err := os.WriteFile(file, keySet(t, "a"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(t, s, false, 1)
}

// Unknown keys have the set read once, and not as often as somebody makes them up.
func TestRefreshesAreRare(t *testing.T) {
	var reads atomic.Int64
	raw := keySet(t, "a")
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads.Add(1)
		_, _ = w.Write(raw)
	}))
	defer issuer.Close()
	s := open(t, jwks.Options{Place: issuer.URL})
	reload(t, s, false, 1)
	n := reads.Load()
	for range 100 {
		if s.Refresh(t.Context()) {
			t.Fatal("read again")
		}
	}
	if got := reads.Load(); got != n {
		t.Errorf("%d reads", got-n)
	}
}

func TestPlaces(t *testing.T) {
	for place, fine := range map[string]bool{
		"keys.json": true, "/etc/keys.json": true, "https://id.example/keys": true, "http://127.0.0.1:8080/keys": true, "http://localhost/keys": true,
		"": false, "http://id.example/keys": false, "https://": false, "https://u:p@id.example/keys": false, "ftp://id.example/": false, "file:///keys": false,
	} {
		if err := jwks.CheckPlace(place); (err == nil) != fine {
			t.Errorf("%q: %v", place, err)
		}
	}
	issuer := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer issuer.Close()
	s := open(t, jwks.Options{Place: issuer.URL})
	reload(t, s, true, 0)
}
