package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/roles/doctor"
)

// bucketTime is how long the bucket may take to be probed.
const bucketTime = time.Minute

// doctorCommand is `rustmq doctor`. It takes what serve takes, so that it judges the host
// for the very node that is to run there.
func doctorCommand(stdout io.Writer, cloud Cloud) *cobra.Command {
	f := serveFlags{cloud: cloud}
	var output string
	var noBucket bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look at this host before a node runs on it, and say what to change", Args: cobra.NoArgs,
		Long: "Looks at disk, clock, limits, memory, network, ports, certificates and bucket, for the node that `rustmq serve` with the same flags would be. Each check says\n" +
			"what there is, and unless that is well what follows and what to change. It measures for some seconds, by a file of its own that it removes; a bucket that is\n" +
			"named is probed with objects of its own. Exit 1 when a check fails; warnings are no failure.",
		Example: "  rustmq doctor\n  rustmq doctor --config /etc/rustmq/rustmq.toml -o json\n  rustmq doctor --data-dir /var/lib/rustmq --bucket 's3://streams?region=eu-central-1'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := client.CheckOutput(output); err != nil {
				return err
			}
			report, err := f.examine(cmd.Context(), cmd.Flags(), noBucket)
			if err != nil {
				return err
			}
			if err := client.Print(stdout, output, report, func() error { return showReport(stdout, report) }); err != nil {
				return err
			}
			if !report.OK {
				return fmt.Errorf("this host is not fit for that node: %s", report.Failed())
			}
			return nil
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&noBucket, "no-bucket", false, "do not ask the bucket")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

// examine looks at the host. A configuration that cannot be used is a finding too: the host
// is judged by the defaults then.
func (f *serveFlags) examine(ctx context.Context, flags *pflag.FlagSet, noBucket bool) (doctor.Report, error) {
	config, err := f.load(flags, "")
	wrong, unusable := errors.AsType[*configs.Error](err)
	if err != nil && !unusable {
		return doctor.Report{}, err
	}
	checks := []doctor.Check{checkConfig(f.config, wrong)}
	if unusable {
		config, noBucket = configs.Default(), true
	}
	checks = append(checks, doctor.Examine(ctx, doctor.Options{Config: config})...)
	return doctor.Of(append(checks, f.checkBucket(ctx, config, noBucket)...)...), nil
}

func checkConfig(file string, wrong *configs.Error) doctor.Check {
	check := doctor.Check{Name: "configuration", Verdict: doctor.OK, Found: "of flags, environment and defaults"}
	if file != "" {
		check.Found = file + ", with flags and environment"
	}
	if wrong != nil {
		problems := make([]string, len(wrong.Problems))
		for i, p := range wrong.Problems {
			problems[i] = p.String()
		}
		check.Verdict, check.Found = doctor.Fail, strings.Join(problems, "; ")
		check.Why, check.Do = "the node does not start; the rest is judged by the defaults", "mend it; `rustmq config check FILE` and docs/configuration.md say how"
	}
	return check
}

// checkBucket probes the bucket, where there is one that a node would not make itself.
func (f *serveFlags) checkBucket(ctx context.Context, c *configs.Config, no bool) []doctor.Check {
	skip := func(why string) []doctor.Check {
		return []doctor.Check{{Name: "bucket", Verdict: doctor.Skip, Found: why}}
	}
	url := c.Storage.URL
	switch {
	case no:
		return skip("it was not asked")
	case url == "":
		return skip("none is named: it is a directory in the data directory, and goes with that disk")
	case strings.HasPrefix(url, "mem:"):
		return []doctor.Check{{Name: "bucket", Verdict: doctor.Warn, Found: "mem://", Why: "it goes with the process, and what was acked with it", Do: "name another with --bucket, but for a trial"}}
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	p, err := f.cloud.probe(ctx, url, f.config, f.set)
	found := doctor.Probed{Where: p.Where, Skew: time.Duration(p.SkewSeconds * float64(time.Second))}
	for _, step := range p.Steps {
		found.Took = max(found.Took, time.Duration(step.Seconds*float64(time.Second)))
		if step.Error != "" {
			found.Failed = append(found.Failed, step.Name+": "+step.Error)
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return skip(url + " is not there yet: the node makes it")
	}
	return doctor.Bucket(found, err)
}

// showReport prints a check a line, and below what is not well why and what to do.
func showReport(w io.Writer, r doctor.Report) error {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-5s %-16s %s\n", c.Verdict, c.Name, c.Found)
		if c.Why != "" {
			fmt.Fprintf(&b, "%22s why: %s\n", "", c.Why)
		}
		if c.Do != "" {
			fmt.Fprintf(&b, "%22s do:  %s\n", "", c.Do)
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d warnings, %d failed, %d not looked at\n", r.Count(doctor.OK), r.Count(doctor.Warn), r.Count(doctor.Fail), r.Count(doctor.Skip))
	_, err := io.WriteString(w, b.String())
	return err
}
