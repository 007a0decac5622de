//go:build seeds

package seeds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/wal"
)

// ending is how a process ends.
type ending int

const (
	stopped ending = iota // by SIGTERM
	killed                // what it wrote stays
	cut                   // of what it did not sync, anything may stay, and nobody is told
)

func (e ending) String() string { return [...]string{"stopped", "killed", "cut"}[e] }

// gate is open, or whoever comes waits before it.
type gate struct {
	mu     sync.Mutex
	shut   bool
	opened chan struct{}
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == shut {
		return
	}
	if g.shut = shut; shut {
		g.opened = make(chan struct{})
	} else {
		close(g.opened)
	}
}

// pass waits until the gate is open; false: the process ended first.
func (g *gate) pass(ended <-chan struct{}) bool {
	g.mu.Lock()
	shut, opened := g.shut, g.opened
	g.mu.Unlock()
	if shut {
		select {
		case <-opened:
		case <-ended:
		}
	}
	select {
	case <-ended:
		return false
	default:
		return true
	}
}

// node is a data directory, and the process over it if there is one.
type node struct {
	w    *world
	id   int
	said said

	mu    sync.Mutex // held for no call that takes time
	mem   *disk.Mem  // as the next process finds it
	alive *life      // nil: there is none
	lives int
	down  bool // it is to have no process
}

// life is one process.
type life struct {
	n     *node
	count int // of the node's lives, this one included
	host  *host
	mem   *disk.Mem
	gate  gate
	slow  atomic.Int64  // most nanoseconds that a sync takes, on top of drag
	drag  atomic.Int64  // nanoseconds
	over  atomic.Bool   // nobody believes what it still says
	ended chan struct{} // closed a moment later
	once  sync.Once
	abort context.CancelFunc // of its start
	begun chan struct{}      // closed once the start has succeeded or failed
	node  *roles.Node        // nil: it has failed; not before begun
}

// count is how many lives it had.
func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lives
}

// rack is where it stands, alone.
func (n *node) rack() string { return fmt.Sprint("rack-", n.id) }

func (n *node) name() string { return fmt.Sprintf("127.0.0.%d", n.id) }

// now is the process, once it has begun; nil: there is none that can be used.
func (n *node) now() *life {
	n.mu.Lock()
	l := n.alive
	n.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case <-l.begun:
		if l.node != nil {
			return l
		}
	default:
	}
	return nil
}

const briskSync = 2 * time.Millisecond

// start begins a process if there is none, and does not wait until it can be used.
func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down = false; n.alive != nil {
		return
	}
	ctx, abort := context.WithCancel(context.Background())
	l := &life{n: n, host: n.w.net.boot(n.name()), mem: n.mem, ended: make(chan struct{}), abort: abort, begun: make(chan struct{})}
	l.slow.Store(int64(briskSync))
	n.alive = l
	n.lives++
	l.count = n.lives
	fs := disk.NewFaulty(l.mem, disk.Rule{Hook: l.disk})
	log := slog.New(slog.NewTextHandler(&n.said, nil)).With("life", l.count)
	options := roles.NodeOptions{
		Config: n.config(), Log: log, Failed: func(err error) { go n.fell(l, err) },
		Cloud: func(context.Context, configs.Storage) (bucket.Bucket, error) {
			return &handle{sky: n.w.sky, ended: l.ended, gate: &l.gate}, nil
		},
		Machine: roles.Machine{FS: fs, Listen: l.host.listen, Dial: l.host.dial, Mono: func() time.Duration { return time.Since(n.w.began) }},
	}
	go func() {
		node, err := roles.Start(ctx, options)
		l.node = node
		close(l.begun)
		if err != nil && !l.over.Load() {
			n.refused(l, err)
		}
	}()
}

