package roles

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/quic"
)

// live is the configuration that a node obeys: that of its own sources, and over it what was
// set on all nodes, and on this one, while they run.
type live struct {
	now atomic.Pointer[configs.Config]

	mu       sync.Mutex
	base     *configs.Config   // of its own sources; guarded by mu, as is what follows
	all, own map[string]string // what was set, by name
	refused  []configs.Problem // of that, what this node cannot obey
	waiting  []string          // keys whose value in the sources waits for a restart
}

func newLive(base *configs.Config) *live {
	l := &live{base: base}
	l.now.Store(base)
	return l
}

// openLive has the node obey what is set in the cluster from now on.
func (n *Node) openLive() {
	if n.door == nil {
		return
	}
	var seen *metadata.Image
	cancel := n.door.Subscribe(func(image *metadata.Image) { // one call at a time
		if seen != nil && seen.SameConfigs(image) {
			return
		}
		seen = image
		all, _ := image.Config(metadata.Resource{Type: metadata.BrokerResource})
		var own map[string]string
		if n.has("broker") {
			own, _ = image.Config(metadata.Resource{Type: metadata.BrokerResource, Name: strconv.Itoa(int(n.config.Broker.ID))})
		}
		n.live.mu.Lock()
		defer n.live.mu.Unlock()
		if !maps.Equal(n.live.all, all) || !maps.Equal(n.live.own, own) {
			n.live.all, n.live.own = all, own
			n.obey()
		}
	})
	n.opened("configuration", func(context.Context) error { cancel(); return nil })
}

// obey brings what the node does to its configuration. n.live.mu is held.
func (n *Node) obey() {
	was := n.live.now.Load()
	is, refused := n.live.base.Live(n.live.all, n.live.own)
	n.live.now.Store(is)
	n.live.refused = refused
	for _, p := range refused {
		n.log.Warn("a value that was set in the cluster is not obeyed here", "key", p.Key, "reason", p.Reason)
	}
	changed := configs.Changed(was, is)
	n.setLive(is)
	for _, name := range changed {
		n.log.Info("the configuration changed", "key", name, "value", is.ValueOf(name), "from", string(is.Origin(name)))
	}
}

// setLive hands values to the rooms that can take them while they run.
func (n *Node) setLive(c *configs.Config) {
	if n.logLevel != nil {
		n.logLevel(c)
	}
	if n.controller != nil {
		n.controller.SetLive(controllerLive(c))
	}
	if n.broker != nil {
		n.broker.SetLive(broker.Live{
			AutoCreate: autoCreate(c), MaxConnectionRate: float64(c.Network.MaxConnectionRate), Configs: configs.BrokerValues(n.live.base),
			UploadInterval: time.Duration(c.WAL.UploadInterval), UploadBytes: int64(c.WAL.UploadBytes), CompactionBandwidth: int64(c.Compaction.Bandwidth),
		})
		n.broker.SetSlowRequest(time.Duration(c.Operations.SlowRequest))
	}
	if n.kafka != nil {
		n.kafka.SetLimits(c.Network.MaxConnections, c.Network.MaxConnectionsPerIP, time.Duration(c.Network.IdleTimeout))
	}
	for _, l := range n.quic {
		l.SetLimits(min(c.Network.MaxConnections, quic.DefaultMaxConns), c.Network.MaxConnectionsPerIP)
	}
	if n.http != nil {
		rest := c.Security.REST
		n.http.SetLimits(rest.Requests, rest.RequestsPerIP, rest.ConnectionsPerIP)
	}
}

func controllerLive(c *configs.Config) controller.Live {
	l := controller.Live{
		HighestFeatureLevel: uint32(c.Controller.FeatureLevel),
		DefaultPartitions:   c.Broker.NumPartitions, MaxPartitions: c.Controller.MaxPartitions,
		Retention: time.Duration(c.Storage.RetentionInterval), Audit: time.Duration(c.Storage.CheckInterval),
	}
	if b := c.Controller.Balance; b.Enabled {
		l.MovesPerMinute = b.MovesPerMinute
	}
	if b := c.Controller.Balance; b.SpreadEnabled {
		l.SpreadMovesPerMinute = b.SpreadMovesPerMinute
	}
	return l
}

// Reconfigure takes the live keys of a configuration that was read again from the node's own
// sources, and names those that differ: what is obeyed now, and what waits for a restart.
func (n *Node) Reconfigure(from *configs.Config) (changed, waiting []string) {
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	n.live.base, changed, waiting = n.live.base.Reloaded(from)
	n.live.waiting = waiting
	n.obey()
	if len(changed) > 0 {
		n.recordLocal("config.reload", "config", strings.Join(changed, ","), nil)
	}
	return changed, waiting
}

// Settings is the configuration as the admin API shows it.
func (n *Node) Settings() []admin.Setting {
	n.live.mu.Lock()
	defer n.live.mu.Unlock()
	now, all := n.live.now.Load(), make([]admin.Setting, 0, len(configs.Keys()))
	for _, k := range configs.Keys() {
		s := admin.Setting{
			Key: k.Name, Value: now.Shown(k), Source: string(now.Origin(k.Name)), Live: k.Live, Default: configs.Default().Value(k),
			Own: n.live.base.Shown(k), OwnSource: string(n.live.base.Origin(k.Name)),
		}
		for _, p := range n.live.refused {
			if p.Key == k.Name {
				s.Refused = p.Reason
			}
		}
		for _, name := range n.live.waiting {
			s.Waits = s.Waits || name == k.Name
		}
		all = append(all, s)
	}
	return all
}

// logLevel is the level of a log, which follows the configuration. quiet says that it goes
// to a person, who has the banner: unless a level is named, that is told warnings alone.
func logLevel(level *slog.LevelVar, quiet bool) func(*configs.Config) {
	return func(c *configs.Config) {
		var is slog.Level
		if err := is.UnmarshalText([]byte(strings.ToUpper(c.Operations.LogLevel))); err != nil {
			is = slog.LevelInfo // configs lets only levels through
		}
		if quiet && byDefault(c, "operations.log_level") {
			is = slog.LevelWarn
		}
		level.Set(is)
	}
}

// newLogger writes text to a terminal and JSON elsewhere, unless told; follow changes its
// level.
func newLogger(c *configs.Config, w io.Writer) (log *slog.Logger, follow func(*configs.Config)) {
	level := new(slog.LevelVar)
	options := &slog.HandlerOptions{Level: level}
	format := c.Operations.LogFormat
	text := format == "text" || format == "auto" && isTerminal(w)
	follow = logLevel(level, text && format == "auto")
	follow(c)
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if text {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(handler).With("node", strconv.Itoa(int(c.Broker.ID))), follow
}
