package cloud_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"rustmq.dev/rustmq/storage/bucket/cloud"
)

// TestDriverWritesNothingOfItsOwn: stderr is the program's, which may write JSON there.
// The machine's metadata server knows only the older way to ask, which the SDK warns of.
func TestDriverWritesNothingOfItsOwn(t *testing.T) {
	var asked atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			asked.Store(true)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	none := filepath.Join(t.TempDir(), "none")
	for key, value := range map[string]string{
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.URL, "AWS_EC2_METADATA_DISABLED": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "",
	} {
		t.Setenv(key, value)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stderr := os.Stderr
	os.Stderr = w
	b, err := cloud.Open(t.Context(), "s3://b?region=us-east-1&endpoint="+url.QueryEscape(server.URL), cloud.Options{})
	os.Stderr = stderr
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(t.Context(), "key"); err == nil {
		t.Error("there are credentials")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if said, err := io.ReadAll(r); err != nil || len(said) > 0 || !asked.Load() {
		t.Errorf("asked %v, %v: %s", asked.Load(), err, said)
	}
}
