package roles

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"rustmq.dev/rustmq/console"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/storage"
)

// openHTTP starts metrics and health, and the API where there is a controller.
func (n *Node) openHTTP() error {
	listener, err := n.machine.listenTCP(n.config.HTTPBind(), n.config.Network.HTTPPort, "network.http_port", n.config.Security.AllowInsecure || n.config.HTTPGuarded())
	if err != nil {
		return err
	}
	n.httpAddr = listener.Addr().String()
	rest := n.config.Security.REST
	options := admin.Options{
		Metrics: n.metrics, Ready: n.Ready, InSync: n.InSync, Healthy: n.Healthy, Warnings: n.warnings, Status: n.status, Version: Version(), Log: n.log.With("room", "http"),
		Names: n.names(), Reachable: !listener.Addr().(*net.TCPAddr).IP.IsLoopback(),
		Audit: n.audit, Requests: rest.Requests, RequestsPerIP: rest.RequestsPerIP, ConnectionsPerIP: rest.ConnectionsPerIP,
	}
	if n.config.HTTPTLS() {
		options.TLS = n.httpConfig()
	}
	if n.door != nil && n.config.RESTAsks() {
		if options.Access, err = n.access(); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	options.Logs = n.logs
	if n.door != nil {
		options.Image = n.door.Image
		options.Authorization = admin.Authorization{On: n.config.Authorizes(), SuperUsers: n.superUsers()}
	}
	options.Console = console.Elsewhere()
	if n.servesAPI() {
		options.Console = console.Handler()
		options.Cluster, options.AckBeforeSync = n.door, n.ackBeforeSync()
		options.Brokers, options.Controllers = n.door, n.door
		options.Configuration = n
		options.TakeSnapshot = n.door.TakeSnapshot // by the controller that leads
		if n.controller != nil {
			options.TakeSnapshot = n.controller.TakeSnapshot
			options.Backup = func() []byte { return n.controller.Image().Snapshot() }
		}
		options.Transforms = n.transforms
		options.Bucket, options.Node = bucketDoor{n}, nodeDoor{n}
		if n.broker != nil {
			options.Groups, options.AuditLog, options.Holdings, options.Messages, options.Tellers = n.broker, n.broker, n.broker, n.broker, n.broker
		} else if n.peers != nil {
			front := n.openFront()
			options.Groups, options.AuditLog, options.Holdings, options.Messages, options.Tellers = front, front, front, front, front
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

// httpURL is where HTTP is dialled from elsewhere; "": that is not known.
func (n *Node) httpURL() string {
	host, port, err := net.SplitHostPort(n.httpAddr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		if host, err = n.reachableHost(host); err != nil {
			return ""
		}
	}
	scheme := "http"
	if n.config.HTTPTLS() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// prepareHTTP loads the certificates that network.http_port needs, where the listeners of
// Kafka have not.
func (n *Node) prepareHTTP() error {
	if !n.config.HTTPTLS() {
		return nil
	}
	if n.certificates == nil {
		if err := n.keepCertificate(); err != nil {
			return err
		}
	}
	if n.clients == nil {
		return n.openClients()
	}
	return nil
}

// httpConfig is that of TLS for HTTP. A certificate of the client is asked for where those of
// Kafka's clients are, and nobody needs one: probes have none, and a token or a password does
// as well.
func (n *Node) httpConfig() *tls.Config {
	config := n.certificates.ServerConfig(tls.VersionTLS13)
	if n.clients != nil {
		config = n.clients.optional.ServerConfig(config)
	}
	return config
}

// access is who may call the API.
func (n *Node) access() (*admin.Access, error) {
	if n.logins == nil && n.httpLogins == nil {
		logins, err := n.newLogins(nil)
		if err != nil {
			return nil, err
		}
		n.httpLogins = logins
		n.metrics.MustRegister(logins.Metrics())
	}
	hash, file, err := n.writeLocalToken()
	if err != nil {
		return nil, err
	}
	rest := n.config.Security.REST
	a := &admin.Access{
		Logins: n.logins, Bearer: n.tokenKeys != nil, LocalToken: hash, LocalTokenFile: file, Metrics: n.config.MetricsAsk(),
		SessionIdle: time.Duration(rest.SessionIdleTimeout), SessionLongest: time.Duration(rest.MaxSession),
	}
	if a.Logins == nil {
		a.Logins = n.httpLogins
	}
	if n.clients != nil {
		a.Certificate = n.certificateOf
	}
	scheme := "http"
	if n.config.HTTPTLS() {
		scheme = "https"
	}
	if n.servesAPI() {
		n.noteLocal(scheme, file)
	}
	return a, nil
}

// certificateOf is who has shown a certificate to HTTP, as for Kafka: where clients are asked
// who they are by SASL, a certificate alone says nothing.
func (n *Node) certificateOf(state tls.ConnectionState) (principal string, err error) {
	client, err := n.clients.optional.Identify(state)
	if err != nil || n.config.AsksBySASL() {
		return "", err
	}
	return client.Principal, nil
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

// warnings is what is not as it should be but for the bucket.
func (n *Node) warnings() (warnings []string) {
	if warning := n.listenerWarning(time.Now()); warning != "" {
		warnings = append(warnings, warning)
	}
	warnings = append(warnings, n.certificateWarnings()...)
	warnings = append(warnings, n.revocationWarnings()...)
	warnings = append(warnings, n.auditWarnings()...)
	if n.peers != nil && n.controller != nil {
		warnings = append(warnings, groupWarnings(uint64(n.config.Broker.ID), n.controller.Status())...)
	}
	return warnings
}

// status is where the node stands, in words, beside that it is well.
func (n *Node) status() []string {
	if n.peers == nil || n.controller == nil {
		return nil
	}
	return []string{groupLine(n.controller.Status())}
}
