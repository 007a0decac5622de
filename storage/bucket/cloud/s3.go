package cloud

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	gcaws "gocloud.dev/aws"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
)

func openS3(ctx context.Context, u *url.URL, o *Options) (*store, error) {
	query := u.Query()
	if o.Region != "" {
		query.Set("region", o.Region)
	}
	query.Set("request_checksum_calculation", o.Checksums)
	// The formats of this program have checksums of their own, ranges have none, and
	// there are servers that send wrong ones for objects of several parts.
	query.Set("response_checksum_validation", "when_required")
	cfg, err := gcaws.V2ConfigFromURLParams(ctx, query)
	if err != nil {
		return nil, err
	}
	// The SDK writes lines of its own to stderr, in front of what a program writes there
	// (that it falls back to IMDSv1, say). Those who hold the logger already, as the chain
	// of credentials, hold this one.
	if std, ok := cfg.Logger.(*logging.StandardLogger); ok {
		std.Logger.SetOutput(io.Discard)
	}
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	transport := transport()
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // with the CAs of the environment
		transport = c.GetTransport()
	}
	cfg.HTTPClient = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client := s3.NewFromConfig(cfg, func(c *s3.Options) {
		c.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
		c.APIOptions = append(c.APIOptions, keepReceipts)
	})
	b, err := s3blob.OpenBucket(ctx, client, u.Host, &s3blob.Options{
		EncryptionType:             types.ServerSideEncryption(o.Encryption),
		KMSEncryptionID:            o.EncryptionKey,
		RequestChecksumCalculation: cfg.RequestChecksumCalculation,
	})
	if err != nil {
		return nil, err
	}
	kind := sumCRC32 // which is what the SDK asks for
	if !o.sendChecksums() {
		kind |= sumCRC32C
	}
	return &store{
		blob:    b,
		sums:    kind,
		context: func(ctx context.Context) context.Context { return context.WithValue(ctx, receiptKey{}, &receipt{}) },
		put:     newS3Puts(client, u.Host, o).begin,
		prepareList: func(as func(any) bool, after string) {
			var in *s3.ListObjectsV2Input
			if as(&in) {
				in.StartAfter = aws.String(after)
			}
		},
		rangeOf: func(r *blob.Reader) (int64, bool) {
			var out s3.GetObjectOutput
			if !r.As(&out) || out.ContentRange == nil {
				return 0, false
			}
			return rangeStart(*out.ContentRange)
		},
		remove: func(ctx context.Context, key string) error {
			_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(u.Host), Key: aws.String(key)})
			return err
		},
		status: func(err error) (int, string) {
			var response *awshttp.ResponseError
			if !errors.As(err, &response) {
				return 0, ""
			}
			var api smithy.APIError
			if errors.As(err, &api) {
				return response.HTTPStatusCode(), api.ErrorCode()
			}
			return response.HTTPStatusCode(), ""
		},
		noKey: []string{"NoSuchKey"},
		close: transport.CloseIdleConnections,
	}, nil
}

// rangeStart reads "bytes 5-9/20".
func rangeStart(contentRange string) (int64, bool) {
	span, ok := strings.CutPrefix(contentRange, "bytes ")
	first, _, dash := strings.Cut(span, "-")
	off, err := strconv.ParseInt(first, 10, 64)
	return off, ok && dash && err == nil
}

// receipt is what S3 says of the object that it has stored.
type receipt struct {
	crc32, crc32c *string
	composite     bool
}

type receiptKey struct{}

// keepReceipts notes the checksums in the answers that end an upload.
func keepReceipts(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("keepReceipts", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		r, ok := ctx.Value(receiptKey{}).(*receipt)
		if err != nil || !ok {
			return out, metadata, err
		}
		switch answer := out.Result.(type) {
		case *s3.PutObjectOutput:
			r.crc32, r.crc32c = answer.ChecksumCRC32, answer.ChecksumCRC32C
			r.composite = answer.ChecksumType == types.ChecksumTypeComposite
		case *s3.CompleteMultipartUploadOutput:
			r.crc32, r.crc32c = answer.ChecksumCRC32, answer.ChecksumCRC32C
			// Unless it says otherwise, of CRC32 the sum of the sums.
			r.composite = answer.ChecksumType != types.ChecksumTypeFullObject
		}
		return out, metadata, err
	}), middleware.After)
}

// compare compares the store's checksum with ours.
func (r *receipt) compare(s *sums) (known, same bool) {
	switch {
	case r.crc32 != nil:
		value, _, parts := strings.Cut(*r.crc32, "-")
		want := s.whole()
		if parts || r.composite {
			want = s.composite()
		}
		return true, value == encoded(want)
	case r.crc32c != nil && !r.composite && s.kind&sumCRC32C != 0:
		return true, *r.crc32c == encoded(s.castagnoli)
	}
	return false, false
}

// encoded is a checksum as S3 writes it.
func encoded(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
