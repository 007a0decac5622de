package group

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Migration says whether a group with members may go from one protocol to the
// other (group.consumer.migration.policy).
type Migration string

// The policies. The default is Kafka's.
const (
	MigrateBothWays  Migration = "bidirectional"
	MigrateUpgrade   Migration = "upgrade"
	MigrateDowngrade Migration = "downgrade"
	MigrateNever     Migration = "disabled"
)

func (m Migration) upgrades() bool   { return m == MigrateBothWays || m == MigrateUpgrade }
func (m Migration) downgrades() bool { return m == MigrateBothWays || m == MigrateDowngrade }

// ConsumerOptions are those of the consumer protocol (KIP-848). Zero means
// Kafka's default.
type ConsumerOptions struct {
	Session   time.Duration // 45 s: after which a silent member is removed (group.consumer.session.timeout.ms)
	Heartbeat time.Duration // 5 s: between two of a member (group.consumer.heartbeat.interval.ms)
	// MaxSize is how many members a group may have (group.consumer.max.size). The
	// default is [DefaultMaxGroupSize]; Kafka's is no bound.
	MaxSize int
	// Assignors are offered, the default first (group.consumer.assignors): uniform,
	// range.
	Assignors []string
	Migration Migration // bidirectional
	// TimesOf returns what a group has of its own, zero where it has none; nil: none
	// has any. It must not block.
	TimesOf func(group string) (session, heartbeat time.Duration)
}

// times returns after which silence a member of a group is removed, and how often it
// is to send heartbeats.
func (o *ConsumerOptions) times(group string) (session, heartbeat time.Duration) {
	if o.TimesOf == nil {
		return o.Session, o.Heartbeat
	}
	session, heartbeat = o.TimesOf(group)
	session, heartbeat = or(session, o.Session), or(heartbeat, o.Heartbeat)
	if session <= heartbeat { // the broker's own has changed since
		return o.Session, o.Heartbeat
	}
	return session, heartbeat
}

func (o *ConsumerOptions) setDefaults() error {
	o.Session = or(o.Session, 45*time.Second)
	o.Heartbeat = or(o.Heartbeat, 5*time.Second)
	o.MaxSize = or(o.MaxSize, DefaultMaxGroupSize)
	o.Migration = or(o.Migration, MigrateBothWays)
	if len(o.Assignors) == 0 {
		o.Assignors = []string{uniformAssignor, rangeAssignor}
	}
	if o.Heartbeat < 0 || o.Session <= o.Heartbeat {
		return fmt.Errorf("group coordinator: consumer sessions of %v, heartbeats every %v", o.Session, o.Heartbeat)
	}
	for _, name := range o.Assignors {
		if assignorNamed(name) == nil {
			return fmt.Errorf("group coordinator: no assignor %q", name)
		}
	}
	if o.Migration != MigrateNever && !o.Migration.upgrades() && !o.Migration.downgrades() {
		return fmt.Errorf("group coordinator: migration policy %q", o.Migration)
	}
	return nil
}

// assigns reports whether an assignor is offered.
func (o *ConsumerOptions) assigns(name string) bool { return slices.Contains(o.Assignors, name) }

// Config is a broker's setting under Kafka's name.
type Config struct{ Name, Value, Type string }

// Configs returns the settings of the coordinator.
func (c *Coordinator) Configs() []Config {
	o := c.opt
	millis := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	session, heartbeat := millis(o.Consumer.Session), millis(o.Consumer.Heartbeat)
	return []Config{
		{"group.consumer.assignors", strings.Join(o.Consumer.Assignors, ","), "list"},
		{"group.consumer.heartbeat.interval.ms", heartbeat, "int"},
		{"group.consumer.max.size", strconv.Itoa(o.Consumer.MaxSize), "int"},
		{"group.consumer.migration.policy", string(o.Consumer.Migration), "string"},
		{"group.consumer.session.timeout.ms", session, "int"},
		{"group.coordinator.rebalance.protocols", "classic,consumer", "list"},
		{"group.initial.rebalance.delay.ms", millis(o.InitialRebalanceDelay), "int"},
		{"group.max.session.timeout.ms", millis(o.MaxSession), "int"},
		{"group.max.size", strconv.Itoa(o.MaxGroupSize), "int"},
		{"group.min.session.timeout.ms", millis(o.MinSession), "int"},
		{"offsets.retention.check.interval.ms", millis(o.OffsetCheck), "long"},
		{"offsets.retention.minutes", strconv.FormatInt(int64(o.OffsetRetention.Minutes()), 10), "int"},
		{"offset.metadata.max.bytes", strconv.Itoa(o.MaxMetadata), "int"},
	}
}
