package bucket

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is what a probe found out about a store.
type Report struct {
	Steps []Step
	// Skew is the store's clock less that of this process, as its times of
	// modification say; up to the time of a put off.
	Skew time.Duration
}

// Step is one thing that a store must do.
type Step struct {
	Name string        // put, get, …
	Took time.Duration // of the one request that the step is about
	Err  error         // it failed, or its result was wrong; nil: as it should be
}

// OK reports whether all of it works.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Err != nil })
}

// Missing returns the names of what does not work.
func (r Report) Missing() (names []string) {
	for _, s := range r.Steps {
		if s.Err != nil {
			names = append(names, s.Name)
		}
	}
	return names
}

// probeSize is the size of the object that a probe writes: more than a packet and
// a buffer, little to pay for.
const probeSize = 256 << 10

// Probe tries all of what this program needs of a store, with objects whose keys
// begin with prefix, and removes them: no directory of their own is left where keys
// are files. It goes on after what fails.
func Probe(ctx context.Context, b Bucket, prefix string) Report {
	name := "probe-" + strings.ToLower(rand.Text())
	if prefix != "" {
		name = strings.TrimSuffix(prefix, "/") + "/" + name
	}
	p := probe{ctx: ctx, b: b, key: name + "-object", lockKey: name + "-lock", prefix: name + "-", data: make([]byte, probeSize)}
	_, _ = rand.Read(p.data) // it never fails
	for _, step := range []struct {
		name string
		try  func() error
	}{
		{"put", p.put},
		{"get", p.get},
		{"ranged get", p.rangedGet},
		{"range beyond the end", p.beyond},
		{"head", p.head},
		{"not found", p.notFound},
		{"put if absent", p.putIfAbsent},
		{"put if absent, when there", p.putIfThere},
		{"list", p.list},
		{"list behind a key", p.listAfter},
		{"delete", p.delete},
		{"deleted is not found", p.deleted},
	} {
		start := time.Now()
		err := step.try()
		p.report.Steps = append(p.report.Steps, Step{Name: step.name, Took: time.Since(start), Err: err})
	}
	return p.report
}

type probe struct {
	ctx                  context.Context
	b                    Bucket
	key, lockKey, prefix string
	data                 []byte
	put1                 time.Time // when it was about to be put
	report               Report
}

func (p *probe) put() error {
	p.put1 = time.Now()
	return p.b.Put(p.ctx, p.key, Bytes(p.data))
}

func (p *probe) get() error { return p.read(0, len(p.data)) }

func (p *probe) rangedGet() error { return p.read(len(p.data)/3, 4096) }

func (p *probe) read(off, length int) error {
	got := make([]byte, length)
	if err := p.b.ReadAt(p.ctx, p.key, got, int64(off)); err != nil {
		return err
	}
	if !bytes.Equal(got, p.data[off:off+length]) {
		return fmt.Errorf("bytes %d to %d are not those that were written", off, off+length)
	}
	return nil
}

func (p *probe) beyond() error {
	err := p.b.ReadAt(p.ctx, p.key, make([]byte, 4096), int64(len(p.data)-100))
	return expect(err, io.ErrUnexpectedEOF)
}

func (p *probe) head() error {
	info, err := p.b.Stat(p.ctx, p.key)
	if err != nil {
		return err
	}
	if info.Size != int64(len(p.data)) {
		return fmt.Errorf("size %d, was written with %d", info.Size, len(p.data))
	}
	if info.Modified.IsZero() {
		return errors.New("no time of modification")
	}
	p.report.Skew = info.Modified.Sub(p.put1)
	return nil
}

func (p *probe) notFound() error {
	return expect(p.b.ReadAt(p.ctx, p.prefix+"none", make([]byte, 1), 0), ErrNotFound)
}

func (p *probe) putIfAbsent() error {
	err := p.b.PutIfAbsent(p.ctx, p.lockKey, []byte("first"))
	if err != nil { // the list expects it
		_ = p.b.Put(p.ctx, p.lockKey, Bytes("first"))
	}
	return err
}

func (p *probe) putIfThere() error {
	if err := expect(p.b.PutIfAbsent(p.ctx, p.lockKey, []byte("second")), ErrExists); err != nil {
		return err
	}
	got := make([]byte, len("first"))
	if err := p.b.ReadAt(p.ctx, p.lockKey, got, 0); err != nil {
		return err
	}
	if string(got) != "first" {
		return errors.New("the second put replaced the first")
	}
	return nil
}

func (p *probe) list() error { return p.listed("", p.lockKey, p.key) }

func (p *probe) listAfter() error { return p.listed(p.lockKey, p.key) }

func (p *probe) listed(after string, want ...string) error {
	var got []string
	if err := p.b.List(p.ctx, p.prefix, after, func(i Info) bool { got = append(got, i.Key); return true }); err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("found %q, were put %q", got, want)
	}
	return nil
}

func (p *probe) delete() error {
	return errors.Join(p.b.Delete(p.ctx, p.key), p.b.Delete(p.ctx, p.lockKey), p.b.Delete(p.ctx, p.prefix+"none"))
}

func (p *probe) deleted() error {
	_, err := p.b.Stat(p.ctx, p.key)
	return expect(err, ErrNotFound)
}

func expect(err, want error) error {
	switch {
	case err == nil:
		return fmt.Errorf("no error; want %w", want)
	case !errors.Is(err, want):
		return err
	}
	return nil
}
