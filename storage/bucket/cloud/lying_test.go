//go:build suites

package cloud_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/bucket/cloud"
)

// liar stands in front of an S3 server.
type liar struct {
	http.Handler
	requests atomic.Int64
	lie      atomic.Pointer[func(w http.ResponseWriter, r *http.Request, honest http.Handler)]
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.requests.Add(1)
	if lie := l.lie.Load(); lie != nil {
		(*lie)(w, r, l.Handler)
		return
	}
	l.Handler.ServeHTTP(w, r)
}

func (l *liar) tell(lie func(w http.ResponseWriter, r *http.Request, honest http.Handler)) {
	l.lie.Store(&lie)
}

// refuse answers everything with a status.
func refuse(status int, header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

func lyingS3(t testing.TB, o cloud.Options) (bucket.Bucket, *liar) {
	t.Helper()
	backend := s3mem.New()
	must(t, backend.CreateBucket("b"))
	l := &liar{Handler: gofakes3.New(backend).Server()}
	return open(t, s3URL(t, l), o), l
}

// TestDamageInTheStoreFailsThePut: phase two of a commit must not come when what
// the store has is not what was packed.
func TestDamageInTheStoreFailsThePut(t *testing.T) {
	for _, o := range []cloud.Options{{Checksums: "when_required"}, {Verify: cloud.VerifyReadBack}} {
		b, l := lyingS3(t, o)
		l.tell(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			if r.Method != http.MethodGet {
				honest.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			honest.ServeHTTP(answer, r)
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			body := answer.Body.Bytes()
			body[len(body)/2] ^= 4
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body)
		})
		for op, err := range map[string]error{
			"put":         b.Put(t.Context(), "a", bucket.Bytes(make([]byte, 100_000))),
			"putifabsent": b.PutIfAbsent(t.Context(), "b", make([]byte, 100_000)),
		} {
			if err == nil || !bucket.IsTemporary(err) {
				t.Fatalf("%s: %v", op, err)
			}
		}
		// What was put if absent is damaged for sure, and must not stand in the way.
		l.lie.Store(nil)
		must(t, b.PutIfAbsent(t.Context(), "b", []byte("whole")))
	}
}

// TestOtherRangesAreRefused: a proxy that drops or changes the header must not
// make a reader take one part of an object for another.
func TestOtherRangesAreRefused(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 1000)
	for name, lie := range map[string]func(w http.ResponseWriter, r *http.Request, honest http.Handler){
		"shifted": func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			var first, last int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first+10, last+10))
			honest.ServeHTTP(w, r)
		},
		"dropped": func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			r.Header.Del("Range")
			honest.ServeHTTP(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, l := lyingS3(t, cloud.Options{})
			must(t, b.Put(t.Context(), "k", bucket.Bytes(data)))
			l.tell(lie)
			for _, off := range []int64{0, 20} {
				err := b.ReadAt(t.Context(), "k", make([]byte, 50), off)
				if err == nil || !bucket.IsTemporary(err) || errors.Is(err, bucket.ErrNotFound) {
					t.Errorf("at %d: %v", off, err)
				}
			}
		})
	}
}

func TestCutBodyIsTemporary(t *testing.T) {
	b, l := lyingS3(t, cloud.Options{})
	must(t, b.Put(t.Context(), "k", bucket.Bytes(make([]byte, 1000))))
	l.tell(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Range", "bytes 0-499/1000")
		w.Header().Set("Content-Length", "500")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 100))
	})
	err := b.ReadAt(t.Context(), "k", make([]byte, 500), 0)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !bucket.IsTemporary(err) {
		t.Fatal(err)
	}
}

// TestMissingBucketIsNotAMissingKey: what is deleted, or repaired, because it is
// missing, is so only on the store's word about that very key.
func TestMissingBucketIsNotAMissingKey(t *testing.T) {
	b := open(t, strings.Replace(s3(t), "s3://b?", "s3://other?", 1), cloud.Options{})
	for op, err := range calls(t, b) {
		if err == nil || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrExists) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestListOutOfOrderIsAnError(t *testing.T) {
	b, l := lyingS3(t, cloud.Options{})
	l.tell(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		object := `<Contents><Key>%s</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents>`
		_, _ = fmt.Fprintf(w, "<ListBucketResult>"+object+object+"</ListBucketResult>", "b", "a")
	})
	var keys []string
	err := b.List(t.Context(), "", "", func(i bucket.Info) bool { keys = append(keys, i.Key); return true })
	if err == nil || len(keys) != 1 {
		t.Fatalf("%q %v", keys, err)
	}
}

