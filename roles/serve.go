package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/storage/wal"
)

// serveFlags are the flags of serve; the short ones are names for config keys.
type serveFlags struct {
	config    string
	set       []string
	ports     string
	certs     string
	ephemeral bool
	cloud     Cloud
}

// flagKeys maps flags to the keys they set.
var flagKeys = []struct{ flag, key, usage string }{
	{"roles", "broker.roles", "what the process is: broker,controller,admin"},
	{"data-dir", "broker.data_dir", "directory of everything this node keeps"},
	{"node-id", "broker.id", "this node's id"},
	{"bind", "network.bind", "host of every listener"},
	{"peers", "controller.peers", "the first controllers of the cluster, the same on every node: 1@host,2@host,3@host; none: a node alone"},
	{"bucket", "object_storage.url", "URL of the bucket: file:///path, s3://name?region=…, gs://name, azblob://name or mem://"},
}

func serveCommand(name, short, roles string, stdout, stderr io.Writer, cloud Cloud) *cobra.Command {
	f := serveFlags{cloud: cloud}
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Example: "  rustmq serve\n  rustmq serve --ports free --ephemeral\n  rustmq serve --data-dir /var/lib/rustmq --bucket 's3://streams?region=eu-central-1' --set wal.capacity=50GiB",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.serve(cmd.Context(), cmd.Flags(), roles, stdout, stderr)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&f.ephemeral, "ephemeral", false, "keep the data in a temporary directory that is removed at the end")
	return cmd
}

// add adds the flags that say what a node is.
func (f *serveFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "TOML `FILE` of the configuration")
	flags.StringArrayVar(&f.set, "set", nil, "`section.key=value`, may be repeated")
	flags.StringVar(&f.ports, "ports", "", "`free`: take any free ports, and print them")
	flags.StringVar(&f.certs, "certs", "", "`DIR` with node-ID.pem, node-ID.key, bundle.pem and crl.pem, as `admin certs issue node-ID --out DIR` writes them: TLS is on, and clients and servers show certificates (network.tls, security.tls, security.cluster)")
	for _, k := range flagKeys {
		flags.String(k.flag, "", k.usage+" ("+k.key+")")
	}
}

// alone is the roles of `rustmq broker` that has no cluster to belong to.
const alone = "broker,controller"

// load merges the configuration of a serve call.
func (f *serveFlags) load(flags *pflag.FlagSet, roles string) (*configs.Config, error) {
	sources := configs.Sources{File: f.config, Environ: os.Environ(), Set: f.set}
	for _, k := range flagKeys {
		if flag := flags.Lookup(k.flag); flag.Changed {
			sources.Flags = append(sources.Flags, configs.Setting{Key: k.key, Value: flag.Value.String(), Origin: configs.Origin("--" + k.flag)})
		}
	}
	switch f.ports {
	case "":
	case "free": // but those of controllers: others have to know them before
		for _, key := range []string{"network.kafka_port", "network.external.port", "network.http_port", "network.broker_port"} {
			sources.Flags = append(sources.Flags, configs.Setting{Key: key, Value: "0", Origin: "--ports"})
		}
	default:
		return nil, &flagError{fmt.Errorf("--ports %q: the only value is free; one port is set by --set network.kafka_port=PORT", f.ports)}
	}
	config, err := f.loadSecure(&sources)
	const key = "broker.roles"
	if err != nil || roles == "" || !byDefault(config, key) {
		// A file, the environment or --set may say more than the name does.
		return config, err
	}
	if _, named := config.Self(); roles == alone && config.Clustered() && !named {
		roles = "broker" // its controllers are elsewhere
	}
	// What says nothing of roles does not make `rustmq controller` a broker.
	sources.Flags = append(sources.Flags, configs.Setting{Key: key, Value: roles, Origin: "the command's name"})
	return configs.Load(sources)
}

