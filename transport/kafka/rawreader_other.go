//go:build !unix

package kafka

import (
	"errors"
	"net"
)

// rawReader is for systems whose sockets can be read before a buffer is made.
type rawReader struct{}

func newRawReader(net.Conn) *rawReader { return nil }

func (*rawReader) read(*reader) (int, error) { return 0, errors.ErrUnsupported }
