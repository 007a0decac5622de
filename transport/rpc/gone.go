package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// watch tells when a line that stood breaks and cannot be made again at once: the other
// process has ended, as far as one can tell, for the kernel closes the lines and ports of
// one that has. Of a machine that is gone, or cut off, nothing is told. It blocks on the
// line, until ctx ends or the line is given up.
func watch(ctx context.Context, line *grpc.ClientConn, gone func()) {
	stood := false
	for {
		state := line.GetState()
		switch state {
		case connectivity.Ready:
			stood = true
		case connectivity.Idle:
			if stood {
				line.Connect()
			}
		case connectivity.TransientFailure:
			if stood {
				stood = false
				gone()
			}
		case connectivity.Shutdown:
			return
		}
		if !line.WaitForStateChange(ctx, state) {
			return
		}
	}
}
