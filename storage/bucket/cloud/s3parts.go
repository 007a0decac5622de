package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	// mostParts of an object is S3's.
	mostParts = 10_000

	// abortWithin is how long it may take to give up an upload in parts, whose own context
	// may have ended.
	abortWithin = 30 * time.Second
)

// s3Parts is an object that is stored in parts, some of which are sent at once. Its methods
// are for the goroutine that writes the object.
type s3Parts struct {
	p        *s3Puts
	ctx      context.Context
	key, id  *string
	ifAbsent bool
	slots    chan struct{} // holds a token for each part that is being sent
	sending  sync.WaitGroup

	mu   sync.Mutex // guards what follows
	err  error      // the first
	done []types.CompletedPart
}

// inParts begins to store an object.
func (p *s3Puts) inParts(ctx context.Context, key string, ifAbsent bool) (*s3Parts, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: aws.String(p.bucket), Key: aws.String(key), ContentType: aws.String(contentType),
		StorageClass:         types.StorageClass(p.o.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(p.o.Encryption), SSEKMSKeyId: given(p.o.EncryptionKey),
	}
	if p.o.sendChecksums() {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32
	}
	out, err := p.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return nil, err
	}
	return &s3Parts{p: p, ctx: ctx, key: in.Key, id: out.UploadId, ifAbsent: ifAbsent, slots: make(chan struct{}, p.o.Concurrency)}, nil
}

// send has the next part sent, whose memory is no longer the caller's, and returns once it
// is under way. sum is its CRC32.
func (u *s3Parts) send(part []byte, sum uint32) error {
	select {
	case u.slots <- struct{}{}:
	case <-u.ctx.Done():
		u.fail(context.Cause(u.ctx))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil && len(u.done) == mostParts {
		u.err = fmt.Errorf("more than %d parts of %d bytes", mostParts, u.p.o.PartSize)
	}
	if u.err != nil {
		return u.err
	}
	u.done = append(u.done, types.CompletedPart{PartNumber: aws.Int32(int32(len(u.done) + 1))})
	number := len(u.done)
	// Blocks on the store.
	u.sending.Go(func() {
		defer func() { <-u.slots }()
		u.store(number, part, sum)
	})
	return nil
}

// store stores a part.
func (u *s3Parts) store(number int, part []byte, sum uint32) {
	in := &s3.UploadPartInput{
		Bucket: aws.String(u.p.bucket), Key: u.key, UploadId: u.id, PartNumber: aws.Int32(int32(number)), Body: newBody(part),
	}
	if u.p.o.sendChecksums() {
		in.ChecksumAlgorithm, in.ChecksumCRC32 = types.ChecksumAlgorithmCrc32, aws.String(encoded(sum))
	}
	out, err := u.p.client.UploadPart(u.ctx, in)
	if err != nil {
		u.fail(err)
		return
	}
	u.p.recycle(part)
	u.mu.Lock()
	defer u.mu.Unlock()
	of := &u.done[number-1]
	of.ETag, of.ChecksumCRC32 = out.ETag, out.ChecksumCRC32
}

// fail notes why the object cannot be stored. That its context has ended often follows
// from another failure, which then is the reason.
func (u *s3Parts) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil || errors.Is(u.err, context.Canceled) && !errors.Is(err, context.Canceled) {
		u.err = err
	}
}

// finish makes an object of what was sent.
func (u *s3Parts) finish() error {
	u.sending.Wait()
	if u.err == nil {
		_, u.err = u.p.client.CompleteMultipartUpload(u.ctx, &s3.CompleteMultipartUploadInput{
			Bucket: aws.String(u.p.bucket), Key: u.key, UploadId: u.id, IfNoneMatch: absent(u.ifAbsent),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.done},
		})
	}
	if u.err != nil {
		return u.abort()
	}
	return nil
}

// abort gives up what was sent, and returns why the object could not be stored, if
// something failed.
func (u *s3Parts) abort() error {
	u.sending.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), abortWithin)
	defer cancel()
	_, err := u.p.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: aws.String(u.p.bucket), Key: u.key, UploadId: u.id})
	if err != nil && u.err != nil {
		return fmt.Errorf("%w (and its parts stay: %v)", u.err, err) // what is said of those is not of the object
	}
	return u.err
}