// loadSecure loads a configuration that --certs may be part of, below --set: which files it
// means depends on the id of the node, and what may be bound on that they are named.
func (f *serveFlags) loadSecure(sources *configs.Sources) (*configs.Config, error) {
	if f.certs == "" {
		return configs.Load(*sources)
	}
	rest := sources.Set
	sources.Set = append(certsKeys(f.certs, 0, true), rest...)
	config, err := configs.Load(*sources)
	if err != nil {
		return nil, err
	}
	sources.Set = append(certsKeys(f.certs, config.Broker.ID, config.Clustered()), rest...)
	return configs.Load(*sources)
}

// hasOwnCertificate fails, before anything is written, where --certs has none of this node.
func (f *serveFlags) hasOwnCertificate(config *configs.Config) error {
	name := fmt.Sprintf("node-%d", config.Broker.ID)
	file := filepath.Join(f.certs, name+".pem")
	if f.certs == "" || config.Security.TLS.CertFile != file {
		return nil // something else was said
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return nil // what else is wrong with it is said by who reads it
	}
	profile := "broker,controller"
	if _, named := config.Self(); config.Clustered() && !named {
		profile = "broker" // its controllers are elsewhere
	}
	if config.Front() {
		profile = "admin"
	}
	return &flagError{fmt.Errorf("--certs %s has no %s.pem, the certificate of this node: `rustmq admin certs issue %s --profile %s --cluster NAME --node %d --host HOST --out %s` makes it",
		f.certs, name, name, profile, config.Broker.ID, f.certs)}
}

// certsKeys is what --certs sets for a node.
func certsKeys(dir string, node int32, clustered bool) []string {
	name := filepath.Join(dir, fmt.Sprintf("node-%d", node))
	bundle, lists := filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "crl.pem")
	set := []string{
		"network.tls=on", "security.tls.cert_file=" + name + ".pem", "security.tls.key_file=" + name + ".key",
		"security.tls.client_auth=require", "security.tls.client_ca_file=" + bundle, "security.tls.crl_file=" + lists,
	}
	if clustered {
		set = append(set, "security.cluster.ca_file="+bundle, "security.cluster.cert_file="+name+".pem", "security.cluster.key_file="+name+".key", "security.cluster.crl_file="+lists)
	}
	return set
}

// byDefault tells whether nobody has set a key.
func byDefault(c *configs.Config, key string) bool {
	return c.Origin(key) == configs.Default().Origin(key)
}

