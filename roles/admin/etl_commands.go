package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/etl"
)

// LocalETL is what the commands of modules do without a server.
type LocalETL struct {
	// Try loads a module in this process, and shows what it does with records.
	Try func(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record) (*etl.Tried, error)
	// Battery returns the bytes of a module that comes with rustmq.
	Battery func(name string) (wasm []byte, known bool)
	// Records reads up to most records as produce does, by its -f; more: there are others.
	Records func(in io.Reader, format string, most int) (records []abi.Record, more bool, err error)
}

func modulePath(name string) string { return modulesPath + "/" + url.PathEscape(name) }

// etlCommand is `rustmq admin etl …`.
func (e *env) etlCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "etl", Short: "Deploy WebAssembly modules that transform records, and take them back", Args: cobra.NoArgs}
	cmd.AddCommand(e.deployModule(), e.listModules(), e.describeModule(), e.enableModule(), e.disableModule(), e.rollbackModule(), e.deleteModule(), e.testModule(), e.moduleHistory(), e.listBatteries())
	return cmd
}

// specFlags say how a module is used, on top of a file.
type specFlags struct {
	file                                         string
	mode, onFailure, deadLetters, output, config string
	topics, routes                               []string
	stage, priority, instances                   int64
	deadline                                     time.Duration
	memory                                       string
}

func (s *specFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.file, "spec", "", "`FILE` with the spec as JSON (docs/etl-inline.md, docs/etl-async.md); the flags below take the place of its fields")
	flags.StringVar(&s.mode, "mode", "", "inline or async (default inline)")
	flags.StringSliceVar(&s.topics, "topics", nil, "topics and patterns that it is for, such as orders, 'events.*', prefix:x, '!internal'")
	flags.StringVar(&s.config, "config", "", "config of the module: JSON, or @`FILE` with it")
	flags.StringVar(&s.onFailure, "on-failure", "", "reject, pass or dead-letter")
	flags.StringVar(&s.deadLetters, "dead-letter-topic", "", "`TOPIC` of what it rejects or fails on")
	flags.StringSliceVar(&s.routes, "routes", nil, "topics that it may route to")
	flags.StringVar(&s.output, "output-topic", "", "`TOPIC` of an async module's records")
	flags.Int64Var(&s.stage, "stage", 0, "0, 1 or 2, in this order")
	flags.Int64Var(&s.priority, "priority", 0, "within the stage, the higher first")
	flags.DurationVar(&s.deadline, "deadline", 0, "how long a call may take, in whole milliseconds (default 100ms)")
	flags.StringVar(&s.memory, "memory", "", "`SIZE` that an instance may have (default 64MiB)")
	flags.Int64Var(&s.instances, "instances", 0, "calls at once on each broker (default 2)")
}

