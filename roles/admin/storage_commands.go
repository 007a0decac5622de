package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/roles/controller"
)

// ProbeURL probes a bucket from this process, as a server with that
// configuration would open it.
type ProbeURL func(ctx context.Context, url, configFile string, set []string) (Probe, error)

const storagePath = "/api/v1/storage"

// storageCommand is `rustmq admin storage …`.
func (e *env) storageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "storage", Short: "Show the bucket; probe it, check it, say what it costs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s BucketState
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, storagePath, nil, &s); err != nil {
				return err
			}
			return e.print(s, func() { e.showBucket(s, time.Now()) })
		},
	}
	cmd.AddCommand(e.probeStorage(), e.checkStorage(), e.storageCost(), e.confirmClock())
	return cmd
}

func (e *env) showBucket(s BucketState, now time.Time) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.stdout, "%-12s"+format+"\n", append([]any{name}, args...)...)
	}
	line("bucket", "%s", s.Where)
	line("keys", "%s…", s.Prefix)
	circuit := "closed: requests pass"
	if s.Circuit != "closed" {
		circuit = fmt.Sprintf("%s for %s: the store is left alone but for probes", s.Circuit, ago(now, s.CircuitSince))
	}
	line("circuit", "%s; %d retries, %d calls refused", circuit, s.Retries, s.Refused)
	if s.LastError != "" {
		line("last error", "%s ago: %s", ago(now, s.LastErrorAt), s.LastError)
	}
	if u := s.Upload; u != nil {
		waiting := "nothing"
		if u.WaitingBytes > 0 {
			waiting = fmt.Sprintf("%s of %s, the oldest for %s", size(u.WaitingBytes), plural(u.Partitions, "partition"), ago(now, u.WaitingSince))
		}
		line("waiting", "%s; %s under way", waiting, plural(int(u.Running), "object"))
		line("uploaded", "%s with %s since the start, %s", plural(int(u.Objects), "object"), size(u.Bytes), plural(int(u.Failures), "failure"))
	}
	if w := s.WAL; w != nil {
		line("log", "%s of %s used; %.0f %% of what produce may use", size(w.Used), size(w.Capacity), 100*w.Fullness)
	}
	line("metadata", "changes up to %d, in the bucket up to %d", s.MetadataLog.Applied, s.MetadataLog.Shipped)
	filed := ""
	if s.Manifests > 0 {
		filed = fmt.Sprintf(", %d of them in %s", s.Filed, plural(s.Manifests, "manifest"))
	}
	line("records", "%s in %s%s", size(s.RecordBytes), plural(s.Ranges, "range"), filed)
	for _, w := range s.Warnings {
		line("WARNING", "%s", w)
	}
	fmt.Fprintln(e.stdout)
	t := e.table("OBJECTS", "NUMBER", "BYTES")
	for _, state := range []string{"prepared", "committed", "condemned"} {
		t.AppendRow(table.Row{state, s.Objects[state].Objects, size(s.Objects[state].Bytes)})
	}
	t.Render()
	fmt.Fprintln(e.stdout)
	t = e.table("REQUESTS", "CALLS", "NUMBER", "ERRORS", "BYTES", "MEAN")
	for _, r := range s.Requests {
		mean := "-"
		if r.Calls > 0 {
			mean = milliseconds(r.Seconds / float64(r.Calls))
		}
		t.AppendRow(table.Row{r.Class, r.Calls, r.Requests, r.Errors, size(int64(r.Bytes)), mean})
	}
	t.Render()
}

func milliseconds(seconds float64) string { return fmt.Sprintf("%.1f ms", 1000*seconds) }

// errProbe and errDamaged end commands whose output says why.
var (
	errProbe   = errors.New("the bucket does not do all that is needed: the steps that failed stand above, with what each is for; docs/storage.md lists what the credentials must allow")
	errDamaged = errors.New("records are missing from the bucket, or damaged: keep the bucket as it is, and what is still in the logs of the brokers; docs/storage.md says what to do")
)

