package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"gocloud.dev/gcerrors"

	"rustmq.dev/rustmq/storage/bucket"
)

// The names of operations in errors.
const (
	opPut    = "put"
	opPutNew = "putifabsent"
	opRead   = "read"
	opStat   = "stat"
	opList   = "list"
	opDelete = "delete"
	opClose  = "close"
)

var (
	errDamaged    = errors.New("what is stored is not what was written")
	errWrongRange = errors.New("the store answered with another range")
	errUnordered  = errors.New("the store lists keys out of order")
	errListed     = errors.New("the store lists the key and does not find it")
)

// refusedOnce are the codes of answers that trying again can help, though their
// status says that the request was wrong.
var refusedOnce = []string{
	"RequestTimeout", "RequestTimeTooSkewed", "BadDigest", "XAmzContentChecksumMismatch", "IncompleteBody", // S3
	"ConditionalRequestConflict", "OperationAborted",
	"Crc64Mismatch", "Md5Mismatch", "OperationTimedOut", "ServerBusy", // Azure
}

// failed turns the error of a driver into one of the room.
func (b *cloudBucket) failed(ctx context.Context, op, key string, err error) error {
	var own *bucket.Error
	if errors.As(err, &own) {
		return err
	}
	e := &bucket.Error{Op: op, Key: key, Err: err}
	if ctx.Err() != nil {
		if !errors.Is(err, ctx.Err()) {
			e.Err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return e
	}
	status, code := 0, ""
	if b.store.status != nil {
		status, code = b.store.status(err)
	}
	is := func(as error) error {
		e.Err = fmt.Errorf("%w: %w", as, err)
		return e
	}
	switch {
	case status == 0:
		return b.withoutStatus(e, op)
	case op == opPutNew && (status == http.StatusPreconditionFailed || status == http.StatusConflict && !slices.Contains(refusedOnce, code)):
		return is(bucket.ErrExists)
	case status == http.StatusNotFound && slices.Contains(b.store.noKey, code):
		return is(bucket.ErrNotFound)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return is(io.ErrUnexpectedEOF)
	case status == http.StatusNotImplemented:
		return is(bucket.ErrUnsupported)
	}
	e.Temporary = status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
		slices.Contains(refusedOnce, code)
	return e
}

// withoutStatus judges an error that no server has answered with.
func (b *cloudBucket) withoutStatus(e *bucket.Error, op string) error {
	if b.store.status == nil { // there is no server, and the driver's word is the store's
		switch gcerrors.Code(e.Err) {
		case gcerrors.NotFound:
			e.Err = fmt.Errorf("%w: %w", bucket.ErrNotFound, e.Err)
			return e
		case gcerrors.FailedPrecondition:
			if op == opPutNew {
				e.Err = fmt.Errorf("%w: %w", bucket.ErrExists, e.Err)
				return e
			}
		}
	}
	switch gcerrors.Code(e.Err) {
	case gcerrors.InvalidArgument, gcerrors.Unimplemented:
	default:
		e.Temporary = true // the network, mostly
	}
	return e
}

// missing reports whether err says that something is not there, and leaves open
// what.
func (b *cloudBucket) missing(err error) bool {
	if b.store.status == nil {
		return false
	}
	status, code := b.store.status(err)
	return status == http.StatusNotFound && !slices.Contains(b.store.noKey, code)
}
