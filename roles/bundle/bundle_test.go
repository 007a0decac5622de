package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// said is a server that answers what it is told to.
type said struct {
	url     string
	answers map[string]string // by path; of others: not found
	down    bool
	asked   int
}

func (s *said) URL() string { return s.url }

func (s *said) Get(_ context.Context, path string, most int64) ([]byte, bool, error) {
	s.asked++
	if s.down {
		return nil, false, errors.New("reach " + s.url + ": connection refused")
	}
	text, is := s.answers[path]
	if !is {
		return nil, false, errors.New("there is no " + path + " (token=Planted)")
	}
	return []byte(text[:min(int64(len(text)), most)]), int64(len(text)) > most, nil
}

// unpacked is every file of an archive.
func unpacked(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || strings.Contains(h.Name, "..") || strings.HasPrefix(h.Name, "/") {
			t.Errorf("%s with mode %o", h.Name, h.Mode)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name] = string(raw)
	}
}

// TestAnArchiveHasWhatThereIs of two servers and this machine, without the secrets planted in
// it, and says what is not there.
func TestAnArchiveHasWhatThereIs(t *testing.T) {
	well := &said{url: "http://10.0.0.1:9642", answers: map[string]string{
		"/metrics": "rustmq_x 1\n", "/healthz": "well\n", "/debug/logs?lines=100000": `{"msg":"from the file: the very secret"}` + "\n" + `{"password":"Planted"}`,
		"/debug/pprof/heap": "binary Planted", "/debug/pprof/profile?seconds=5": "cpu", "/api/v1/cluster": `{"cluster_id":"c"}`,
	}}
	down := &said{url: "https://alice:Planted@[::1]:9642/../x", down: true}
	var out bytes.Buffer
	var told []string
	m, err := Collect(t.Context(), &out, Options{
		Servers: []Server{well, down}, Profile: DefaultProfile, Version: "v", Now: time.Unix(1e9, 0).UTC(), Secrets: []string{"the very secret"},
		Local: []Part{
			{"a.json", func(context.Context) ([]byte, error) { return []byte(`{"secret":"Planted"}`), nil }},
			{"b.json", func(context.Context) ([]byte, error) { return nil, errors.New("no such file") }},
		},
		Progress: func(what string) { told = append(told, what) },
	})
	if err != nil {
		t.Fatal(err)
	}
	files := unpacked(t, out.Bytes())
	for name, text := range files {
		if name != "rustmq-bundle/10.0.0.1_9642/heap.pprof" && (strings.Contains(text, "Planted") || strings.Contains(text, "the very secret")) {
			t.Errorf("%s has a secret: %s", name, text)
		}
	}
	for name, want := range map[string]string{
		"10.0.0.1_9642/metrics-1.txt": "rustmq_x 1\n", "10.0.0.1_9642/metrics-2.txt": "rustmq_x 1\n", "10.0.0.1_9642/healthz.txt": "well\n",
		"10.0.0.1_9642/heap.pprof": "binary Planted", "10.0.0.1_9642/cpu.pprof": "cpu", "10.0.0.1_9642/cluster.json": `{"cluster_id":"c"}`,
		"10.0.0.1_9642/logs.ndjson": `{"msg":"from the file: ` + Mask + `"}` + "\n" + `{"password":"` + Mask + `"}`, "local/a.json": `{"secret":"` + Mask + `"}`,
	} {
		if files["rustmq-bundle/"+name] != want {
			t.Errorf("%s: %q, want %q", name, files["rustmq-bundle/"+name], want)
		}
	}
	var listed Manifest
	if err := json.Unmarshal([]byte(files["rustmq-bundle/manifest.json"]), &listed); err != nil {
		t.Fatal(err)
	}
	had, missing := listed.Had()
	if had != len(files)-1 || missing == 0 || len(listed.Items) != len(m.Items) || len(listed.Items) != 2+2*len(questions(DefaultProfile)) {
		t.Errorf("%d are there and %d not, of %d files and %d items", had, missing, len(files), len(listed.Items))
	}
	for _, item := range listed.Items {
		if (item.Missing == "") != (files["rustmq-bundle/"+item.File] != "") {
			t.Errorf("%+v", item)
		}
	}
	if down.asked != 1 {
		t.Errorf("a server that is down was asked %d times", down.asked)
	}
	var silent []Item
	paths := map[string]bool{}
	for _, item := range m.Failed() {
		if strings.HasSuffix(item.File, "/") {
			silent = append(silent, item)
		}
	}
	if len(silent) != 1 || silent[0].Missing == "" || silent[0].Missing == notAsked {
		t.Errorf("a server that is down is told of as %+v", silent)
	}
	for _, q := range questions(DefaultProfile) {
		if q.path != "/metrics" && paths[q.path] {
			t.Errorf("%s is asked for twice", q.path)
		}
		paths[q.path] = true
	}
	if len(told) == 0 {
		t.Error("nobody was told how far it is")
	}
}

// TestAnArchiveIsBounded in each part and together; what has no room is listed.
func TestAnArchiveIsBounded(t *testing.T) {
	large := strings.Repeat("x", partBytes+1)
	s := &said{url: "http://a:1", answers: map[string]string{"/metrics": "m", "/debug/logs?lines=100000": large, "/api/v1/topics?internal=true": strings.Repeat("t", 2000)}}
	for _, c := range []struct {
		bytes       int64
		logs, topic bool
	}{{0, true, true}, {5000, false, true}, {1000, false, false}} {
		var out bytes.Buffer
		m, err := Collect(t.Context(), &out, Options{Servers: []Server{s}, Bytes: c.bytes, Now: time.Unix(1e9, 0)})
		if err != nil {
			t.Fatal(err)
		}
		files := unpacked(t, out.Bytes())
		if (files["rustmq-bundle/a_1/logs.ndjson"] != "") != c.logs || (files["rustmq-bundle/a_1/topics.json"] != "") != c.topic || files["rustmq-bundle/a_1/metrics-2.txt"] != "m" {
			t.Errorf("of %d bytes: %d files", c.bytes, len(files))
		}
		for _, item := range m.Items {
			if strings.HasSuffix(item.File, "logs.ndjson") && (item.Cut != true || (item.Missing == "") != c.logs) {
				t.Errorf("of %d bytes: %+v", c.bytes, item)
			}
		}
	}
}

// TestAnArchiveThatCannotBeWritten fails, and so does one that is interrupted.
func TestAnArchiveThatCannotBeWritten(t *testing.T) {
	s := &said{url: "http://a:1", answers: map[string]string{"/metrics": strings.Repeat("m", 1<<20)}}
	if _, err := Collect(t.Context(), refusing{}, Options{Servers: []Server{s}}); err == nil {
		t.Error("a writer that fails went unnoticed")
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Collect(stopped, io.Discard, Options{Servers: []Server{s}}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

type refusing struct{}

func (refusing) Write([]byte) (int, error) { return 0, errors.New("disk full") }
