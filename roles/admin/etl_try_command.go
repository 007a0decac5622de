package admin

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/consensus/metadata"
)

// anyTopic is the spec's topics where `etl test` is given none.
const anyTopic = "*"

// maxTried bounds the records that it tries in its own process, which it holds all at once.
const maxTried = 100_000

func (e *env) testModule() *cobra.Command {
	var spec specFlags
	var input, format, topic string
	var version uint32
	cmd := &cobra.Command{
		Use: "test MODULE", Short: "Show what a module does with records, without any effect",
		Long: `Show what a module does with records: each before and after, with what is decided about it.
MODULE is a .wasm file, or a battery that comes with rustmq: it runs in this process, as it would
on a broker, and no server is asked. Else it is the name of a module that is deployed, which the
server tries with the spec of its version.`,
		Example: "  rustmq admin etl test mask --config @mask.json --sample users.ndjson\n" +
			"  rustmq admin etl test ./check.wasm --spec check.json --sample - -f json -o json\n" +
			"  rustmq admin etl test hide-mail --sample users.ndjson",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			local, err := e.localModule(args[0])
			if err != nil {
				return err
			}
			most := maxTried
			if local == nil {
				most = maxSample
			}
			records, err := e.records(cmd, input, format, most)
			if err != nil {
				return err
			}
			var out ETLTrial
			if local == nil {
				if flag := changedSpec(cmd); flag != "" {
					return &UsageError{fmt.Sprintf("--%s: %s is tried with the spec of its version, for it is neither a file nor a battery", flag, args[0])}
				}
				sample, err := bodySample(records)
				if err != nil {
					return err
				}
				c := e.patient(cmd)
				c.asksOnly = true
				if err := c.call(cmd.Context(), http.MethodPost, modulePath(args[0])+"/test", ETLTest{Version: version, Topic: topic, Sample: sample}, &out); err != nil {
					return err
				}
				return e.print(out, func() { e.showTrial(&out, true) })
			}
			if cmd.Flags().Changed("version") {
				return &UsageError{fmt.Sprintf("--version: %s is a file or a battery, which has none; name a module that is deployed", args[0])}
			}
			if spec.file == "" && len(spec.topics) == 0 {
				if err := cmd.Flags().Set("topics", cmp.Or(topic, anyTopic)); err != nil {
					return err
				}
			}
			raw, err := spec.spec(cmd)
			if err != nil {
				return err
			}
			parsed, _, err := parseSpec(raw)
			if err != nil {
				return err
			}
			tried, err := e.etl.Try(cmd.Context(), args[0], local, parsed, topic, records)
			if err != nil {
				return fmt.Errorf("module %s: %w", args[0], err)
			}
			out = *shownTrial(tried)
			return e.print(out, func() { e.showTrial(&out, true) })
		},
	}
	spec.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&input, "sample", "", "`FILE` of records, one a line; - is standard input (default: none, the module is only loaded)")
	flags.StringVarP(&format, "format", "f", "%v", "how a line becomes a record, as of produce, or json")
	flags.StringVar(&topic, "topic", "", "`TOPIC` of the records (default: one that the spec names)")
	flags.Uint32Var(&version, "version", 0, "`VERSION` of a module that is deployed (default: the one that is active)")
	return cmd
}

// changedSpec is a flag of the spec that was given.
func changedSpec(cmd *cobra.Command) string {
	for _, name := range []string{"spec", "mode", "topics", "config", "on-failure", "dead-letter-topic", "routes", "output-topic", "stage", "priority", "deadline", "memory", "instances"} {
		if cmd.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// localModule returns the bytes of a file or a battery; nil: it is neither.
func (e *env) localModule(name string) ([]byte, error) {
	if !strings.ContainsAny(name, "./\\") {
		if wasm, known := e.etl.Battery(name); known {
			return wasm, nil
		}
		return nil, nil
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s", name)
	case err != nil:
		return nil, fmt.Errorf("read the module: %w", err)
	case info.Size() > metadata.MaxModuleBytes:
		return nil, fmt.Errorf("%s has %d bytes: a module has %d at most", name, info.Size(), metadata.MaxModuleBytes)
	}
	wasm, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	return wasm, nil
}

// longestShown is how much of a value a table shows.
const longestShown = 60

// showTrial shows what became of records; whole: also of those that are kept as they are.
func (e *env) showTrial(t *ETLTrial, whole bool) {
	if t == nil {
		return
	}
	counts := map[string]int{}
	rows := e.table("RECORD", "DECISION", "BEFORE", "AFTER")
	shown := 0
	for i, r := range t.Records {
		counts[r.Action]++
		if !whole && (r.Action == "keep" || r.Action == "skip") {
			continue
		}
		shown++
		what := r.Action
		if r.Text != "" {
			what += " " + clipped(r.Text)
		}
		if r.Error != "" {
			what += " (" + r.Error + ")"
		}
		after := "-"
		switch {
		case r.After != nil:
			after = shownSample(r.After)
		case r.Action == "keep" || r.Action == "skip" || r.Action == "route":
			after = "as it is"
		}
		before := shownSample(&r.Before)
		if r.After != nil {
			before, after = fromDifference(before, after)
		}
		rows.AppendRow(table.Row{i + 1, what, clipped(before), clipped(after)})
	}
	if shown > 0 {
		rows.Render()
		fmt.Fprintln(e.stdout)
	}
	for _, line := range t.Logs {
		fmt.Fprintln(e.stdout, "module says:", visible(line))
	}
	var parts []string
	for _, action := range []string{"keep", "change", "skip", "drop", "route", "reject"} {
		if n := counts[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", action, n))
		}
	}
	fmt.Fprintf(e.stdout, "loaded in %s", micros(t.LoadMicro))
	if n := len(t.Records); n > 0 {
		fmt.Fprintf(e.stdout, "; %s of topic %s in %s, %.2f µs each: %s", plural(n, "record"), visible(t.Topic), micros(t.CallMicro), float64(t.CallMicro)/float64(n), strings.Join(parts, ", "))
	} else {
		fmt.Fprint(e.stdout, "; tried with no records")
	}
	fmt.Fprintln(e.stdout)
}

func micros(us int64) string {
	if us >= 10_000 {
		return fmt.Sprintf("%d ms", us/1000)
	}
	return fmt.Sprintf("%d µs", us)
}

// shownSample is a record in a cell: its key, value and headers.
func shownSample(r *ETLRecord) string {
	var parts []string
	if r.Key != nil || r.KeyBase64 != nil {
		parts = append(parts, "key="+cell(r.Key, r.KeyBase64))
	}
	parts = append(parts, cell(r.Value, r.ValueBase64))
	for _, h := range r.Headers {
		parts = append(parts, h.Key+"="+cell(h.Value, h.ValueBase64))
	}
	return strings.Join(parts, " ")
}

func cell(text *string, raw []byte) string {
	switch {
	case text != nil:
		return *text
	case raw != nil:
		return fmt.Sprintf("%d bytes", len(raw))
	}
	return "null"
}

// fromDifference cuts off what two texts have in common at their beginnings, but for a little,
// where the difference would not be seen else.
func fromDifference(before, after string) (string, string) {
	a, b := []rune(before), []rune(after)
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	if same <= longestShown/2 {
		return before, after
	}
	from := same - longestShown/4
	return "…" + string(a[from:]), "…" + string(b[from:])
}

func clipped(text string) string {
	if runes := []rune(text); len(runes) > longestShown {
		return string(runes[:longestShown]) + "…"
	}
	return text
}