// servers are the three clouds, each behind an answer that a test gives.
func servers(t testing.TB, answer http.Handler) map[string]bucket.Bucket {
	t.Helper()
	t.Setenv("AZURE_STORAGE_ACCOUNT", "account")
	t.Setenv("AZURE_STORAGE_KEY", "a2V5")
	return map[string]bucket.Bucket{
		"s3":    open(t, s3URL(t, answer), cloud.Options{}),
		"gcs":   open(t, "gs://b?anonymous=true", cloud.Options{Endpoint: serve(t, answer)}),
		"azure": open(t, "azblob://b", cloud.Options{Endpoint: serve(t, answer)}),
	}
}

// calls makes each call once.
func calls(t testing.TB, b bucket.Bucket) map[string]error {
	t.Helper()
	_, stat := b.Stat(t.Context(), "k")
	return map[string]error{
		"stat":        stat,
		"put":         b.Put(t.Context(), "k", bucket.Bytes("x")),
		"putifabsent": b.PutIfAbsent(t.Context(), "k", []byte("x")),
		"read":        b.ReadAt(t.Context(), "k", make([]byte, 1), 0),
		"list":        b.List(t.Context(), "", "", func(bucket.Info) bool { return true }),
		"delete":      b.Delete(t.Context(), "k"),
	}
}

// TestDriversDoNotRetry: the budget of retries holds only if each attempt is one
// request.
func TestDriversDoNotRetry(t *testing.T) {
	l := &liar{}
	all := servers(t, l)
	for _, status := range []int{500, 503, 429, 408} {
		l.tell(refuse(status))
		for name, b := range all {
			l.requests.Store(0)
			made := calls(t, b)
			for op, err := range made {
				if !bucket.IsTemporary(err) || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrExists) {
					t.Errorf("%s, %d: %s: %v", name, status, op, err)
				}
			}
			if n := l.requests.Load(); n != int64(len(made)) {
				t.Errorf("%s, %d: %d requests for %d calls", name, status, n, len(made))
			}
		}
	}
}

// TestRefusalIsNotAbsence: neither a permission that is missing, nor a proxy that
// knows no such page, says that a key is missing.
func TestRefusalIsNotAbsence(t *testing.T) {
	l := &liar{}
	all := servers(t, l)
	for _, status := range []int{401, 403, 404, 400} {
		l.tell(refuse(status))
		for name, b := range all {
			for op, err := range calls(t, b) {
				if err == nil || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrExists) || bucket.IsTemporary(err) {
					t.Errorf("%s, %d: %s: %v", name, status, op, err)
				}
			}
		}
	}
}

func TestCodesOfAzure(t *testing.T) {
	l := &liar{}
	b := servers(t, l)["azure"]
	l.tell(refuse(http.StatusNotFound, "x-ms-error-code", "BlobNotFound"))
	_, err := b.Stat(t.Context(), "k")
	wantErr(t, err, bucket.ErrNotFound)
	must(t, b.Delete(t.Context(), "k"))
	wantErr(t, b.ReadAt(t.Context(), "k", make([]byte, 1), 0), bucket.ErrNotFound)
	l.tell(refuse(http.StatusNotFound, "x-ms-error-code", "ContainerNotFound"))
	if _, err := b.Stat(t.Context(), "k"); err == nil || errors.Is(err, bucket.ErrNotFound) || strings.Contains(err.Error(), "\n") {
		t.Fatal(err)
	}
	l.tell(refuse(http.StatusConflict, "x-ms-error-code", "BlobAlreadyExists"))
	wantErr(t, b.PutIfAbsent(t.Context(), "k", []byte("x")), bucket.ErrExists)
	l.tell(refuse(http.StatusRequestedRangeNotSatisfiable, "x-ms-error-code", "InvalidRange"))
	wantErr(t, b.ReadAt(t.Context(), "k", make([]byte, 1), 9), io.ErrUnexpectedEOF)
	l.tell(refuse(http.StatusBadRequest, "x-ms-error-code", "Crc64Mismatch"))
	if err := b.Put(t.Context(), "k", bucket.Bytes("x")); !bucket.IsTemporary(err) {
		t.Fatal(err)
	}
}

