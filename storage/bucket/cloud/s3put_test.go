package cloud

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// TestContentThatFailsIsNotStored: only content that says that it is whole is stored,
// whatever it fails with, in one part or in more.
func TestContentThatFailsIsNotStored(t *testing.T) {
	asked := errors.New("a request was sent")
	for name, failure := range map[string]error{
		"whole":                 nil,
		"the end":               io.EOF,
		"cut off":               io.ErrUnexpectedEOF,
		"cut off, wrapped":      fmt.Errorf("read a source: %w", io.ErrUnexpectedEOF),
		"another failure of it": context.Canceled,
	} {
		for _, size := range []int{1000, 9 << 20} {
			var completed atomic.Bool
			b := bucketOf(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") || r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") {
					completed.Store(true)
				}
				return nil, asked
			})
			content := writes(func(w io.Writer) error {
				if _, err := w.Write(make([]byte, size)); err != nil {
					return err
				}
				return failure
			})
			err := b.Put(t.Context(), "k", content)
			if failure == nil && !errors.Is(err, asked) || failure != nil && (completed.Load() || !errors.Is(err, failure) && size == 1000) {
				t.Errorf("%s, %d bytes: %v, and it was stored: %v", name, size, err, completed.Load())
			}
		}
	}
}

// TestThePartIsSummedAsItWasPacked: the store is told the checksum of what was written, and
// so refuses a byte that changed in the memory that it is sent from.
func TestThePartIsSummedAsItWasPacked(t *testing.T) {
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, checksums := range []string{"when_supported", "when_required"} {
		told, sent := "", uint32(0)
		b := bucketOf(func(r *http.Request) (*http.Response, error) {
			told = r.Header.Get("x-amz-checksum-crc32")
			body, err := io.ReadAll(r.Body)
			sent = crc32.ChecksumIEEE(body)
			return nil, errors.Join(errors.New("not stored"), err)
		})
		b.o.Checksums = checksums
		b.Put(t.Context(), "k", writes(func(w io.Writer) error {
			for rest := data; len(rest) > 0; rest = rest[min(len(rest), 7000):] {
				if _, err := w.Write(rest[:min(len(rest), 7000)]); err != nil {
					return err
				}
			}
			return nil
		}))
		want := crc32.ChecksumIEEE(data)
		if sent != want || checksums == "when_supported" && told != encoded(want) || checksums == "when_required" && told != "" {
			t.Errorf("%s: told %q, sent %08x, want %08x", checksums, told, sent, want)
		}
	}
}

// TestMoreThanWasSaidIsStored: the size of content is a hint for memory.
func TestMoreThanWasSaidIsStored(t *testing.T) {
	for _, size := range []int{0, 10, 11, 8 << 20} {
		stored := -1
		b := bucketOf(func(r *http.Request) (*http.Response, error) {
			var body []byte
			var err error
			if r.Body != nil {
				body, err = io.ReadAll(r.Body)
			}
			stored = len(body)
			return nil, errors.Join(errors.New("not stored"), err)
		})
		b.Put(t.Context(), "k", sized{writes(func(w io.Writer) error {
			_, err := w.Write(make([]byte, size))
			return err
		}), 10})
		if stored != size {
			t.Errorf("%d bytes of %d", stored, size)
		}
	}
}

// writes is content that a function writes.
type writes func(io.Writer) error

func (w writes) WriteTo(to io.Writer) (int64, error) { return 0, w(to) }

type sized struct {
	writes
	size int64
}

func (s sized) Size() int64 { return s.size }

// bucketOf is one in S3 whose requests are answered by a function; parts have 8 MiB.
func bucketOf(answer sender) *cloudBucket {
	b := &cloudBucket{o: Options{PartSize: 8 << 20, Concurrency: 1, Checksums: "when_supported"}}
	client := s3.New(s3.Options{
		Region: "r", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), RetryMaxAttempts: 1,
		BaseEndpoint: aws.String("http://127.0.0.1:1"), HTTPClient: answer,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		APIOptions:                 []func(*middleware.Stack) error{keepReceipts},
	})
	b.store = &store{
		put: newS3Puts(client, "b", &b.o).begin, sums: sumCRC32, status: func(error) (int, string) { return 0, "" },
		context: func(ctx context.Context) context.Context { return context.WithValue(ctx, receiptKey{}, &receipt{}) },
	}
	return b
}

// sender answers requests.
type sender func(*http.Request) (*http.Response, error)

func (s sender) Do(r *http.Request) (*http.Response, error) { return s(r) }
