package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles"
)

// Options of a node. The zero value is a broker on free loopback ports with a
// temporary data directory that Close removes.
type Options struct {
	// DataDir keeps the data after Close; empty: a temporary directory.
	DataDir string
	// Set are config keys, "wal.memory": "64MiB"; the ports default to free
	// ones, and the WAL to 1 GiB.
	Set map[string]string
	// Cloud opens buckets of clouds: roles/cloud.Open, which links their SDKs. nil:
	// object_storage.url names a directory or memory, or nothing.
	Cloud roles.Cloud
	Log   *slog.Logger // nil: none
}

// Node is a running rustmq.
type Node struct {
	node      *roles.Node
	temporary string
}

// Start starts a node and returns once clients can use it; ctx bounds the start.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := &Node{}
	dir := o.DataDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "rustmq-embed-"); err != nil {
			return nil, fmt.Errorf("make the temporary data directory: %w", err)
		}
		n.temporary = dir
	}
	const origin = "embed"
	settings := []configs.Setting{
		{Key: "network.kafka_port", Value: "0", Origin: origin},
		{Key: "network.http_port", Value: "0", Origin: origin},
		{Key: "network.broker_port", Value: "0", Origin: origin},
		{Key: "wal.capacity", Value: "1GiB", Origin: origin},
		{Key: "broker.data_dir", Value: dir, Origin: origin},
	}
	for key, value := range o.Set {
		settings = append(settings, configs.Setting{Key: key, Value: value, Origin: origin})
	}
	config, err := configs.Load(configs.Sources{Flags: settings})
	if err == nil {
		n.node, err = roles.Start(ctx, roles.NodeOptions{Config: config, Log: o.Log, Cloud: o.Cloud, Ephemeral: o.DataDir == ""})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start rustmq: %w", err), n.removeTemporary())
	}
	return n, nil
}

// Kafka is the host:port of Kafka over TCP and, on the same number, QUIC.
func (n *Node) Kafka() string { return n.node.Kafka() }

// HTTP is the host:port of metrics, health and the admin API.
func (n *Node) HTTP() string { return n.node.HTTP() }

// CAFile is the PEM file of the CA that clients of TLS and QUIC trust.
func (n *Node) CAFile() string { return n.node.CAFile() }

// DataDir is the absolute path of the data directory.
func (n *Node) DataDir() string { return n.node.DataDir() }

// Reload loads the certificate of TLS and QUIC again, for connections from now
// on. On an error the one before goes on.
func (n *Node) Reload() error {
	_, err := n.node.Reload()
	return err
}

// Close stops the node; what was acked is on disk. A temporary data directory
// is removed.
func (n *Node) Close() error { return errors.Join(n.node.Close(), n.removeTemporary()) }

func (n *Node) removeTemporary() error {
	if n.temporary == "" {
		return nil
	}
	return os.RemoveAll(n.temporary)
}