// withReceipts answers an upload with the checksum that it came with, as S3 does,
// under a name.
func withReceipts(name string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if sum := r.Header.Get("x-amz-checksum-crc32"); sum != "" {
			w.Header().Set(name, sum)
		}
		honest.ServeHTTP(w, r)
	}
}

// TestReceiptsAreCompared: a checksum that is another fails the put.
func TestReceiptsAreCompared(t *testing.T) {
	b, l := lyingS3(t, cloud.Options{})
	l.tell(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		w.Header().Set("x-amz-checksum-crc32", "AAAAAA==")
		honest.ServeHTTP(w, r)
	})
	if err := b.Put(t.Context(), "k", bucket.Bytes("x")); !bucket.IsTemporary(err) {
		t.Fatal(err)
	}
	l.tell(withReceipts("x-amz-checksum-crc32"))
	must(t, b.Put(t.Context(), "k", bucket.Bytes("x")))
}

// TestRequestsOfOneCall is what each call costs, where nothing goes wrong.
func TestRequestsOfOneCall(t *testing.T) {
	b, l := lyingS3(t, cloud.Options{})
	count := func(what string, want int64, err error) {
		t.Helper()
		must(t, err)
		if got := l.requests.Swap(0); got != want {
			t.Errorf("%s: %d requests, want %d", what, got, want)
		}
	}
	count("put, read back", 2, b.Put(t.Context(), "k", bucket.Bytes("x")))
	l.tell(withReceipts("x-amz-checksum-crc32"))
	count("put", 1, b.Put(t.Context(), "k", bucket.Bytes("x")))
	count("put of several parts, read back", 5, b.Put(t.Context(), "large", bucket.Bytes(make([]byte, 17<<20))))
	count("read", 1, b.ReadAt(t.Context(), "k", make([]byte, 1), 0))
	_, err := b.Stat(t.Context(), "k")
	count("stat", 1, err)
	count("put if absent", 1, b.PutIfAbsent(t.Context(), "new", []byte("x")))
	count("list", 1, b.List(t.Context(), "", "", func(bucket.Info) bool { return true }))
	count("delete", 1, b.Delete(t.Context(), "k"))
	count("delete none", 1, b.Delete(t.Context(), "none"))
}

// TestWhatFitsInAPartIsOneRequest: each request of an upload has a price, and an
// upload in parts has two more than parts.
func TestWhatFitsInAPartIsOneRequest(t *testing.T) {
	const part = 17 << 20 // above the size from which on the SDK makes parts
	b, l := lyingS3(t, cloud.Options{PartSize: part})
	for _, c := range []struct {
		size  int
		sized bool
		want  int64
	}{
		{part, false, 1}, {part, true, 1}, {part + 1, false, 4}, {0, false, 1},
	} {
		data := make([]byte, c.size)
		for i := range data {
			data[i] = byte(i >> 8)
		}
		content := io.WriterTo(bucket.Bytes(data))
		if !c.sized {
			content = unsized{bucket.Bytes(data)}
		}
		l.requests.Store(0)
		must(t, b.Put(t.Context(), "k", content))
		if got := l.requests.Load() - 1; got != c.want { // it is read back
			t.Errorf("%d bytes, size known %v: %d requests, want %d", c.size, c.sized, got, c.want)
		}
		if got, err := bucket.ReadAll(t.Context(), b, "k", 1<<30); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, size known %v: read %d others (%v)", c.size, c.sized, len(got), err)
		}
	}
}

// unsized does not say how much it writes.
type unsized struct{ content io.WriterTo }

func (u unsized) WriteTo(w io.Writer) (int64, error) { return u.content.WriteTo(w) }

func TestOptionsAreRead(t *testing.T) {
	for _, bad := range []string{
		"ftp://x", "s3://b?part_size=1", "s3://b?part_size=x", "s3://b?verify=never", "s3://b?checksums=no", "s3://b?use_path_style=perhaps",
		"mem://?x=y", "gs://b?x=y", "s3://b?prefix=../x", "s3://b?concurrency=-1", "%", "gs://b?anonymous=perhaps", "s3://b?no_such=1",
	} {
		if b, err := cloud.Open(t.Context(), bad, cloud.Options{}); err == nil {
			t.Errorf("%s was opened: %v", bad, b)
		}
	}
}
