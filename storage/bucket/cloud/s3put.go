package cloud

import (
	"context"
	"runtime"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// s3Puts puts objects into an S3 bucket. The driver's way begins an upload in parts
// from 16 MiB on, whatever the size of a part: three requests, each with its price,
// where one does; it takes and clears the memory of several parts each time, and it sums
// a part by one call, for as long as which nobody else runs on that processor.
type s3Puts struct {
	client *s3.Client
	bucket string
	o      *Options
	parts  sync.Pool // of *[]byte, of a part
}

func newS3Puts(client *s3.Client, bucket string, o *Options) *s3Puts {
	return &s3Puts{client: client, bucket: bucket, o: o}
}

// s3Put is one of them. What is written goes into the memory of a part, from which it is
// sent once all of it is there, or that is full.
type s3Put struct {
	p        *s3Puts
	ctx      context.Context
	key      string
	u        *upload
	ifAbsent bool
	part     []byte   // the last
	more     *s3Parts // those before it; nil: there are none
	sent     int      // of them
	busy     int      // bytes since it let others run
}

func (p *s3Puts) begin(ctx context.Context, key string, u *upload, ifAbsent bool) put {
	return &s3Put{p: p, ctx: ctx, key: key, u: u, ifAbsent: ifAbsent, part: p.memory(u.size)}
}

// memory returns that of a part; less where less is known to be enough.
func (p *s3Puts) memory(size int64) []byte {
	if size >= 0 && size < int64(p.o.PartSize) {
		return make([]byte, 0, size)
	}
	if kept, ok := p.parts.Get().(*[]byte); ok {
		return (*kept)[:0]
	}
	return make([]byte, 0, p.o.PartSize)
}

// recycle takes memory that nothing sends any more.
func (p *s3Puts) recycle(part []byte) {
	if cap(part) == p.o.PartSize {
		p.parts.Put(&part)
	}
}

// Write implements io.Writer.
func (w *s3Put) Write(b []byte) (n int, err error) {
	if w.busy += len(b); w.busy >= yieldEvery { // what is packed was read, checked and copied
		w.busy = 0
		runtime.Gosched()
	}
	for n < len(b) {
		if len(w.part) == w.p.o.PartSize {
			if err := w.send(); err != nil {
				return n, err
			}
			w.part = w.p.memory(-1)
		}
		rest := b[n:]
		if need := len(w.part) + len(rest); need > cap(w.part) && cap(w.part) < w.p.o.PartSize { // more than was said
			w.part = append(w.p.memory(-1), w.part...)
		}
		m := min(len(rest), w.p.o.PartSize-len(w.part))
		w.part = append(w.part, rest[:m]...)
		n += m
	}
	return n, nil
}

// send has the last part sent, of several.
func (w *s3Put) send() (err error) {
	if w.more == nil {
		if w.more, err = w.p.inParts(w.ctx, w.key, w.ifAbsent); err != nil {
			return err
		}
	}
	part := w.part
	w.part = nil
	w.sent++
	return w.more.send(part, w.u.sums.ofPart(w.sent-1))
}

func (w *s3Put) finish() error {
	if w.more == nil {
		err := w.whole()
		if err == nil { // a request that failed may still be being sent: what it sends must not change
			w.p.recycle(w.part)
		}
		return err
	}
	if w.send() != nil {
		return w.more.abort()
	}
	return w.more.finish()
}

func (w *s3Put) abort(error) error {
	w.p.recycle(w.part)
	if w.more != nil {
		return w.more.abort()
	}
	return nil
}

// whole stores what there is by one request. The store compares what comes with what was
// summed as it was packed, before it lay in the memory that is sent.
func (w *s3Put) whole() error {
	o := w.p.o
	in := &s3.PutObjectInput{
		Bucket: aws.String(w.p.bucket), Key: aws.String(w.key), Body: newBody(w.part),
		ContentType: aws.String(contentType), IfNoneMatch: absent(w.ifAbsent),
		StorageClass:         types.StorageClass(o.StorageClass),
		ServerSideEncryption: types.ServerSideEncryption(o.Encryption), SSEKMSKeyId: given(o.EncryptionKey),
	}
	if o.sendChecksums() {
		in.ChecksumCRC32 = aws.String(encoded(w.u.sums.whole()))
	}
	_, err := w.p.client.PutObject(w.ctx, in)
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
