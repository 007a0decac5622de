package async

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
)

const (
	// defaultMemory bytes are for records that are under way.
	defaultMemory = 64 << 20
	// defaultInterval is between two transactions of a partition while records come; one
	// that comes after a pause does not wait.
	defaultInterval = 100 * time.Millisecond
	// perPartition is added to that for each partition, so that a broker commits a
	// thousand times a second at most.
	perPartition = time.Millisecond

	noLeader = metadata.NoLeader
)

// Task is an asynchronous module that is active.
type Task struct {
	Name        string
	Version     int
	Spec        *pipeline.Spec
	Transformer pipeline.Transformer
	// Failed is told of each failure: of the module, or of a topic that does not take what
	// comes of a record; and how many records that was about. Nil: nobody. It must not block.
	Failed func(err error, records int)
}

// Options of a [Runner].
type Options struct {
	NodeID int32
	// Image is the newest metadata of the cluster, Subscribe calls f with it, and with each
	// that comes, in order, until cancel.
	Image     func() *metadata.Image
	Subscribe func(f func(*metadata.Image)) (cancel func())
	// Dial connects to a broker as a client that may read and write all topics.
	Dial     func(ctx context.Context, broker int32) (net.Conn, error)
	Memory   int64         // bytes for records under way; default 64 MiB
	Interval time.Duration // between transactions of a partition; default 100 ms
	// TransactionTimeout is not more than the coordinators allow; default
	// [DefaultTransactionTimeout].
	TransactionTimeout time.Duration
	Now                func() time.Time // default: time.Now
	Log                *slog.Logger     // nil: none
}

// Runner runs asynchronous transforms for the partitions that its broker leads. Its
// methods are safe for concurrent use.
type Runner struct {
	o       Options
	log     *slog.Logger
	now     func() time.Time
	cluster *cluster
	bodies  sync.Pool     // of *[]byte
	shares  chan struct{} // of the memory, those that are taken
	waiting atomic.Int32  // workers that wait for a share
	large   chan struct{} // holds one while somebody has a batch that expands beyond its share
	metrics *metrics

	ctx         context.Context
	stop        context.CancelFunc
	done        sync.WaitGroup
	unsubscribe func()
	wake        chan struct{}

	mu      sync.Mutex // guards all below
	tasks   []Task
	running map[key]*running
	refused map[string]refusal // by task
}

// key names a worker: what changes it needs another.
type key struct {
	task    string
	version int
	spec    *pipeline.Spec // another where a name was deleted, and has come anew
	of      source
}

// running is a worker, until it has ended.
type running struct {
	*worker
	stop  context.CancelFunc
	ended chan struct{}
}

type refusal struct {
	task *Task
	err  error
}