// spec is the file, with what the flags say in its place.
func (s *specFlags) spec(cmd *cobra.Command) (json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	if s.file != "" {
		raw, err := os.ReadFile(s.file)
		if err != nil {
			return nil, fmt.Errorf("read --spec: %w", err)
		}
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, fmt.Errorf("--spec %s is no JSON object: %w", s.file, err)
		}
	}
	set := func(flag, field string, value any) error {
		if !cmd.Flags().Changed(flag) {
			return nil
		}
		raw, err := json.Marshal(value)
		fields[field] = raw
		return err
	}
	memory := configs.Size(0)
	if s.memory != "" {
		var err error
		if memory, err = configs.ParseSize(s.memory); err != nil {
			return nil, &UsageError{fmt.Sprintf("--memory %q: want a size, such as 64MiB", s.memory)}
		}
	}
	if s.deadline%time.Millisecond != 0 {
		return nil, &UsageError{fmt.Sprintf("--deadline %v: want whole milliseconds, such as 100ms", s.deadline)}
	}
	for _, f := range []struct {
		flag, field string
		value       any
	}{
		{"mode", "mode", s.mode}, {"topics", "topics", s.topics}, {"on-failure", "on_failure", s.onFailure}, {"dead-letter-topic", "dead_letter_topic", s.deadLetters},
		{"routes", "routes", s.routes}, {"output-topic", "output", s.output}, {"stage", "stage", s.stage}, {"priority", "priority", s.priority},
		{"deadline", "deadline_ms", s.deadline.Milliseconds()}, {"memory", "memory_bytes", int64(memory)}, {"instances", "instances", s.instances},
	} {
		if err := set(f.flag, f.field, f.value); err != nil {
			return nil, err
		}
	}
	if s.config != "" {
		text := []byte(s.config)
		if name, is := strings.CutPrefix(s.config, "@"); is {
			var err error
			if text, err = os.ReadFile(name); err != nil {
				return nil, fmt.Errorf("read --config: %w", err)
			}
		}
		if !json.Valid(text) {
			return nil, &UsageError{"--config is no JSON: give JSON, or @FILE with it"}
		}
		fields["config"] = text
	}
	if _, said := fields["mode"]; !said {
		fields["mode"] = json.RawMessage(`"inline"`)
	}
	return json.Marshal(fields)
}

// records reads a file of at most so many records as produce does; "": none.
func (e *env) records(cmd *cobra.Command, file, format string, most int) ([]abi.Record, error) {
	if file == "" {
		return nil, nil
	}
	in, name := cmd.InOrStdin(), "standard input"
	if file != "-" {
		name = file
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		defer f.Close()
		in = f
	}
	records, more, err := e.etl.Records(in, format, most)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case more && most == maxSample:
		return nil, fmt.Errorf("%s has more than %d records, which is what a server takes: give fewer (head -n %d), or test the .wasm file itself, which asks no server", name, most, most)
	case more:
		return nil, fmt.Errorf("%s has more than %d records, which is what is tried at once: give fewer (head -n %d)", name, most, most)
	}
	return records, nil
}

// bodySample are records as a body has them.
func bodySample(records []abi.Record) ([]ETLRecord, error) {
	sample := make([]ETLRecord, len(records))
	for i := range records {
		sample[i] = shownOfSample(&records[i])
	}
	raw, err := json.Marshal(sample)
	if err == nil && len(raw) > maxSampleBytes {
		err = fmt.Errorf("%s make %d bytes of JSON, and a server takes %d: give fewer, or test the .wasm file itself, which asks no server", plural(len(records), "record"), len(raw), maxSampleBytes)
	}
	return sample, err
}

func (e *env) deployModule() *cobra.Command {
	var spec specFlags
	var in ETLDeploy
	var sample, format string
	cmd := &cobra.Command{
		Use: "deploy NAME [FILE.wasm]", Short: "Deploy a version of a module, and make it active",
		Long: `Deploy a version of a module: a .wasm file, or a battery that comes with rustmq. It is
verified, compiled, initialised with its config, and tried with the records of --sample before
anything is changed; then it is put into the bucket, and every broker fetches it. It is active
at once, unless --disabled.

What is configured is kept in the cluster's metadata, and in its bucket: it is no place for a
secret that who reads the bucket is not to have.`,
		Example: "  rustmq admin etl deploy hide-mail --battery mask --topics 'users.*' --config @mask.json --sample users.ndjson --dry-run\n" +
			"  rustmq admin etl deploy orders-check check.wasm --spec check.json",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if (len(args) == 2) == (in.Battery != "") {
				return &UsageError{"which module? Give FILE.wasm, or --battery NAME (rustmq admin etl batteries)"}
			}
			if in.Spec, err = spec.spec(cmd); err != nil {
				return err
			}
			records, err := e.records(cmd, sample, format, maxSample)
			if err != nil {
				return err
			}
			if in.Sample, err = bodySample(records); err != nil {
				return err
			}
			c := e.patient(cmd)
			if len(args) == 2 {
				if in.SHA256, err = c.uploadModule(cmd.Context(), args[1]); err != nil {
					return err
				}
			}
			var out ETLDeployed
			if err := c.call(cmd.Context(), http.MethodPost, modulePath(args[0])+"/versions", in, &out); err != nil {
				return err
			}
			return e.print(out, func() { e.showDeployed(&out) })
		},
	}
	spec.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&in.Battery, "battery", "", "`NAME` of a module that comes with rustmq")
	flags.StringVar(&sample, "sample", "", "`FILE` of records that it is tried with first, one a line; - is standard input")
	flags.StringVarP(&format, "format", "f", "%v", "how a line of the sample becomes a record, as of produce, or json")
	flags.StringVar(&in.Topic, "topic", "", "`TOPIC` of the sample (default: one that the spec names)")
	flags.BoolVar(&in.Disabled, "disabled", false, "do not make it active")
	flags.BoolVar(&in.DryRun, "dry-run", false, "try it, and change nothing; the bytes of a FILE are put into the bucket, and deleted later")
	return cmd
}

