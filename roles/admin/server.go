package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage"
)

// Limits of the HTTP server, each against a client that never ends.
const (
	headerTimeout  = 5 * time.Second  // a header is small
	requestTimeout = 30 * time.Second // so is a body
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	maxBodyBytes   = 1 << 20

	// An answer is held as long as it is not taken: so much of it is to go out in such
	// a time.
	writeTimeout = 10 * time.Second
	writeChunk   = 256 << 10

	// Connections, and answers that are made or sent at once, which may be of MiB; an
	// operator, a few programs and scrapers have a handful.
	maxConnections = 256
	maxRequests    = 16 // of the API
	maxScrapes     = 4

	// What a caller may ask for a second: a page that is open asks a few times, a script as
	// fast as it can.
	defaultRequests         = 1000
	defaultRequestsPerIP    = 200
	defaultConnectionsPerIP = 64
)

// Paths of what watches a process.
const (
	metricsPath = "/metrics"
	healthPath  = "/healthz"
	readyPath   = "/readyz"
)

// Options of a Server.
type Options struct {
	// Metrics is what /metrics exports.
	Metrics prometheus.Gatherer
	// Ready says why the process cannot serve yet, or nil.
	Ready func() error
	// InSync is Ready, and says too why no other process of the cluster should be stopped yet;
	// /readyz?in-sync asks it. nil: it is as Ready.
	InSync func() error
	// Healthy says why the process needs a person, or nil.
	Healthy func() error
	// Warnings is what is not as it should be, in words, beside what Bucket says; nil:
	// nobody looks.
	Warnings func() []string
	// Status is where the process stands, in words, which /healthz says when it is well;
	// nil: nothing is said.
	Status func() []string
	// Cluster serves /api/v1 when it is not nil.
	Cluster Cluster
	// Brokers serves /api/v1/brokers, and Controllers /api/v1/controllers, beside Cluster,
	// where they are not nil.
	Brokers     Brokers
	Controllers Controllers
	// TakeSnapshot has the controller of this process, or where there is none the one that
	// leads, take a snapshot, and returns its index; nil: nobody can be asked.
	TakeSnapshot func(context.Context) (uint64, error)
	// Backup is the metadata as a snapshot, with what of it is secret; nil: this process does
	// not have it all.
	Backup func() []byte
	// Partition tells what a partition holds in this process, if it is here; nil
	// without the broker role.
	Partition func(storage.PartitionID) (PartitionState, bool)
	// Holdings asks the leaders of partitions what they hold; nil: only Partition is asked.
	Holdings Holdings
	// Tellers asks the brokers what is of their processes, and serves /api/v1/nodes beside Cluster; nil: it cannot.
	Tellers Tellers
	// Messages serves /api/v1/topics/{name}/records, beside Cluster, when it is not nil.
	Messages Messages
	// Node is what the process knows of itself, and serves /api/v1/node beside Cluster; nil: nothing
	// is told.
	Node Node
	// Groups serves /api/v1/groups, beside Cluster, when it is not nil.
	Groups Groups
	// Transforms serves /api/v1/etl, beside Cluster, when it is not nil.
	Transforms Transforms
	// Configuration serves /api/v1/config, beside Cluster, when it is not nil.
	Configuration Configuration
	// AuditLog serves /api/v1/audit, beside Cluster, when it is not nil.
	AuditLog AuditLog
	// Image is the metadata that callers are judged by, where there is no Cluster; nil: what
	// Cluster has.
	Image func() *metadata.Image
	// Console is what a browser finds at any path that is nothing else; nil: nothing.
	Console http.Handler
	// Logs is what /debug/logs tells; nil: nothing is kept.
	Logs LogLines
	// Access is who may call /api/v1; nil: whoever reaches the server, which is not asked.
	Access *Access
	// Audit is told of what changes something, and of what is refused; nil: nobody is.
	Audit audit.Recorder
	// TLS is what the server speaks, with HTTP/1.1; nil: HTTP in the clear.
	TLS *tls.Config
	// Requests a second of the API that are served, of all callers and of one address, and
	// ConnectionsPerIP from one that is not loopback; 0: the defaults.
	Requests, RequestsPerIP, ConnectionsPerIP int
	// Authorization is by what /api/v1/acls/check decides, beside Cluster.
	Authorization Authorization
	// Bucket serves /api/v1/storage, beside Cluster, when it is not nil.
	Bucket Bucket
	// AckBeforeSync is how long before the disk acks may come here, and so what a
	// power cut can lose of what was acked; 0: they come after it.
	AckBeforeSync time.Duration
	// Names are the server's own, beside localhost, by which it may be called.
	Names []string
	// Reachable says that others than this machine reach the server.
	Reachable bool
	// Version is what the OpenAPI document calls itself.
	Version string
	Log     *slog.Logger

	sights      *sightings
	recorder    *recorder
	lags        *lagHistory
	streamPulse pulse // zero: that of stream.go
}

// Server is the HTTP side of a process.
type Server struct {
	http *http.Server
	log  *slog.Logger
	tls  *tls.Config
	// perAddress is how many connections an address may have.
	perAddress atomic.Int64
	rates      *rateLimits // of the API, and of what looks into the process
	// rows is what the routes ask for.
	rows []Row
	// sights are the problems that the cluster has had, nil: nobody asks for them.
	sights *sightings
	// recorder keeps an hour of the cluster, as sights.
	recorder *recorder
	lags     *lagHistory // of groups; nil: nobody asks for it
	// stop ends requests that may take long, so that Close need not wait for them.
	stop     context.CancelFunc
	stopping context.Context // ends with stop
}

