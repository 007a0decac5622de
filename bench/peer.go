package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/twmb/franz-go/pkg/kfake"
)

// listening is what every server process prints once it can be reached.
type listening struct {
	Addr string `json:"addr"`
}

// runPeer is a peer server until it is told to stop.
func runPeer(args []string) error {
	if len(args) == 0 {
		return errors.New("peer: name kfake, committing, nats, tls or broker")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	flags := flag.NewFlagSet("peer "+args[0], flag.ContinueOnError)
	dir := flags.String("dir", "", "storage directory (committing, nats, broker)")
	copies := flags.Int("copies", 1, "logs that each have every byte (committing)")
	store := flags.String("store", "", "host:port of the S3 server (broker)")
	part := flags.Int64("part", 0, "bytes to ask it for at once; 0: whole objects (broker)")
	syncAlways := flags.Bool("sync-always", false, "fsync before every answer (nats)")
	certs := flags.String("certs", "", "directory of certificates (tls)")
	mutual := flags.Bool("mutual", false, "ask for certificates of clients (tls)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "tls":
		addr, err := bareTLS(*certs, *mutual)
		if err != nil {
			return fmt.Errorf("start a bare server of TLS: %w", err)
		}
		if err := printJSON(listening{addr}); err != nil {
			return err
		}
	case "committing":
		addr, err := startCommitting(*dir, *copies)
		if err != nil {
			return fmt.Errorf("start a bare server that commits: %w", err)
		}
		if err := printJSON(listening{addr}); err != nil {
			return err
		}
	case "broker":
		addr, err := startBareBroker(*dir, *store, *part)
		if err != nil {
			return fmt.Errorf("start a bare broker: %w", err)
		}
		if err := printJSON(listening{addr}); err != nil {
			return err
		}
	case "kfake":
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(1))
		if err != nil {
			return fmt.Errorf("start kfake: %w", err)
		}
		defer cluster.Close()
		if err := printJSON(listening{cluster.ListenAddrs()[0]}); err != nil {
			return err
		}
	case "nats":
		ns, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: *dir, SyncAlways: *syncAlways,
			JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 20 << 30, MaxPayload: 1 << 20,
		})
		if err != nil {
			return fmt.Errorf("start nats: %w", err)
		}
		go ns.Start()
		if !ns.ReadyForConnections(10 * time.Second) {
			return errors.New("nats is not ready after 10 s")
		}
		defer ns.Shutdown()
		if err := printJSON(listening{ns.Addr().String()}); err != nil {
			return err
		}
	default:
		return fmt.Errorf("peer %q: want kfake, committing, nats, tls or broker", args[0])
	}
	<-stop
	return nil
}