// uploadModule sends the bytes of a file.
func (c *caller) uploadModule(ctx context.Context, file string) (hash string, err error) {
	wasm, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the module: %w", err)
	}
	if len(wasm) > metadata.MaxModuleBytes {
		return "", fmt.Errorf("%s has %d bytes: a module has %d at most", file, len(wasm), metadata.MaxModuleBytes)
	}
	var out struct {
		SHA256 string `json:"sha256"`
	}
	if err := c.send(ctx, http.MethodPost, uploadsPath, "application/wasm", wasm, &out); err != nil {
		return "", err
	}
	if sum := sha256.Sum256(wasm); out.SHA256 != hex.EncodeToString(sum[:]) {
		return "", fmt.Errorf("%s came as other bytes than were sent, with SHA-256 %s: try again", file, visible(out.SHA256))
	}
	return out.SHA256, nil
}

func (e *env) showDeployed(out *ETLDeployed) {
	e.showTrial(out.Trial, false)
	switch {
	case out.DryRun:
		fmt.Fprintf(e.stdout, "module %s: version %d would do; nothing was changed\n", visible(out.Name), out.Version)
	case out.Active:
		fmt.Fprintf(e.stdout, "module %s: version %d is active\n", visible(out.Name), out.Version)
	default:
		fmt.Fprintf(e.stdout, "module %s: version %d is deployed, and not active: rustmq admin etl enable %s --version %d\n", visible(out.Name), out.Version, visible(out.Name), out.Version)
	}
	for _, note := range out.Notes {
		fmt.Fprintln(e.stdout, "note:", visible(note))
	}
}

func (e *env) listModules() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List modules, and which version of each is active", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Modules []ETLModule `json:"modules"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, modulesPath, nil, &out); err != nil {
				return err
			}
			return e.print(out.Modules, func() {
				t := e.table("MODULE", "STATE", "ACTIVE", "VERSIONS", "MODE", "TOPICS", "HERE")
				for _, m := range out.Modules {
					t.AppendRow(table.Row{m.Name, stateOf(&m), versionOrDash(m.Active), len(m.Versions), m.Mode, strings.Join(m.Topics, " "), hereOf(m.Here)})
				}
				t.Render()
			})
		},
	}
}

func stateOf(m *ETLModule) string {
	if m.State != "budget-spent" {
		return m.State
	}
	does, known := map[string]string{"reject": "records are refused", "pass": "records pass", "dead-letter": "records go to dead letters"}[m.OnFailure]
	if m.Mode == string(pipeline.Async) {
		does, known = "records wait", true
	}
	if !known {
		does = "records are refused"
	}
	return "error budget spent: " + does
}

func versionOrDash(number uint32) string {
	if number == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(number), 10)
}