// New returns a runner that runs nothing yet.
func New(o Options) *Runner {
	r := &Runner{
		o: o, log: o.Log, now: o.Now,
		wake: make(chan struct{}, 1), large: make(chan struct{}, 1), running: map[key]*running{}, refused: map[string]refusal{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.shares = make(chan struct{}, max(1, cmp.Or(o.Memory, defaultMemory)/shareBytes))
	r.o.TransactionTimeout = cmp.Or(o.TransactionTimeout, DefaultTransactionTimeout)
	r.o.Interval = cmp.Or(o.Interval, defaultInterval)
	r.cluster = newCluster(&r.o)
	r.metrics = newMetrics(r)
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.done.Go(r.follow) // blocks on images, and on workers that end
	r.unsubscribe = o.Subscribe(func(*metadata.Image) { r.signal() })
	return r
}

// Set says what is to run from now on, and returns at once. Another version of a task
// begins where the last transaction of the one before ended.
func (r *Runner) Set(tasks []Task) {
	r.mu.Lock()
	r.tasks = slices.Clone(tasks)
	r.mu.Unlock()
	r.signal()
}

// Close ends all transactions, and waits for that.
func (r *Runner) Close() {
	r.unsubscribe()
	r.stop()
	r.done.Wait()
	r.cluster.close()
}

// Metrics is a collector of what the runner does.
func (r *Runner) Metrics() prometheus.Collector { return r.metrics }

// interval is between two transactions of a partition.
func (r *Runner) interval() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(r.o.Interval, time.Duration(len(r.running))*perPartition)
}

func (r *Runner) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// follow has run what is to run, until the runner ends.
func (r *Runner) follow() {
	for {
		select {
		case <-r.wake:
			r.arrange()
		case <-r.ctx.Done():
			r.end(nil)
			return
		}
	}
}

// arrange starts and ends workers, by the tasks and the leaders of now.
func (r *Runner) arrange() {
	r.mu.Lock()
	tasks := slices.Clone(r.tasks)
	r.mu.Unlock()
	image := r.o.Image()
	wanted := map[key]*Task{}
	refused := map[string]refusal{}
	for i := range tasks {
		t := &tasks[i]
		if err := refusalOf(t.Spec); err != nil {
			refused[t.Name] = refusal{t, err}
			continue
		}
		for of := range r.sources(image, t.Spec) {
			wanted[key{t.Name, t.Version, t.Spec, of}] = t
		}
	}
	r.end(wanted)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = refused
	for k, t := range wanted {
		if w := r.running[k]; w != nil {
			w.calls.Store(t) // the same version, loaded anew
			continue
		}
		ctx, stop := context.WithCancel(r.ctx)
		w := &running{newWorker(r, t, k.of), stop, make(chan struct{})}
		r.running[k] = w
		go func() { // ends with ctx; end waits for it
			defer close(w.ended)
			w.run(ctx)
		}()
	}
}

// sources returns the partitions that this broker leads of the topics of a spec.
func (r *Runner) sources(image *metadata.Image, spec *pipeline.Spec) func(func(source) bool) {
	return func(yield func(source) bool) {
		for t := range image.Topics() {
			if t.Internal || !spec.MatchesTopic(t.Name) {
				continue
			}
			for p := range t.Partitions.All() {
				if p.Leader == r.o.NodeID && !yield(source{t.ID, t.Name, p.Index}) {
					return
				}
			}
		}
	}
}

// end ends the workers that are not wanted, and waits for them.
func (r *Runner) end(wanted map[key]*Task) {
	var ended []key
	r.mu.Lock()
	for k, w := range r.running {
		if wanted[k] == nil {
			w.stop()
			ended = append(ended, k)
		}
	}
	r.mu.Unlock()
	for _, k := range ended {
		r.mu.Lock()
		w := r.running[k]
		r.mu.Unlock()
		<-w.ended
		r.mu.Lock()
		delete(r.running, k)
		r.mu.Unlock()
	}
	r.forgetMetrics(ended)
}

// forgetMetrics drops the metrics of tasks that run nowhere here any more, and are not to.
func (r *Runner) forgetMetrics(ended []key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range ended {
		if !slices.ContainsFunc(r.tasks, func(t Task) bool { return t.Name == k.task }) {
			r.metrics.forget(k.task)
		}
	}
}

// refusalOf says why a task is not run, or nil. A spec that was deployed is not refused,
// unless by a version that knew better.
func refusalOf(s *pipeline.Spec) error {
	switch {
	case s.Mode != pipeline.Async:
		return fmt.Errorf("the mode is %q, and only async modules are run here", s.Mode)
	case s.OnFailure == pipeline.RejectBatch:
		return errors.New("on_failure is reject, and there is no producer to refuse a record to: use pass or dead-letter")
	}
	for _, to := range append([]string{s.Output, s.DeadLetterTopic}, s.Routes...) {
		if to != "" && s.MatchesTopic(to) {
			return fmt.Errorf("topic %q is read and written: it would never end; exclude it by %q in topics", to, "!"+to)
		}
	}
	return nil
}
