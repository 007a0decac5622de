package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"
)

// Bounds of an archive, unless told otherwise.
const (
	// DefaultBytes is how large the parts of an archive may be together, before they are
	// compressed.
	DefaultBytes = 256 << 20
	// partBytes is how large one may be.
	partBytes = 32 << 20
	// partTime is how long one may take, besides the time that a profile is of.
	partTime = 30 * time.Second
	// DefaultProfile is how long a profile of the processor is of, waitsProfile one of waits.
	DefaultProfile = 5 * time.Second
	waitsProfile   = 2 * time.Second
	// LongestProfile is what servers grant.
	LongestProfile = 30 * time.Second
)

// Server is a process that is asked.
type Server interface {
	// URL names it.
	URL() string
	// Get returns up to most bytes of what a path answers, and whether there are more.
	Get(ctx context.Context, path string, most int64) (body []byte, more bool, err error)
}

// Part is something of this machine that goes into the archive.
type Part struct {
	Name string // of its file, below local/
	// Get returns it.
	Get func(ctx context.Context) ([]byte, error)
}

// Absent is a process of the cluster that cannot be asked. It is in the manifest, lest who reads
// the archive takes the cluster for smaller than it is.
type Absent struct {
	Name string // as a folder
	Why  string
}

// Options of an archive.
type Options struct {
	Servers []Server
	Local   []Part
	Absent  []Absent
	// Secrets are texts that are taken out wherever they stand.
	Secrets []string
	// Profile is how long a profile of the processor is of; 0: none is asked for.
	Profile time.Duration
	// Bytes bounds the parts together; 0: DefaultBytes.
	Bytes int64
	// Version is that of the program that gathers.
	Version string
	// Now is the time of the archive's files.
	Now time.Time
	// Progress is told what is under way, one call at a time; nil: nobody is.
	Progress func(what string)
}

// Item is what became of one thing that was asked for.
type Item struct {
	File    string `json:"file"`
	Path    string `json:"path,omitempty"` // what the server was asked for
	Bytes   int64  `json:"bytes"`
	Removed int    `json:"removed,omitempty"` // secrets that were taken out
	Cut     bool   `json:"cut,omitempty"`     // there was more
	Missing string `json:"missing,omitempty"` // why it is not there
}

// Manifest lists what is in an archive, and what is not.
type Manifest struct {
	Created time.Time `json:"created"`
	Version string    `json:"version"`
	Servers []string  `json:"servers"`
	Items   []Item    `json:"items"`
}

// notAsked is why there is nothing of a server that did not answer at all.
const notAsked = "the server did not answer before"

// Failed are the items that are not there, each server that did not answer at all once: as a
// folder, with the reason of the first item.
func (m Manifest) Failed() (failed []Item) {
	silent := map[string]bool{}
	for _, item := range m.Items {
		if item.Missing == notAsked {
			silent[path.Dir(item.File)] = true
		}
	}
	for _, item := range m.Items {
		dir := path.Dir(item.File)
		switch {
		case item.Missing == "", item.Missing == notAsked:
			continue
		case silent[dir]:
			item.File = dir + "/"
		}
		failed = append(failed, item)
	}
	return failed
}

// Had is how many items are there, and Missing how many are not.
func (m Manifest) Had() (had, missing int) {
	for _, item := range m.Items {
		if item.Missing == "" {
			had++
		} else {
			missing++
		}
	}
	return had, missing
}

// question is what a server is asked.
type question struct {
	file, path string
	text       bool          // goes through the redactor
	takes      time.Duration // besides partTime
}

// questions are what each server is asked, in order. Metrics are there twice, for what
// matters of counters is how they grow; what takes time stands between.
func questions(profile time.Duration) []question {
	all := []question{
		{file: "metrics-1.txt", path: "/metrics", text: true},
		{file: "healthz.txt", path: "/healthz", text: true},
		{file: "readyz.txt", path: "/readyz", text: true},
		{file: "cluster.json", path: "/api/v1/cluster", text: true},
		{file: "health.json", path: "/api/v1/cluster/health", text: true},
		{file: "brokers.json", path: "/api/v1/brokers", text: true},
		{file: "controllers.json", path: "/api/v1/controllers", text: true},
		{file: "topics.json", path: "/api/v1/topics?internal=true", text: true},
		{file: "groups.json", path: "/api/v1/groups", text: true},
		{file: "storage.json", path: "/api/v1/storage", text: true},
		{file: "modules.json", path: "/api/v1/etl/modules", text: true},
		{file: "quotas.json", path: "/api/v1/quotas", text: true},
		{file: "operations.json", path: "/api/v1/operations", text: true},
		{file: "config.json", path: "/api/v1/config", text: true},
		{file: "config-history.json", path: "/api/v1/config/history", text: true},
		{file: "certificates.json", path: "/api/v1/node/certificates", text: true},
		{file: "logs.ndjson", path: "/debug/logs?lines=100000", text: true},
		{file: "goroutines.txt", path: "/debug/pprof/goroutine?debug=2", text: true},
		{file: "heap.pprof", path: "/debug/pprof/heap"},
		{file: "allocs.pprof", path: "/debug/pprof/allocs"},
	}
	if profile > 0 {
		seconds := func(d time.Duration) string { return fmt.Sprintf("?seconds=%g", d.Seconds()) }
		waits := min(waitsProfile, profile)
		all = append(all,
			question{file: "cpu.pprof", path: "/debug/pprof/profile" + seconds(profile), takes: profile},
			question{file: "block.pprof", path: "/debug/pprof/block" + seconds(waits), takes: waits},
			question{file: "mutex.pprof", path: "/debug/pprof/mutex" + seconds(waits), takes: waits})
	}
	return append(all, question{file: "metrics-2.txt", path: "/metrics", text: true})
}

