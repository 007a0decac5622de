package roles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rustmq.dev/rustmq/embed"
)

// bundled is every file of an archive, by its name below the first folder.
func bundled(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(archive)
	must(t, err)
	files := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		raw, err := io.ReadAll(in)
		must(t, err)
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = string(raw)
	}
}

// TestDebugBundle gathers from a node that runs, by a password that is nowhere in the
// archive, as what is planted in the environment, a file and the metadata is not.
func TestDebugBundle(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	data := filepath.Join(dir, "data")
	n, err := embed.Start(t.Context(), embed.Options{DataDir: data})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	at := "http://" + n.HTTP()
	if code, _, stderr := rustmq(t, "planted-in-the-metadata\n", "admin", "users", "create", "alice", "--url", at); code != 0 {
		t.Fatal(stderr)
	}
	if code, _, stderr := rustmq(t, "planted-in-a-record\n", "produce", "orders", "-b", n.Kafka()); code != 0 {
		t.Fatal(stderr)
	}
	password, config, out := filepath.Join(dir, "password"), filepath.Join(dir, "rustmq.toml"), filepath.Join(dir, "b.tar.gz")
	must(t, os.WriteFile(password, []byte("planted-in-a-file\n"), 0o600))
	must(t, os.WriteFile(config, []byte("[object_storage]\nurl = \"s3://b?region=x&secret_key=planted-in-a-url\"\n"), 0o600))
	t.Setenv("SOME_SECRET", "planted-in-the-environment")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=tenant-one,x-key=planted-in-a-header")
	for _, secret := range []string{"planted-in-a-file", "planted-in-a-header"} { // typed where it does not belong
		if code, _, stderr := rustmq(t, "", "admin", "topics", "create", secret, "--url", at); code != 0 {
			t.Fatal(stderr)
		}
	}
	args := []string{"debug", "bundle", "--url", at, "--user", "alice", "--password-file", password, "--data-dir", data, "--config", config, "--profile", "0"}
	code, stdout, stderr := rustmq(t, "", append(args, "--out", out)...)
	if code != 0 || !strings.Contains(stdout, "b.tar.gz has ") {
		t.Fatalf("exit %d, %s, %s", code, stdout, stderr)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	f, err := os.Open(out)
	must(t, err)
	defer f.Close()
	files := bundled(t, f)
	for name, text := range files {
		if strings.Contains(text, "planted-in-") {
			t.Errorf("%s has a secret", name)
		}
	}
	u, err := url.Parse(at)
	must(t, err)
	from := strings.ReplaceAll(u.Host, ":", "_") + "/"
	for name, has := range map[string]string{
		from + "metrics-1.txt": "rustmq_", from + "metrics-2.txt": "rustmq_", from + "cluster.json": "cluster_id", from + "health.json": "healthy", from + "topics.json": "orders",
		from + "brokers.json": `"serving"`, from + "controllers.json": "term", from + "healthz.txt": "", "local/raft.ndjson": `"command":"create_topic"`, "local/doctor.json": "sync latency",
		"local/version.json": "kernel", "local/config.json": "object_storage.url", "manifest.json": "raft.ndjson",
	} {
		if text, is := files[name]; !is || !strings.Contains(text, has) {
			t.Errorf("%s is there: %t, without %q", name, is, has)
		}
	}
	if code, _, stderr = rustmq(t, "", append(args, "--out", out)...); code != 1 || !strings.Contains(stderr, "--out") {
		t.Errorf("over a file that is there: exit %d, %s", code, stderr)
	}

	// To standard output, from a node that is there and one that is not.
	code, stdout, stderr = rustmq(t, "", "debug", "bundle", "--process", at, "--process", "http://127.0.0.1:1", "--profile", "0", "--out", "-", "-o", "json")
	if files = bundled(t, bytes.NewReader([]byte(stdout))); code != 0 || files[from+"cluster.json"] == "" || !strings.Contains(stderr, "127.0.0.1_1/metrics-1.txt") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	none := filepath.Join(dir, "none.tar.gz")
	if code, _, stderr = rustmq(t, "", "debug", "bundle", "--url", "http://127.0.0.1:1", "--out", none, "--profile", "0"); code != 1 || !strings.Contains(stderr, "no server said anything") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	f, err = os.Open(none)
	must(t, err)
	defer f.Close()
	if files = bundled(t, f); files["local/version.json"] == "" {
		t.Errorf("where no server is: %d files", len(files))
	}
	for _, wrong := range [][]string{{"--url", "nonsense"}, {"--profile", "1h"}, {"--max-bytes", "much"}, {"-o", "xml"}} {
		if code, _, stderr := rustmq(t, "", append([]string{"debug", "bundle", "--out", filepath.Join(dir, "w")}, wrong...)...); code != 2 {
			t.Errorf("%v: exit %d, %s", wrong, code, stderr)
		}
	}
}
