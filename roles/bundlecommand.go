package roles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/bundle"
	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/roles/doctor"
)

// bundleFrames is how many of the last frames of a metadata log go into a bundle.
const bundleFrames = 50_000

// bundleCommand is `rustmq debug bundle`.
type bundleCommand struct {
	serve    serveFlags
	target   admin.Target
	nodes    []string
	out      string
	output   string
	profile  time.Duration
	maxBytes configs.Size
	stdout   io.Writer
	stderr   io.Writer
}

func debugBundle(env client.Env, cloud Cloud) *cobra.Command {
	b := bundleCommand{serve: serveFlags{cloud: cloud}, maxBytes: bundle.DefaultBytes, stdout: env.Stdout, stderr: env.Stderr}
	named := adminTarget(env)
	most := b.maxBytes.String()
	cmd := &cobra.Command{
		Use: "bundle", Short: "Gather what somebody needs who helps with a cluster, into one archive", Args: cobra.NoArgs,
		Long: "Asks each process for its metrics (twice), health, description of the cluster, configuration, certificates, last lines of its log, goroutines and profiles of heap,\n" +
			"processor and waits, and adds what `rustmq doctor` says of this machine, versions, and with --data-dir the metadata log without what is in its commands.\n" +
			"No records are in it. Secrets are taken out (passwords, tokens, private keys); names of topics, groups, users and hosts are not: look into it before you give it away.\n" +
			"manifest.json in it lists what could not be had, and why. Nothing is changed.\n\n" +
			"The process of --url or the context is asked, and every other that it knows of: brokers say where their HTTP is, and one that does not say, or is on another machine's loopback\n" +
			"address, is listed with the reason, as are controllers that are no brokers. With --process those alone are asked that it names. All are shown the same credentials, which are sent\n" +
			"in the clear to none that is not on this machine; profiles and logs want alter on the cluster.",
		Example: "  rustmq debug bundle\n  rustmq debug bundle --process http://10.0.0.1:9642 --process http://10.0.0.2:9642 --data-dir /var/lib/rustmq --config /etc/rustmq/rustmq.toml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if b.maxBytes, err = configs.ParseSize(most); err != nil || b.maxBytes < 1<<20 {
				return &flagError{fmt.Errorf("--max-bytes %q: want 1MiB or more, such as 256MiB", most)}
			}
			if b.profile < 0 || b.profile > bundle.LongestProfile {
				return &flagError{fmt.Errorf("--profile %v: want 0 (none) to %v", b.profile, bundle.LongestProfile)}
			}
			if err := client.CheckOutput(b.output); err != nil {
				return err
			}
			context, err := named(cmd)
			if err != nil {
				return err
			}
			return b.run(cmd, context)
		},
	}
	b.target.Flags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&b.nodes, "process", nil, "`URL` of a process to ask, in place of --url and of those that it knows of; may be repeated")
	flags.StringVar(&b.out, "out", "", "`FILE` of the archive, or - for standard output (default: rustmq-bundle-TIME.tar.gz)")
	flags.DurationVar(&b.profile, "profile", bundle.DefaultProfile, "how long the profile of the processor is of; 0: none")
	flags.StringVar(&most, "max-bytes", most, "`SIZE` of all parts together, before they are compressed")
	flags.StringVar(&b.serve.config, "config", "", "TOML `FILE` of the node on this machine, by which doctor judges")
	flags.StringArrayVar(&b.serve.set, "set", nil, "`section.key=value` of that node, may be repeated")
	flags.String("data-dir", "", "data directory of the node on this machine")
	flags.StringVarP(&b.output, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (b *bundleCommand) run(cmd *cobra.Command, named admin.Target) (err error) {
	o := bundle.Options{Profile: b.profile, Bytes: int64(b.maxBytes), Version: Version(), Now: time.Now().UTC().Truncate(time.Second), Progress: b.progress()}
	urls := b.nodes
	if len(urls) == 0 {
		urls = []string{b.target.URL}
	}
	add := func(server *admin.Remote) {
		o.Servers = append(o.Servers, server)
		o.Secrets = append(o.Secrets, server.Secrets()...)
	}
	for _, url := range urls {
		t := b.target
		t.URL = url
		server, err := t.Remote(named, cmd.InOrStdin(), b.stderr)
		if err != nil {
			return err // wrong flags, or a secret that cannot be read
		}
		add(server)
		if len(b.nodes) > 0 {
			continue
		}
		others, absent := othersOf(cmd.Context(), server)
		o.Absent = append(o.Absent, absent...)
		for _, other := range others {
			if beside, err := server.Beside(other.url); err == nil {
				add(beside)
			} else {
				o.Absent = append(o.Absent, bundle.Absent{Name: other.name, Why: err.Error() + "; or name it with --process URL"})
			}
		}
	}
	if o.Local, err = b.local(cmd); err != nil {
		return err
	}
	o.Secrets = append(o.Secrets, secretsOf(os.Environ())...)
	name := b.out
	if name == "" {
		name = "rustmq-bundle-" + o.Now.Format("20060102T150405Z") + ".tar.gz"
	}
	manifest, err := b.write(cmd.Context(), name, o)
	o.Progress("")
	if err != nil {
		return fmt.Errorf("gather into %s: %w", name, err)
	}
	return b.say(name, manifest)
}

// write has the archive written: to standard output, or to a file that is there only once it
// is whole, and that nobody else may read.
func (b *bundleCommand) write(ctx context.Context, name string, o bundle.Options) (m bundle.Manifest, err error) {
	if name == "-" {
		return bundle.Collect(ctx, b.stdout, o)
	}
	if _, err := os.Lstat(name); err == nil {
		return m, errors.New("the file is there: name another with --out")
	}
	err = client.WriteWhole(name, func(w io.Writer) error {
		m, err = bundle.Collect(ctx, w, o)
		return err
	})
	return m, err
}

// say tells where the archive is, and what is not in it. It fails where no server said
// anything.
func (b *bundleCommand) say(name string, m bundle.Manifest) error {
	had, missing := m.Had()
	to := b.stdout
	if name == "-" {
		to = b.stderr // the archive is there
	}
	err := client.Print(to, b.output, m, func() error {
		for _, item := range m.Failed() {
			fmt.Fprintf(to, "not there: %s: %s\n", item.File, item.Missing)
		}
		_, err := fmt.Fprintf(to, "%s has %d files, without secrets that are known as such; %d could not be had (manifest.json)\n", name, had, missing)
		return err
	})
	if err != nil {
		return err
	}
	for _, item := range m.Items {
		if item.Missing == "" && !strings.HasPrefix(item.File, "local/") {
			return nil
		}
	}
	return fmt.Errorf("no server said anything: what is in %s is of this machine alone; see --url and --process, and the credentials", name)
}

// progress shows on a terminal what is under way; "" wipes it.
func (b *bundleCommand) progress() func(string) {
	show := client.Showing(b.stderr)
	return func(what string) { show(fmt.Sprintf("%.70s", what)) }
}

// local is what goes in of this machine.
func (b *bundleCommand) local(cmd *cobra.Command) ([]bundle.Part, error) {
	asJSON := func(v any, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return json.MarshalIndent(v, "", "  ")
	}
	dir, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		return nil, err
	}
	set := b.serve.set
	if dir != "" {
		set = append(set[:len(set):len(set)], "broker.data_dir="+dir)
	}
	load := func() (*configs.Config, error) {
		return configs.Load(configs.Sources{File: b.serve.config, Environ: os.Environ(), Set: set})
	}
	parts := []bundle.Part{
		{Name: "version.json", Get: func(context.Context) ([]byte, error) { return asJSON(versions(), nil) }},
		{Name: "doctor.json", Get: func(ctx context.Context) ([]byte, error) {
			config, err := load()
			if err != nil {
				return nil, err
			}
			return asJSON(doctor.Of(doctor.Examine(ctx, doctor.Options{Config: config})...), nil)
		}},
	}
	if b.serve.config != "" || dir != "" {
		parts = append(parts, bundle.Part{Name: "config.json", Get: func(context.Context) ([]byte, error) {
			config, err := load()
			if err != nil {
				return nil, err
			}
			return asJSON(client.Keys(config), nil)
		}})
	}
	if dir != "" {
		parts = append(parts, bundle.Part{Name: "raft.ndjson", Get: func(context.Context) ([]byte, error) { return lastFrames(dir) }})
	}
	return parts, nil
}

