package cloud

import (
	"bufio"
	"io"
)

// put is an object being written. One of finish and abort is called, once.
type put interface {
	io.Writer
	// finish stores what was written.
	finish() error
	// abort gives it up: what was written is no object. The context that the put was begun
	// under has ended. It returns why the store would have failed, where it did before.
	abort(cause error) error
}

// writeBuffer gathers small writes; each write into the pipe wakes a goroutine.
const writeBuffer = 256 << 10

// piped is a put whose store reads.
type piped struct {
	*bufio.Writer
	pipe   *io.PipeWriter
	stored chan error
}

// pipeTo has store read what is written, up to io.EOF, or to the cause of an abort.
func pipeTo(store func(from io.Reader) error) *piped {
	from, pipe := io.Pipe()
	p := &piped{bufio.NewWriterSize(pipe, writeBuffer), pipe, make(chan error, 1)}
	go func() {
		err := store(from)
		from.CloseWithError(err)
		p.stored <- err
	}()
	return p
}

func (p *piped) finish() error {
	if err := p.Flush(); err != nil { // the store has ended, and says why
		return p.abort(err)
	}
	p.pipe.Close()
	return <-p.stored
}

func (p *piped) abort(cause error) error {
	p.pipe.CloseWithError(cause)
	return <-p.stored
}