// New returns a server that has not started to listen.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Audit == nil {
		o.Audit = audit.Discard
	}
	fillLimits(&o)
	d := newDoor(o, time.Now)
	stopping, stop := context.WithCancel(context.Background())
	s := &Server{log: o.Log, stop: stop, stopping: stopping, tls: httpOnly(o.TLS)}
	s.perAddress.Store(int64(o.ConnectionsPerIP))
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, remembers(d.asksForMetrics(promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))))
	mux.Handle("GET "+healthPath, d.briefs(probe(o.Healthy, o.Status, nil, nil)))
	mux.Handle("GET "+readyPath, d.briefs(readiness(o)))
	s.rates = newRateLimits(o.Requests, o.RequestsPerIP)
	mux.Handle(debugPath, limitRates(remembers(d.debug(stopping)), s.rates, d.now))
	if o.Console != nil {
		mux.Handle("/", o.Console)
	}
	if o.Cluster != nil {
		s.sights = newSightings()
		s.recorder = newRecorder(o.Tellers, func() float64 { return float64(o.Cluster.Image().LiveBytes()) })
		o.sights, o.recorder = s.sights, s.recorder
		if o.Groups != nil {
			s.lags = newLagHistory(o.Groups)
			o.lags = s.lags
		}
		calls := http.NewServeMux()
		served := registerAPI(calls, o, d, stopping)
		s.rows = append(served.rows, debugRows()...)
		mux.Handle("GET "+docsPath, limitRates(docsPage(served.OpenAPI()), s.rates, d.now))
		mux.Handle("/api/v1/", limitRates(remembers(d.asks(takeBodies(limitRequests(calls, maxRequests)))), s.rates, d.now))
	}
	s.http = &http.Server{
		Handler:           keepsPlaces(boundBodies(boundWrites(plainPaths(d.refuseBrowsers(mux))))),
		ConnContext:       withPlace,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// SetLimits changes how many calls of the API are served a second, of all callers and of one
// address, and how many connections an address may have. Those that there are stay.
func (s *Server) SetLimits(requests, requestsPerIP, connectionsPerIP int) {
	s.perAddress.Store(int64(connectionsPerIP))
	s.rates.set(requests, requestsPerIP)
}

// fillLimits takes the defaults for what is not said.
func fillLimits(o *Options) {
	for _, limit := range []struct {
		of   *int
		most int
	}{{&o.Requests, defaultRequests}, {&o.RequestsPerIP, defaultRequestsPerIP}, {&o.ConnectionsPerIP, defaultConnectionsPerIP}} {
		if *limit.of <= 0 {
			*limit.of = limit.most
		}
	}
}

// httpOnly is a configuration of TLS for a server of HTTP/1.1: one request at a time on each
// connection, so that what bounds connections bounds requests.
func httpOnly(config *tls.Config) *tls.Config {
	if config == nil {
		return nil
	}
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	return config
}

// Serve answers on the listener until Close.
func (s *Server) Serve(l net.Listener) error {
	var looks sync.WaitGroup // until Close
	defer func() { s.stop(); looks.Wait() }()
	if s.sights != nil {
		looks.Go(func() { s.sights.watch(s.stopping) })
		looks.Go(func() { s.recorder.watch(s.stopping) })
	}
	if s.lags != nil {
		looks.Go(func() { s.lags.watch(s.stopping) })
	}
	l = newLimited(l, maxConnections, &s.perAddress)
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	}
	return nil
}

// Close stops listening and waits for running requests until ctx ends; those that
// read or probe the bucket are ended.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop http: %w", err), s.http.Close())
	}
	return nil
}

// probe answers 200 while check says nil, and 503 with the reason else. What is
// not as it should be is said too: it is no reason to send clients elsewhere.
func probe(check func() error, status, warnings func() []string, b Bucket) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
		if status != nil {
			for _, line := range status() {
				fmt.Fprintln(w, line)
			}
		}
		var said []string
		if b != nil {
			said = b.State().Warnings
		}
		if warnings != nil {
			said = append(said, warnings()...)
		}
		for _, warning := range said {
			fmt.Fprintln(w, "warning:", warning)
		}
	})
}

// readiness is whether the process serves, or with ?in-sync, whether it has also caught up with
// the others since it began.
func readiness(o Options) http.Handler {
	ready := probe(o.Ready, nil, o.Warnings, o.Bucket)
	if o.InSync == nil {
		return ready
	}
	synced := probe(o.InSync, nil, o.Warnings, o.Bucket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("in-sync") {
			synced.ServeHTTP(w, r)
			return
		}
		ready.ServeHTTP(w, r)
	})
}

// briefs has a probe tell strangers no more than whether all is well, where the API asks who
// calls: what it says besides names files and addresses.
func (d *door) briefs(probe http.Handler) http.Handler {
	if d.o.Access == nil {
		return probe
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hostOf(r).IsLoopback() {
			probe.ServeHTTP(w, r)
			return
		}
		v := verdictOnly{header: http.Header{}, status: http.StatusOK}
		probe.ServeHTTP(&v, r)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(v.status)
		if v.status == http.StatusOK {
			fmt.Fprintln(w, "ok")
		} else {
			fmt.Fprintln(w, "not ready or not well: the log of the node, and this path on the machine itself, say why")
		}
	})
}

// verdictOnly is a ResponseWriter that keeps the status.
type verdictOnly struct {
	header http.Header
	status int
}

func (v *verdictOnly) Header() http.Header         { return v.header }
func (v *verdictOnly) Write(b []byte) (int, error) { return len(b), nil }
func (v *verdictOnly) WriteHeader(status int)      { v.status = status }