// collection is an archive that is being written.
type collection struct {
	o      Options
	redact *Redactor
	left   int64 // bytes that may still come

	mu       sync.Mutex
	out      *tar.Writer
	manifest Manifest // guarded by mu, as left and out are
	failed   error    // of the writer
}

// Collect writes an archive to w, as tar in gzip. What could not be had is in the manifest;
// an error is that of w, or of ctx.
func Collect(ctx context.Context, w io.Writer, o Options) (Manifest, error) {
	if o.Bytes == 0 {
		o.Bytes = DefaultBytes
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	zip := gzip.NewWriter(w)
	c := &collection{o: o, redact: NewRedactor(o.Secrets...), left: o.Bytes, out: tar.NewWriter(zip), manifest: Manifest{Created: o.Now, Version: o.Version, Servers: []string{}, Items: []Item{}}}
	for _, part := range o.Local {
		c.local(ctx, part)
	}
	for _, a := range o.Absent {
		c.put(Item{File: a.Name + "/", Missing: a.Why}, nil)
	}
	var wait sync.WaitGroup
	for _, server := range o.Servers {
		c.manifest.Servers = append(c.manifest.Servers, c.clean(server.URL()))
		wait.Go(func() { c.ask(ctx, server) })
	}
	wait.Wait()
	if ctx.Err() != nil {
		return c.manifest, ctx.Err()
	}
	raw, err := json.MarshalIndent(c.manifest, "", "  ")
	if err != nil {
		return c.manifest, err
	}
	c.write("manifest.json", raw)
	return c.manifest, errors.Join(c.failed, c.out.Close(), zip.Close())
}

func (c *collection) local(ctx context.Context, part Part) {
	if ctx.Err() != nil {
		return
	}
	c.o.Progress(part.Name)
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	item := Item{File: "local/" + part.Name}
	raw, err := part.Get(ctx)
	if err != nil {
		item.Missing = err.Error()
	}
	if len(raw) > partBytes {
		raw, item.Cut = raw[:partBytes], true
	}
	clean, removed := c.redact.Redact(raw)
	item.Removed = removed
	c.put(item, clean)
}

// ask asks a server everything, one thing after the other. One that does not answer at all is
// not asked on.
func (c *collection) ask(ctx context.Context, server Server) {
	dir := folder(server.URL())
	silent := false
	for _, q := range questions(c.o.Profile) {
		item := Item{File: dir + "/" + q.file, Path: q.path}
		switch {
		case ctx.Err() != nil:
			return
		case silent:
			item.Missing = notAsked
			c.put(item, nil)
			continue
		}
		c.mu.Lock()
		c.o.Progress(server.URL() + q.path)
		c.mu.Unlock()
		asking, cancel := context.WithTimeout(ctx, q.takes+partTime)
		raw, cut, err := server.Get(asking, q.path, partBytes)
		cancel()
		item.Cut = cut
		if err != nil {
			item.Missing = err.Error()
			silent = q.path == "/metrics" && strings.HasPrefix(err.Error(), "reach ")
		}
		if q.text {
			raw, item.Removed = c.redact.Redact(raw)
		}
		c.put(item, raw)
	}
}

// put adds what is there of an item, and notes it.
func (c *collection) put(item Item, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	item.Missing, item.Path = c.clean(item.Missing), c.clean(item.Path)
	if item.Missing == "" && int64(len(raw)) > c.left {
		item.Missing = fmt.Sprintf("the archive has no room for its %d bytes: --max-bytes bounds it", len(raw))
	}
	if item.Missing == "" {
		item.Bytes = int64(len(raw))
		c.left -= item.Bytes
		c.write(item.File, raw)
	}
	c.manifest.Items = append(c.manifest.Items, item)
}

func (c *collection) clean(text string) string {
	clean, _ := c.redact.Redact([]byte(text))
	return string(clean)
}

// write adds a file; c.mu is held, or nobody else writes.
func (c *collection) write(name string, raw []byte) {
	if c.failed != nil {
		return
	}
	err := c.out.WriteHeader(&tar.Header{Name: "rustmq-bundle/" + name, Mode: 0o600, Size: int64(len(raw)), ModTime: c.o.Now, Format: tar.FormatPAX})
	if err == nil {
		_, err = c.out.Write(raw)
	}
	c.failed = err
}

// folder is where what a server says lies: its host and port, as a name of a file.
func folder(address string) string {
	host := address
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		host = u.Host
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, strings.ReplaceAll(host, "..", "_"))
}