func hereOf(h *ETLHere) string {
	switch {
	case h == nil:
		return "-"
	case !h.Ready:
		return "not ready"
	}
	text := "ready"
	if len(h.Partitions) > 0 {
		lag, waiting := int64(0), 0
		for _, p := range h.Partitions {
			lag += p.Lag
			if p.State == "waiting" || p.State == "refused" {
				waiting++
			}
		}
		text += fmt.Sprintf(", %s, lag %d", plural(len(h.Partitions), "partition"), lag)
		if waiting > 0 {
			text += fmt.Sprintf(", %d waiting", waiting)
		}
	}
	if h.Failures > 0 {
		text += ", " + plural(int(h.Failures), "failure")
	}
	return text
}

func (e *env) describeModule() *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME", Short: "Show a module, its versions and their specs", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var out ETLModule
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, modulePath(args[0]), nil, &out); err != nil {
				return err
			}
			return e.print(out, func() { e.showModule(&out) })
		},
	}
}

func (e *env) showModule(m *ETLModule) {
	fmt.Fprintf(e.stdout, "module    %s\nstate     %s\nactive    %s\nprevious  %s\nhere      %s\n", visible(m.Name), stateOf(m), versionOrDash(m.Active), versionOrDash(m.Previous), hereOf(m.Here))
	if m.Reason != "" {
		fmt.Fprintln(e.stdout, "reason   ", visible(m.Reason))
	}
	if m.Here != nil && m.Here.Error != "" {
		fmt.Fprintln(e.stdout, "error    ", visible(m.Here.Error))
	}
	if m.Here != nil && len(m.Here.Partitions) > 0 {
		fmt.Fprintln(e.stdout)
		t := e.table("READS", "PARTITION", "STATE", "COMMITTED", "END", "LAG", "ERROR")
		for _, p := range m.Here.Partitions {
			t.AppendRow(table.Row{p.Topic, p.Partition, p.State, p.Committed, p.End, p.Lag, p.Error})
		}
		t.Render()
	}
	fmt.Fprintln(e.stdout)
	t := e.table("VERSION", "BYTES", "CREATED", "BY", "SHA-256", "SPEC")
	for _, v := range m.Versions {
		t.AppendRow(table.Row{v.Number, v.Bytes, v.Created.Format(time.RFC3339), v.By, v.SHA256[:min(len(v.SHA256), 12)], string(v.Spec)})
	}
	t.Render()
}

// changeModule calls what answers with the module as it is then.
func (e *env) changeModule(cmd *cobra.Command, name, verb string, in any) error {
	var out ETLModule
	if err := e.client(cmd).call(cmd.Context(), http.MethodPost, modulePath(name)+"/"+verb, in, &out); err != nil {
		return err
	}
	return e.print(out, func() {
		if out.Active == 0 {
			fmt.Fprintf(e.stdout, "module %s is disabled\n", visible(out.Name))
			return
		}
		fmt.Fprintf(e.stdout, "module %s: version %d is active\n", visible(out.Name), out.Active)
	})
}

func (e *env) enableModule() *cobra.Command {
	var version uint32
	cmd := &cobra.Command{
		Use: "enable NAME", Short: "Make a version of a module active", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeModule(cmd, args[0], "enable", ETLEnable{version})
		},
	}
	cmd.Flags().Uint32Var(&version, "version", 0, "`VERSION` (default: the one that was active last, or else the newest)")
	return cmd
}

