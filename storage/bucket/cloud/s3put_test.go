package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestContentThatFailsIsNotStored: only io.EOF is the end of what is to be stored. A
// source that was cut off says io.ErrUnexpectedEOF, and what came until then is no
// object.
func TestContentThatFailsIsNotStored(t *testing.T) {
	asked := errors.New("a request was sent")
	client := s3.New(s3.Options{
		Region: "r", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), RetryMaxAttempts: 1,
		BaseEndpoint: aws.String("http://127.0.0.1:1"),
		HTTPClient:   sender(func(*http.Request) (*http.Response, error) { return nil, asked }),
	})
	puts := newS3Puts(client, "b", &Options{PartSize: 8 << 20, Concurrency: 1})
	for name, tc := range map[string]struct{ failure, want error }{
		"the end":               {io.EOF, asked},
		"cut off":               {io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		"cut off, wrapped":      {fmt.Errorf("read a source: %w", io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		"a wrapped end":         {fmt.Errorf("read a source: %w", io.EOF), io.EOF},
		"another failure of it": {context.Canceled, context.Canceled},
	} {
		content := io.MultiReader(bytes.NewReader(make([]byte, 1000)), iotest.ErrReader(tc.failure))
		err := puts.put(t.Context(), "k", content, &upload{size: -1}, false)
		if !errors.Is(err, tc.want) || tc.want != asked && errors.Is(err, asked) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// sender answers requests.
type sender func(*http.Request) (*http.Response, error)

func (s sender) Do(r *http.Request) (*http.Response, error) { return s(r) }
