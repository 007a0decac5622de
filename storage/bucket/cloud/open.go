package cloud

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"rustmq.dev/rustmq/storage/bucket"
)

// store is what differs between the stores: the driver, and how to speak to it
// about what it has in particular. Functions may be nil.
type store struct {
	blob *blob.Bucket
	// context is for one request.
	context func(context.Context) context.Context
	// put begins to store an object, unless ifAbsent is set and the key is there; nil: the
	// driver does.
	put func(ctx context.Context, key string, u *upload, ifAbsent bool) put
	// sums are what it says of what it has.
	sums sumKind
	// prepareWrite sets what an upload by the driver needs; it returns what the store says after
	// it: whether its checksum is known, and equal.
	prepareWrite func(as func(any) bool, u *upload) error
	// prepareList has a list begin at after, or a little before it.
	prepareList func(as func(any) bool, after string)
	// rangeOf returns where what is read begins.
	rangeOf func(r *blob.Reader) (off int64, known bool)
	// remove deletes a key in one request.
	remove func(ctx context.Context, key string) error
	// status returns the status and code of an answer of HTTP; 0 if err is none.
	status func(err error) (status int, code string)
	// noKey are the codes that say that it is the key that is missing.
	noKey []string
	close func()
}

// upload is one object being written.
type upload struct {
	size int64 // of the whole, where it is known; else -1
	sums *sums
	// stored compares what the store says it has with sums, after the end.
	stored func(s *sums) (known, same bool)
}

// Open returns the bucket at a URL. It makes no request to the store; GCS and
// Azure may ask for credentials.
func Open(ctx context.Context, address string, o Options) (bucket.Bucket, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("bucket URL: %w", err)
	}
	o, u, err = o.of(u)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", u.Redacted(), err)
	}
	open := map[string]func(context.Context, *url.URL, *Options) (*store, error){
		"s3": openS3, "gs": openGCS, "azblob": openAzure, "mem": openMem,
	}[u.Scheme]
	if open == nil {
		return nil, fmt.Errorf("bucket %s: scheme %q: use s3, gs, azblob or mem", address, u.Scheme)
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		if err := bucket.CheckKey(prefix); err != nil {
			return nil, fmt.Errorf("prefix of bucket %s: %w", address, err)
		}
		prefix += "/"
	}
	s, err := open(ctx, u, &o)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", address, err)
	}
	return &cloudBucket{store: s, o: o, prefix: prefix}, nil
}

// openMem is gocloud's own store in memory.
func openMem(_ context.Context, u *url.URL, _ *Options) (*store, error) {
	if u.RawQuery != "" {
		return nil, fmt.Errorf("parameters %q of a bucket in memory", u.RawQuery)
	}
	return &store{
		blob:         memblob.OpenBucket(nil),
		sums:         sumCRC32C,
		prepareWrite: func(_ func(any) bool, u *upload) error { u.stored = trusted; return nil },
	}, nil
}

// trusted is for stores that have refused what does not match before they answer.
func trusted(*sums) (known, same bool) { return true, true }

// transport is that of the standard library, of its own, so that it can be closed.
func transport() *http.Transport {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		return t.Clone()
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment}
}