func (e *env) probeStorage() *cobra.Command {
	var file string
	var set []string
	cmd := &cobra.Command{
		Use: "probe [URL]", Short: "Try all that is needed of a bucket, and time it", Args: cobra.MaximumNArgs(1),
		Long: "Writes, reads, lists and deletes objects of its own, which begin with probe-, and says what does not work and how long each step took.\n" +
			"Without URL, the server tries its own bucket, below the cluster's keys. With URL, no cluster is known, and they are put below object_storage.prefix: this process opens that bucket, by the same code and with its own credentials.",
		Example: "  rustmq admin storage probe\n  rustmq admin storage probe 's3://streams?region=eu-central-1' --set object_storage.prefix=production",
		RunE: func(cmd *cobra.Command, args []string) error {
			var p Probe
			var err error
			switch {
			case len(args) == 1:
				p, err = e.probeURL(cmd.Context(), args[0], file, set)
			case file != "" || len(set) > 0:
				err = &UsageError{"--config and --set say how to open a URL; give one, or neither"}
			default:
				server := e.patient(cmd)
				server.asksOnly = true
				err = server.call(cmd.Context(), http.MethodPost, storagePath+"/probe", nil, &p)
			}
			if err != nil {
				return err
			}
			if err := e.print(p, func() { e.showProbe(p) }); err != nil || p.OK {
				return err
			}
			return errProbe
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "TOML `FILE` of the server's configuration, for the keys of object_storage")
	cmd.Flags().StringArrayVar(&set, "set", nil, "`object_storage.key=value`, may be repeated")
	return cmd
}

func (e *env) showProbe(p Probe) {
	fmt.Fprintf(e.stdout, "bucket      %s\nclock       %s\n\n", p.Where, skew(p.SkewSeconds))
	t := e.table("STEP", "TOOK", "RESULT")
	for _, s := range p.Steps {
		result := "ok"
		if s.Error != "" {
			result = "FAILED: " + s.Error
		}
		t.AppendRow(table.Row{s.Name, milliseconds(s.Seconds), result})
	}
	t.Render()
	var told []string
	for _, s := range p.Steps {
		if s.Means != "" && !slices.Contains(told, s.Means) {
			told = append(told, s.Means)
			fmt.Fprintf(e.stdout, "\nwithout %q: %s", s.Name, s.Means)
		}
	}
	if len(told) > 0 {
		fmt.Fprintln(e.stdout)
	}
}

func skew(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)).Round(time.Second); {
	case d > 0:
		return d.String() + " ahead of the clock here"
	case d < 0:
		return d.Abs().String() + " behind the clock here"
	}
	return "as here, to a second"
}

func (e *env) checkStorage() *cobra.Command {
	var r controller.CheckRequest
	cmd := &cobra.Command{
		Use: "check", Short: "Compare the bucket with the catalogue", Args: cobra.NoArgs,
		Long: "Lists the cluster's objects and compares them with the catalogue. Nothing is changed, unless --repair is given: that deletes objects that came\n" +
			"after their deletion and were seen by two listings, object_storage.grace apart, as the server does by itself. What the catalogue names is never\n" +
			"deleted, nor is what is not known here. The exit code is 1 when records are missing or damaged.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Findings < 0 || r.Findings > controller.MaxFindings {
				return &UsageError{fmt.Sprintf("--findings %d: want 0 to %d", r.Findings, controller.MaxFindings)}
			}
			whole, begun, err := e.check(cmd, r)
			if !begun {
				return err
			}
			if failed := e.print(whole, func() { e.showCheck(whole, r) }); failed != nil {
				return errors.Join(err, failed)
			}
			if err != nil {
				err = fmt.Errorf("%w; what stands above is of the keys before %s: --after %s goes on there", err, whole.Next, whole.Next)
			}
			if whole.Damaged() {
				err = errors.Join(err, errDamaged)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&r.After, "after", "", "go on behind `KEY`, to which an earlier check came")
	cmd.Flags().BoolVar(&r.Repair, "repair", false, "delete orphans that an earlier check has seen too, object_storage.grace ago: run it twice")
	cmd.Flags().BoolVar(&r.Verify, "verify", false, "read every object, and compare each byte with its checksum")
	cmd.Flags().IntVar(&r.Findings, "findings", 20, "findings of each kind that are shown, up to 1000; all are counted")
	return cmd
}