func (e *env) disableModule() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "disable NAME", Short: "Have records pass without a module; its versions stay", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeModule(cmd, args[0], "disable", ETLDisable{reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY`, for the history")
	return cmd
}

func (e *env) rollbackModule() *cobra.Command {
	var to uint32
	var reason string
	cmd := &cobra.Command{
		Use: "rollback NAME", Short: "Go back to the version of a module that was active before", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeModule(cmd, args[0], "rollback", ETLRollback{to, reason})
		},
	}
	flags := cmd.Flags()
	flags.Uint32Var(&to, "to", 0, "`VERSION` to go to (default: the one that was active before)")
	flags.StringVar(&reason, "reason", "", "`WHY`, for the history")
	return cmd
}

func (e *env) deleteModule() *cobra.Command {
	var version uint32
	var force, dry bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a module, or one version of it",
		Long: "Delete a module with all its versions and its history, or one version of it. One that is\nactive is left, unless --force. With its last version a module goes, and its history. The bytes\nleave the bucket later.", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := e.client(cmd)
			var is ETLModule
			if dry {
				if err := c.call(cmd.Context(), http.MethodGet, modulePath(args[0]), nil, &is); err != nil {
					return err
				}
				if err := is.mayDelete(version, force); err != nil {
					return err
				}
				return e.print(is, func() {
					fmt.Fprintf(e.stdout, "module %s (%s, %s) would be deleted%s; nothing was\n", visible(is.Name), stateOf(&is), plural(len(is.Versions), "version"), onlyVersion(version))
				})
			}
			path := modulePath(args[0]) + fmt.Sprintf("?version=%d&force=%v", version, force)
			if err := c.call(cmd.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			return e.print(struct {
				Deleted string `json:"deleted"`
				Version uint32 `json:"version,omitempty"`
			}{args[0], version}, func() { fmt.Fprintf(e.stdout, "module %s is deleted%s\n", visible(args[0]), onlyVersion(version)) })
		},
	}
	flags := cmd.Flags()
	flags.Uint32Var(&version, "version", 0, "`VERSION` to delete (default: the module)")
	flags.BoolVar(&force, "force", false, "though it is active")
	flags.BoolVar(&dry, "dry-run", false, "say what would be deleted")
	return cmd
}

// mayDelete says why a deletion would be refused, as far as the module as it is now tells.
func (m *ETLModule) mayDelete(version uint32, force bool) error {
	if version != 0 && !slices.ContainsFunc(m.Versions, func(v ETLVersion) bool { return v.Number == version }) {
		return fmt.Errorf("module %s has no version %d; `rustmq admin etl describe %s` shows those it has", visible(m.Name), version, visible(m.Name))
	}
	if m.Stands != 0 && (version == 0 || version == m.Stands) && !force {
		is := "active"
		if m.Active == 0 {
			is = "what records meet, for its error budget is spent"
		}
		return fmt.Errorf("version %d of %s is %s, and would be left: disable it first (rustmq admin etl disable %s), or delete it with --force", m.Stands, visible(m.Name), is, visible(m.Name))
	}
	return nil
}

func onlyVersion(version uint32) string {
	if version == 0 {
		return ""
	}
	return fmt.Sprintf(", version %d alone", version)
}

func (e *env) moduleHistory() *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "Show what was done to a module, when and by whom", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var out struct {
				History []ETLChange `json:"history"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, modulePath(args[0])+"/history", nil, &out); err != nil {
				return err
			}
			return e.print(out.History, func() {
				t := e.table("AT", "BY", "WHAT", "VERSION", "REASON")
				for _, c := range out.History {
					t.AppendRow(table.Row{c.At.Format(time.RFC3339), c.By, c.What, versionOrDash(c.Version), c.Reason})
				}
				t.Render()
			})
		},
	}
}

func (e *env) listBatteries() *cobra.Command {
	return &cobra.Command{
		Use: "batteries", Short: "List the modules that come with rustmq", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Batteries []Battery `json:"batteries"`
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/etl/batteries", nil, &out); err != nil {
				return err
			}
			return e.print(out.Batteries, func() {
				t := e.table("BATTERY", "BYTES", "SHA-256", "WHAT IT DOES")
				for _, b := range out.Batteries {
					t.AppendRow(table.Row{b.Name, b.Bytes, b.SHA256[:min(len(b.SHA256), 12)], b.Doc})
				}
				t.Render()
			})
		},
	}
}
