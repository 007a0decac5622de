package cloud

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	tmtypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// s3Puts puts objects into an S3 bucket. The driver's way begins an upload in parts
// from 16 MiB on, whatever the size of a part: three requests, each with its price,
// where one does; and it takes and clears the memory of several parts each time.
type s3Puts struct {
	client  *s3.Client
	bucket  string
	o       *Options
	manager *transfermanager.Client // of what is larger than a part
	parts   sync.Pool               // of *[]byte, a byte longer than a part
}

func newS3Puts(client *s3.Client, bucket string, o *Options) *s3Puts {
	return &s3Puts{client: client, bucket: bucket, o: o, manager: transfermanager.New(client, func(m *transfermanager.Options) {
		m.PartSizeBytes, m.Concurrency = int64(o.PartSize), o.Concurrency
		m.RequestChecksumCalculation = client.Options().RequestChecksumCalculation
	})}
}

// put stores what it reads up to io.EOF; after another error nothing is stored.
func (p *s3Puts) put(ctx context.Context, key string, from io.Reader, u *upload, ifAbsent bool) error {
	part := p.part(u.size)
	n, err := fill(*part, from)
	switch {
	case err == io.EOF: // as it is: whoever writes may wrap the end of something else
		err = p.whole(ctx, key, (*part)[:n], ifAbsent)
	case err == nil:
		err = p.inParts(ctx, key, io.MultiReader(bytes.NewReader(*part), from), ifAbsent)
	}
	// A request that failed may still be being sent: what it sends must not change.
	if err == nil && len(*part) == p.o.PartSize+1 {
		p.parts.Put(part)
	}
	return err
}

// fill reads until into is full, or from ends: io.EOF then, and from's own error
// otherwise, unlike io.ReadFull, whose io.ErrUnexpectedEOF may also be from's.
func fill(into []byte, from io.Reader) (n int, err error) {
	for n < len(into) && err == nil {
		var read int
		read, err = from.Read(into[n:])
		n += read
	}
	if n == len(into) {
		err = nil
	}
	return n, err
}

// part returns memory for a part and a byte more, which is there to see whether
// anything follows; less where less is known to be enough.
func (p *s3Puts) part(size int64) *[]byte {
	if size < 0 || size > int64(p.o.PartSize) {
		if kept, ok := p.parts.Get().(*[]byte); ok {
			return kept
		}
		size = int64(p.o.PartSize)
	}
	part := make([]byte, size+1)
	return &part
}

func (p *s3Puts) whole(ctx context.Context, key string, data []byte, ifAbsent bool) error {
	_, err := p.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(p.bucket), Key: aws.String(key), Body: bytes.NewReader(data),
		ContentType: aws.String(contentType), IfNoneMatch: absent(ifAbsent),
		StorageClass:         types.StorageClass(p.o.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(p.o.Encryption), SSEKMSKeyId: given(p.o.EncryptionKey),
	})
	return err
}

func (p *s3Puts) inParts(ctx context.Context, key string, from io.Reader, ifAbsent bool) error {
	_, err := p.manager.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket: aws.String(p.bucket), Key: aws.String(key), Body: from,
		ContentType: aws.String(contentType), IfNoneMatch: absent(ifAbsent),
		StorageClass:         tmtypes.StorageClass(p.o.StorageClass),
		ServerSideEncryption: tmtypes.ServerSideEncryption(p.o.Encryption), SSEKMSKeyID: given(p.o.EncryptionKey),
	})
	return err
}

// absent is the condition that there is no object yet.
func absent(is bool) *string {
	if is {
		return aws.String("*")
	}
	return nil
}

// given is nil for what is not.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