// check asks for one part after the other. Where it does not come to the end, it
// returns what the parts before have shown, if there was one.
func (e *env) check(cmd *cobra.Command, r controller.CheckRequest) (whole *controller.CheckReport, begun bool, err error) {
	whole = &controller.CheckReport{Findings: []controller.Finding{}}
	progress := progressOn(cmd.ErrOrStderr())
	defer progress(nil)
	server := e.patient(cmd)
	server.asksOnly = !r.Repair
	for {
		var part controller.CheckReport
		if err := server.call(cmd.Context(), http.MethodPost, storagePath+"/check", r, &part); err != nil {
			return whole, begun, err
		}
		whole.Add(&part)
		whole.Findings = controller.FirstOfEach(whole.Findings, r.Findings)
		begun = true
		if r.After = part.Next; r.After == "" {
			return whole, begun, nil
		}
		progress(whole)
	}
}

// progressOn returns what shows how far a check is, on a terminal; nil ends it.
func progressOn(w io.Writer) func(*controller.CheckReport) {
	show, shown := client.Showing(w), false
	return func(r *controller.CheckReport) {
		if r != nil {
			shown = true
			show(fmt.Sprintf("%3d %% of the keys: %d objects, %s read", checked(r.Next), r.Committed.Objects, size(r.Verified.Bytes)))
		} else if shown {
			show("")
		}
	}
}

// checked says how many per cent of the keys lie before next: they begin with two
// hex digits, each pair as often as any other.
func checked(next string) int {
	n, err := strconv.ParseUint(next[:min(2, len(next))], 16, 8)
	if err != nil {
		return 0
	}
	return int(n * 100 / 256)
}

func (e *env) showCheck(r *controller.CheckReport, asked controller.CheckRequest) {
	t := e.table("OBJECTS", "NUMBER", "BYTES", "")
	row := func(name string, tally controller.Tally, meaning string) {
		t.AppendRow(table.Row{name, tally.Objects, size(tally.Bytes), meaning})
	}
	row("committed", r.Committed, "named by the catalogue, and there")
	row("prepared", r.Prepared, "uploads under way, or given up in a while")
	row("condemned", r.Condemned, "named by nothing any more, deleted in a while")
	row("missing", r.Missing, "named by the catalogue, and not there")
	row("wrong size", r.WrongSize, "named by the catalogue with another size")
	if asked.Verify {
		row("verified", r.Verified, "read, every byte")
		row("corrupt", r.Corrupt, "of them, those with damage")
	} else if r.Corrupt.Objects > 0 {
		row("corrupt", r.Corrupt, "manifests, which are always read")
	}
	row("orphans", r.Orphans, "came after their deletion; they go once two listings have shown them, object_storage.grace apart")
	if asked.Repair {
		row("deleted", r.Deleted, "of them, now")
	}
	if r.Unjudged.Objects > 0 {
		row("unjudged", r.Unjudged, "a manifest that cannot be read may list them: left alone")
	}
	row("foreign", r.Foreign, "never issued here: left alone")
	t.Render()
	if len(r.Findings) == 0 {
		return
	}
	fmt.Fprintln(e.stdout)
	t = e.table("FOUND", "KEY", "RECORDS", "DETAIL")
	for _, f := range r.Findings {
		records := "-"
		if g := f.Range; g != nil {
			records = fmt.Sprintf("%s-%d [%d, %d)", g.Topic, g.Partition, g.Base, g.End)
		}
		t.AppendRow(table.Row{f.Kind, f.Key, records, f.Detail})
	}
	t.Render()
}