func (f *serveFlags) serve(ctx context.Context, flags *pflag.FlagSet, roles string, stdout, stderr io.Writer) (err error) {
	began := time.Now()
	config, err := f.load(flags, roles)
	if err != nil {
		return err
	}
	if err := f.hasOwnCertificate(config); err != nil {
		return err
	}
	unused, remove, err := f.temporary(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	limitMemory()
	defer boundGarbage(spareHeap)()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // before the start, for which it would be the end
	defer signal.Stop(hangups)
	attended := isTerminal(stdout)
	log, level := newLogger(config, stderr)
	manager := newManager(log)
	if unused != "" {
		log.Warn("--ephemeral: broker.data_dir is not used", "from", string(unused))
	}
	failed := make(chan error, 1)
	node, err := Start(ctx, NodeOptions{Config: config, Log: log, Ephemeral: f.ephemeral, Cloud: f.cloud, LogLevel: level, Failed: func(err error) { failed <- err }})
	if err != nil && ctx.Err() != nil {
		// It was told to stop, and what it waited for was ended by that.
		log.Info("stopped while it started", "took", time.Since(began).Round(time.Millisecond).String(), "cause", err)
		return nil
	}
	if err != nil {
		return err
	}
	if err := node.banner(time.Since(began)).print(stdout, attended); err != nil {
		return errors.Join(err, node.Close())
	}
	manager.ready()
	closed := func() bool { return attended && !isTerminal(stdout) }
	reread := func() (*configs.Config, error) {
		again, err := f.load(flags, roles)
		if err == nil && f.ephemeral {
			again.Broker.DataDir = config.Broker.DataDir
		}
		return again, err
	}
	cause := await(ctx, node, log, hangups, failed, closed, reread)
	stopped := time.Now()
	manager.stopping(node.stopTimeout())
	err = node.Close()
	if cause != nil {
		if err != nil { // of a dead log it is the same once more
			log.Info("the node did not close well after its failure", "error", err)
		}
		return failure(cause, config, f.ephemeral)
	}
	if err != nil {
		return err
	}
	took := time.Since(stopped).Round(time.Millisecond)
	if !attended {
		log.Info("stopped", "took", took.String())
		return nil
	}
	kept := "what was acked is in " + node.DataDir()
	if f.ephemeral {
		kept = "its data is removed (--ephemeral)"
	}
	_, err = fmt.Fprintf(stdout, "\nrustmq stopped in %v; %s\n", took, kept)
	return err
}

// temporary gives an ephemeral node its data directory, which remove takes away. unused is
// where another was named, which does not count then.
func (f *serveFlags) temporary(config *configs.Config) (unused configs.Origin, remove func() error, err error) {
	if !f.ephemeral {
		return "", func() error { return nil }, nil
	}
	const key = "broker.data_dir"
	switch from := config.Origin(key); {
	case from == "--data-dir":
		return "", nil, &flagError{errors.New("--ephemeral and --data-dir: give one of them")}
	case from == "--set":
		return "", nil, &flagError{errors.New("--ephemeral and --set " + key + ": give one of them")}
	case !byDefault(config, key):
		unused = from
	}
	dir, err := os.MkdirTemp("", "rustmq-")
	if err != nil {
		return "", nil, fmt.Errorf("make the temporary data directory: %w", err)
	}
	config.Broker.DataDir = dir
	return unused, func() error { return os.RemoveAll(dir) }, nil
}

// failure is what serve ends with when the node cannot go on: why, what is lost, and
// what to do.
func failure(cause error, c *configs.Config, ephemeral bool) error {
	kept := "what was acked is on disk"
	switch {
	case ephemeral:
		kept = "its data is removed (--ephemeral)"
	case c.WAL.Sync == "interval":
		kept = fmt.Sprintf("what was acked is on disk, but for up to the last %v (wal.sync = interval)", c.WAL.SyncInterval)
	}
	do := "start it again"
	switch {
	case errors.Is(cause, wal.ErrFull):
		do = "make room on the disk, and start it again"
	case errors.Is(cause, wal.ErrDead), errors.Is(cause, wal.ErrNoSegment):
		do = "start it again once the disk is well"
	}
	return fmt.Errorf("this node cannot go on: %w; %s: %s", cause, kept, do)
}

// await returns when the node is to stop, with why it cannot go on if that is
// the reason. A hang-up in between reloads its certificates and what of its configuration
// may change, unless our terminal was closed: then nobody asked for anything, and nobody
// could stop us later.
func await(ctx context.Context, node *Node, log *slog.Logger, hangups <-chan os.Signal, failed <-chan error, closed func() bool, reread func() (*configs.Config, error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-hangups:
		}
		if closed() {
			return nil
		}
		switch loaded, err := node.Reload(); {
		case err != nil:
			log.Error("SIGHUP: certificates were not reloaded", "error", err)
		case loaded:
			log.Info("SIGHUP: certificates reloaded")
		default:
			log.Info("SIGHUP: nothing to reload of certificates, for neither TLS nor QUIC is on")
		}
		config, err := reread()
		if err != nil {
			log.Error("SIGHUP: the configuration stays as it was, for what was read again is wrong", "error", err)
			continue
		}
		changed, waiting := node.Reconfigure(config)
		if len(changed) == 0 {
			log.Info("SIGHUP: the configuration was read again, and no key that may change while the node runs has")
		} else {
			log.Info("SIGHUP: the configuration was read again", "changed", strings.Join(changed, ","))
		}
		if len(waiting) > 0 {
			log.Warn("SIGHUP: these keys have changed and wait for a restart", "keys", strings.Join(waiting, ","))
		}
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
