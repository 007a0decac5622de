package roles

import (
	"context"
	"errors"
	"net"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/storage"
)

// openHTTP starts metrics and health, and the API where there is a controller.
func (n *Node) openHTTP() error {
	listener, err := n.machine.listenTCP(n.config.HTTPBind(), n.config.Network.HTTPPort, "network.http_port", n.config.Security.AllowInsecure)
	if err != nil {
		return err
	}
	n.httpAddr = listener.Addr().String()
	options := admin.Options{
		Metrics: n.metrics, Ready: n.Ready, Healthy: n.Healthy, Warnings: n.warnings, Status: n.status, Version: Version(), Log: n.log.With("room", "http"),
		Names: n.names(), Reachable: !listener.Addr().(*net.TCPAddr).IP.IsLoopback(),
	}
	if n.servesAPI() {
		options.Cluster, options.AckBeforeSync = n.door, n.ackBeforeSync()
		options.Brokers, options.Controllers = n.door, n.door
		options.Authorization = admin.Authorization{On: n.config.Authorizes(), SuperUsers: n.superUsers()}
		if n.controller != nil {
			options.TakeSnapshot = n.controller.TakeSnapshot
		}
		options.Bucket, options.Certificates = bucketDoor{n}, n.certificateWarnings
		if n.broker != nil {
			options.Groups, options.AuditLog = n.broker, n.broker
		}
	}
	if n.store != nil {
		options.Partition = n.partition
	}
	n.http = admin.New(options)
	server := n.http
	n.opened("HTTP", func(ctx context.Context) error {
		ctx, cancel := share(ctx, httpShare)
		defer cancel()
		err := server.Close(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			n.log.Warn("some HTTP clients did not take their last answers in time", "error", err)
			return nil
		}
		return err
	})
	n.serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			n.fail(err)
		}
	})
	return nil
}

func (n *Node) servesAPI() bool {
	return n.door != nil && (n.has("controller") || n.has("admin"))
}

// partition answers the admin API from the store.
func (n *Node) partition(id storage.PartitionID) (admin.PartitionState, bool) {
	l, ok := n.store.Log(id)
	if !ok {
		return admin.PartitionState{}, false
	}
	f := l.Footprint()
	return admin.PartitionState{LogStart: l.LogStart(), HighWatermark: l.HighWatermark(), LocalStart: l.LocalStart(), WALBytes: f.WAL, MemoryBytes: f.Memory}, true
}