func (e *env) storageCost() *cobra.Command {
	return &cobra.Command{
		Use: "cost", Short: "Say what the bucket costs at list prices, beside replicated disks", Args: cobra.NoArgs,
		Long: "Requests are those that this server has counted since its start; prices are those of object_storage.prices, by default the list prices of\n" +
			"the store. Machines, the disk of the log, and what leaves the store's network are not part of it; docs/cost.md has a whole bill.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c Cost
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, storagePath+"/cost", nil, &c); err != nil {
				return err
			}
			return e.print(c, func() { e.showCost(c) })
		},
	}
}

func (e *env) showCost(c Cost) {
	t := e.table("REQUESTS", "NUMBER", "BYTES", "PER 1000", "COST")
	prices := map[string]float64{"put": c.Prices.Put, "get": c.Prices.Get, "head": c.Prices.Get, "list": c.Prices.List}
	for _, r := range c.Requests {
		t.AppendRow(table.Row{r.Class, r.Requests, size(int64(r.Bytes)), dollars(prices[r.Class]), dollars(r.Dollars)})
	}
	t.Render()
	written := "nothing was written yet"
	if c.WrittenBytes > 0 {
		written = fmt.Sprintf("%s for each GiB written (%s since %s, put %.1f times)",
			dollars(c.PerGiBWritten), size(c.WrittenBytes), c.Since.Format(time.DateTime), c.Amplification)
	}
	fmt.Fprintf(e.stdout, "\nrequests    %s\n", written)
	fmt.Fprintf(e.stdout, "storage     %s for each GiB of records and month (%s of records in %s of objects)\n", dollars(c.PerGiBMonth), size(c.RecordBytes), size(c.StoredBytes))
	month := dollars(c.Month.Storage) + " of storage as it is now"
	if c.Month.Requests > 0 {
		month += ", " + dollars(c.Month.Requests) + " of requests at the rate since the start"
	}
	fmt.Fprintf(e.stdout, "a month     %s\n", month)
	fmt.Fprintf(e.stdout, "on disks    %s for each GiB of records and month, %s in all: %d replicas, %.0f %% full\n",
		dollars(c.Disks.PerGiBMonth), dollars(c.Disks.Month), c.Disks.Replicas, 100*c.Disks.Filled)
	fmt.Fprintf(e.stdout, "            %s for each GiB written: the copies in two other zones\n", dollars(c.Disks.PerGiBWritten))
	if c.Cheaper > 0 {
		fmt.Fprintf(e.stdout, "so          storage in the bucket is %.1f times cheaper, the disk of the log left out\n", c.Cheaper)
	}
	fmt.Fprintf(e.stdout, "prices      %s\n", c.Prices.Source)
}

// dollars shows an amount with three digits that tell something.
func dollars(v float64) string {
	digits := 2
	for limit := 0.1; v > 0 && v < limit && digits < 10; limit /= 10 {
		digits++
	}
	if v < 1 && v > 0 {
		digits++
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 2 {
		s = strings.TrimRight(s, "0")
		for len(s)-strings.IndexByte(s, '.') < 3 {
			s += "0"
		}
	}
	return "$" + s
}

func (e *env) confirmClock() *cobra.Command {
	return &cobra.Command{
		Use: "confirm-clock", Short: "Let retention by age go on after the server's clock has jumped", Args: cobra.NoArgs,
		Long: "Retention by age, and all else that expires, stops when the wall clock jumps by more than an hour against the monotonic one, for a wrong clock would delete what is to be kept.\n" +
			"Make sure that the time of the controller is right, then confirm it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out ClockConfirmed
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, storagePath+"/confirm-clock", nil, &out); err != nil {
				return err
			}
			return e.print(out, func() {
				if !out.Confirmed {
					fmt.Fprintln(e.stdout, "there was nothing to confirm: retention by age has not stopped for the clock of this server, and nothing was changed")
					return
				}
				fmt.Fprintf(e.stdout, "the clock is confirmed: retention by age goes on; it had stopped: %s\n", out.Was)
			})
		},
	}
}
