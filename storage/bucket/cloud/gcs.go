package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
)

func openGCS(ctx context.Context, u *url.URL, o *Options) (*store, error) {
	query := u.Query()
	anonymous := false
	for name, values := range query {
		if name != "anonymous" {
			return nil, fmt.Errorf("parameter %q: a GCS bucket has none of that name", name)
		}
		var err error
		if anonymous, err = strconv.ParseBool(values[0]); err != nil {
			return nil, fmt.Errorf("anonymous=%q: use true or false", values[0])
		}
	}
	transport := transport()
	client := gcp.NewAnonymousHTTPClient(transport)
	if !anonymous {
		credentials, err := gcp.DefaultCredentials(ctx)
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		if client, err = gcp.NewHTTPClient(transport, credentials.TokenSource); err != nil {
			return nil, err
		}
	}
	var options gcsblob.Options
	if o.Endpoint != "" {
		options.ClientOptions = append(options.ClientOptions,
			option.WithEndpoint(strings.TrimSuffix(o.Endpoint, "/")+"/storage/v1/"), storage.WithJSONReads())
	}
	b, err := gcsblob.OpenBucket(ctx, client, u.Host, &options)
	if err != nil {
		return nil, err
	}
	var driver *storage.Client
	if !b.As(&driver) {
		return nil, errors.New("the driver hides its client")
	}
	driver.SetRetry(storage.WithPolicy(storage.RetryNever))
	return &store{
		sums: sumCRC32C,
		blob: b,
		prepareWrite: func(as func(any) bool, u *upload) error {
			var w *storage.Writer
			if !as(&w) {
				return errors.New("the driver hides its writer")
			}
			if o.StorageClass != "" {
				w.StorageClass = o.StorageClass
			}
			w.KMSKeyName = o.EncryptionKey
			w.DisableAutoChecksum = !o.sendChecksums()
			if u.size >= 0 && u.size < int64(w.ChunkSize) { // one request, and no more memory than it takes
				w.ChunkSize = min(w.ChunkSize, (int(u.size)/googleapi.MinUploadChunkSize+1)*googleapi.MinUploadChunkSize)
			}
			u.stored = func(s *sums) (known, same bool) {
				attrs := w.Attrs()
				if attrs == nil || attrs.CRC32C == 0 && s.castagnoli != 0 {
					return false, false
				}
				return true, attrs.CRC32C == s.castagnoli && attrs.Size == s.size
			}
			return nil
		},
		prepareList: func(as func(any) bool, after string) {
			var q *storage.Query
			if as(&q) {
				q.StartOffset = after
			}
		},
		rangeOf: func(r *blob.Reader) (int64, bool) {
			var reader *storage.Reader
			if !r.As(&reader) {
				return 0, false
			}
			return reader.Attrs.StartOffset, true
		},
		status: func(err error) (int, string) {
			var api *googleapi.Error
			switch {
			case errors.As(err, &api):
				return api.Code, ""
			case errors.Is(err, storage.ErrObjectNotExist), errors.Is(err, storage.ErrBucketNotExist):
				return http.StatusNotFound, ""
			}
			return 0, ""
		},
		close: func() { _ = driver.Close(); transport.CloseIdleConnections() },
	}, nil
}