// lastFrames is what debug raft prints, without what is in commands: its last lines.
func lastFrames(dir string) ([]byte, error) {
	var lines []string
	var raw bytes.Buffer
	print := printLines(&raw, true)
	err := new(raftFlags).run(dir, func(line interface{ text() string }) error {
		raw.Reset()
		if err := print(line); err != nil {
			return err
		}
		if lines = append(lines, raw.String()); len(lines) >= 2*bundleFrames {
			lines = append(lines[:0], lines[len(lines)-bundleFrames:]...)
		}
		return nil
	})
	return []byte(strings.Join(lines[max(0, len(lines)-bundleFrames):], "")), err
}

// machineVersions is what runs here.
type machineVersions struct {
	Rustmq string   `json:"rustmq"`
	Go     string   `json:"go"`
	OS     string   `json:"os"`
	Arch   string   `json:"arch"`
	CPUs   int      `json:"cpus"`
	Kernel string   `json:"kernel,omitempty"`
	Build  []string `json:"build,omitempty"`
}

func versions() machineVersions {
	v := machineVersions{Rustmq: Version(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		v.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			v.Build = append(v.Build, s.Key+"="+s.Value)
		}
	}
	return v
}

// secretsOf are the values of variables that are named like secrets: what a process was
// given may stand in its log.
func secretsOf(environ []string) (secrets []string) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		name = strings.ToUpper(name)
		for _, word := range []string{"SECRET", "PASSWORD", "PASSPHRASE", "TOKEN", "CREDENTIAL", "ACCESS_KEY", "API_KEY", "ACCOUNT_KEY", "PRIVATE_KEY"} {
			if strings.Contains(name, word) && !strings.HasSuffix(name, "_FILE") && !strings.HasSuffix(name, "_PATH") {
				secrets = append(secrets, value)
				break
			}
		}
		if strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") && strings.HasSuffix(name, "HEADERS") { // key=value,…
			for header := range strings.SplitSeq(value, ",") {
				_, said, _ := strings.Cut(header, "=")
				secrets = append(secrets, said)
			}
		}
	}
	return secrets
}