// refused is told why a process does not begin. Who watches over it starts it again, unless
// it says that its disk is not what it was.
func (n *node) refused(l *life, err error) {
	if errors.As(err, new(*wal.CorruptionError)) || errors.As(err, new(*roles.LostWALError)) {
		n.fell(l, fmt.Errorf("start: %w", err))
		return
	}
	n.w.happened("node %d does not begin: %v", n.id, err)
	n.end(l, killed)
	pass(time.Second)
	n.mu.Lock()
	again := n.alive == nil && !n.down
	n.mu.Unlock()
	if again {
		n.start()
	}
}

// fell is told why a process cannot go on, which is wrong unless it has ended.
func (n *node) fell(l *life, err error) {
	if l.over.Load() {
		return
	}
	n.w.problem("node %d, life %d: %v", n.id, l.count, err)
	n.end(l, killed)
}

// disk is asked before each call: it takes time to sync, and waits while the process is paused.
func (l *life) disk(op disk.Op, name string) {
	// Those of other files are made under a lock, behind which simulated time does not pass.
	if !strings.HasPrefix(name, "wal/segment-") && !strings.HasPrefix(name, "raft/segment-") {
		return
	}
	if !l.gate.pass(l.ended) {
		return
	}
	if op&disk.OpSync == 0 {
		return
	}
	timer := time.NewTimer(time.Duration(l.drag.Load() + l.n.w.chance(func(r *rand.Rand) int64 { return r.Int64N(l.slow.Load()) })))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ended:
	}
}

// end ends a process, and returns once it has no effect any more, or with stopped once it is
// done. What is left of it goes on to end by itself.
func (n *node) end(l *life, how ending) {
	if how == stopped {
		<-l.begun
		if l.node != nil {
			if err := l.node.Close(); err != nil && !errors.As(err, new(*roles.UnclosedError)) {
				n.w.problem("stop node %d: %v", n.id, err)
			}
		}
	}
	l.once.Do(func() {
		l.over.Store(true)
		l.host.end(how == cut) // before the disk: what is not there was not said
		n.mu.Lock()
		if how == cut {
			n.mem = n.w.crash(l.mem)
		} else {
			n.mem = l.mem.Clone()
			n.w.crash(l.mem) // the process has none any more
		}
		n.alive = nil
		n.mu.Unlock()
		close(l.ended)
		n.w.leaving.Go(func() {
			l.abort()
			<-l.begun
			if l.node != nil {
				_ = l.node.Close() // it has no disk and no network
			}
		})
	})
}

func (n *node) config() *configs.Config {
	var peers []string
	for i := range size {
		peers = append(peers, fmt.Sprintf("%d@127.0.0.%d", i+1, i+1))
	}
	var flags []configs.Setting
	for key, value := range map[string]string{
		"broker.id": fmt.Sprint(n.id), "broker.rack": n.rack(), "network.bind": n.name(), "controller.peers": strings.Join(peers, ","),
		"broker.data_dir": "/simulated", "object_storage.url": "s3://simulated", "network.quic.enabled": "false",
		"wal.capacity": "16MiB", "wal.segment_size": "1MiB", "wal.memory": "8MiB", "broker.message_max_bytes": "256KiB",
		"wal.upload_interval": "2s", "wal.upload_bytes": "256KiB",
		"object_storage.upload_timeout": "60s", "object_storage.grace": "20s", "object_storage.check_interval": "60s", "object_storage.metadata_log_interval": "2s",
		"object_storage.manifest_ranges": "8", "compaction.interval": "10s", "compaction.min_object": "64KiB", "compaction.target_object": "1MiB",
		"controller.snapshot.entries": "300", "broker.groups.min_session_timeout": "1s", "broker.auto_create_topics": "false",
		"operations.graceful_shutdown_timeout": "5s",
	} {
		flags = append(flags, configs.Setting{Key: key, Value: value, Origin: "seeds"})
	}
	c, err := configs.Load(configs.Sources{Flags: flags})
	if err != nil {
		panic(err) // it does not depend on the seed
	}
	return c
}

// said is the end of what a node logs.
type said struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	const most = 1 << 20
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all.Len() > most {
		s.all.Next(s.all.Len() / 2)
	}
	return s.all.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}
