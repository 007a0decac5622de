package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/security/ca"
)

// certsCommand is `rustmq admin certs …`.
func (e *env) certsCommand() *cobra.Command {
	f := &authorityFlags{env: e}
	cmd := &cobra.Command{
		Use: "certs", Short: "Issue, renew, revoke and verify certificates, with an authority of `admin ca`", Args: cobra.NoArgs,
	}
	f.add(cmd)
	cmd.AddCommand(f.issue(), f.list(), f.showCertificate(), f.renew(), f.revoke(), f.verify())
	return cmd
}

// here is where certificates are written unless --out says otherwise.
const here = "."

const outUsage = "`DIR` that the files are written to; another than this one is given the file to trust and the revocation lists too, as bundle.pem and crl.pem"

// issuedView is what issue and renew print.
type issuedView struct {
	*ca.Record
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	Trust    string `json:"trust"`
}

// deliver writes a certificate and its key, and says where they are.
func (f *authorityFlags) deliver(c *ca.CA, issued *ca.Issued, out string, replaces bool) error {
	v, err := written(c, issued, out, replaces)
	if err != nil {
		return err
	}
	return f.print(v, func() { f.showIssued(v) })
}

// written writes a certificate and its key, and where out is another directory than this one
// what goes with them.
func written(c *ca.CA, issued *ca.Issued, out string, replaces bool) (v issuedView, err error) {
	err = os.MkdirAll(out, 0o755) // #nosec G301 -- bundle.pem is for all to read; keys are 0600
	if err != nil {
		return v, err
	}
	certFile, keyFile, err := issued.Write(out, replaces)
	if err != nil {
		return v, err
	}
	if out != here {
		if err := c.CopyTrust(out); err != nil {
			return v, err
		}
	}
	return issuedView{issued.Record, certFile, keyFile, c.BundleFile()}, nil
}

func (f *authorityFlags) showIssued(all ...issuedView) {
	t := f.table("NAME", "PROFILE", "SERIAL", "ENDS", "CERTIFICATE", "KEY")
	for _, v := range all {
		t.AppendRow(table.Row{v.Name, v.Profile, v.Serial, v.NotAfter.UTC().Format(time.DateOnly), v.CertFile, v.KeyFile})
	}
	t.Render()
}

func (f *authorityFlags) issue() *cobra.Command {
	q := ca.Request{}
	var out string
	cmd := &cobra.Command{
		Use: "issue NAME --profile PROFILE", Short: "Issue a certificate, with a key of its own", Args: cobra.ExactArgs(1),
		Long: "Issues a certificate and writes NAME.pem (with the intermediate) and NAME.key. Profiles:\n\n" +
			"  broker, controller   a node of the cluster, for both sides of a connection: give --cluster, --node and --host.\n" +
			"                       One that is both: --profile broker,controller\n" +
			"  client               a client of Kafka; by default its principal is User:CN=NAME,…\n" +
			"  admin                a person; with --node a process that has the role admin alone",
		Example: "  rustmq admin certs issue node-1 --profile broker,controller --cluster prod --node 1 --host 10.0.0.1 --host b1.example.org\n" +
			"  rustmq admin certs issue alice --profile client --days 30",
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Name = args[0]
			if q.Profile == "" {
				return &UsageError{"which profile? Give --profile broker, controller, client or admin"}
			}
			if err := oneOf("--key", q.KeyKind, ca.KeyKinds()); err != nil {
				return err
			}
			if err := q.Validate(); err != nil {
				return &UsageError{err.Error()}
			}
			certFile, keyFile := ca.Files(out, q.Name)
			for _, file := range []string{certFile, keyFile} {
				if _, err := os.Lstat(file); err == nil { // before it is in the ledger
					return fmt.Errorf("%s is there: name another directory with --out; `rustmq admin certs renew %s --out %s` replaces the certificate of that name", file, shellName(q.Name), shellName(out))
				}
			}
			return f.change(func(c *ca.CA) error {
				issued, err := c.Issue(q)
				if err != nil {
					return err
				}
				return f.deliver(c, issued, out, false)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Profile, "profile", "", "broker, controller, client or admin")
	flags.StringVar(&q.Cluster, "cluster", "", "`NAME` of the cluster, of a node: the same for all of its nodes")
	flags.Int32Var(&q.Node, "node", -1, "id of the node")
	flags.StringArrayVar(&q.Hosts, "host", nil, "`NAME` or address by which it is dialled, may be repeated")
	flags.StringArrayVar(&q.URIs, "uri", nil, "`URI` among the alternative names of a client, may be repeated")
	flags.StringArrayVar(&q.Emails, "email", nil, "mail `ADDRESS` among the alternative names of a client, may be repeated")
	flags.StringVar(&q.Org, "org", "", "`ORGANIZATION` in its name")
	flags.StringArrayVar(&q.Units, "ou", nil, "organisational `UNIT` in its name, may be repeated")
	flags.IntVar(&q.Days, "days", ca.DefaultDays, fmt.Sprintf("how long it is valid, 1 to %d", ca.MaxDays))
	flags.StringVar(&q.KeyKind, "key", ca.ECDSA, "kind of its key: "+strings.Join(ca.KeyKinds(), ", "))
	flags.StringVar(&out, "out", here, outUsage)
	return cmd
}

func (f *authorityFlags) renew() *cobra.Command {
	var out string
	var days, due int
	cmd := &cobra.Command{
		Use: "renew NAME|SERIAL | --due DAYS", Short: "Issue another certificate with the same names, and a new key", Args: cobra.MaximumNArgs(1),
		Long: "Issues another certificate to who has one, and writes it and its key in the place of those before, which stay valid until they end. Nodes take the files by themselves once they are in their place.\n\n" +
			"--due DAYS does that for all whose certificate ends within so many days, and for nobody if none does: for a timer, with the passphrase in --passphrase-file.",
		Example: "  rustmq admin certs renew node-1 --out certs\n  rustmq admin certs renew --due 30 --out certs",
		RunE: func(cmd *cobra.Command, args []string) error {
			all := cmd.Flags().Changed("due")
			switch {
			case days < 1 || days > ca.MaxDays:
				return &UsageError{fmt.Sprintf("--days %d: want 1 to %d", days, ca.MaxDays)}
			case all == (len(args) == 1):
				return &UsageError{"whose certificate? Give its name or serial number, or --due DAYS for all that end within so many days"}
			case all && (due < 1 || due > ca.MaxDays):
				return &UsageError{fmt.Sprintf("--due %d: want 1 to %d", due, ca.MaxDays)}
			case all && !cmd.Flags().Changed("days"):
				days = 0
			}
			named := cmd.Flags().Changed("out")
			if all {
				return f.renewDue(due, days, out, named)
			}
			return f.change(func(c *ca.CA) error {
				if r, err := c.Find(args[0]); err == nil && !named {
					if err := standsHere(r); err != nil {
						return err
					}
				}
				issued, err := c.Renew(args[0], days)
				if err != nil {
					return err
				}
				return f.deliver(c, issued, out, true)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", here, outUsage+"; files of the same names are replaced. Without it only what lies in this one is renewed")
	cmd.Flags().IntVar(&days, "days", ca.DefaultDays, fmt.Sprintf("how long it is valid, 1 to %d; with --due as long as the one before", ca.MaxDays))
	cmd.Flags().IntVar(&due, "due", 0, "all that end within so many `DAYS`")
	return cmd
}

// standsHere refuses to renew a certificate that does not lie in this directory, where nobody
// has said where it does: the one that is in use would stay as it is, and end.
func standsHere(r *ca.Record) error {
	file, _ := ca.Files("", r.Name)
	if _, err := os.Lstat(file); err != nil {
		return fmt.Errorf("%s is not in this directory: say by --out DIR where the certificate of %q lies that is to be replaced, or where another is to be written", file, visible(r.Name))
	}
	return nil
}

// renewDue renews what ends within so many days, for days, or where that is 0 for as long as
// it was issued before. That one cannot be renewed keeps no other from it.
func (f *authorityFlags) renewDue(within, days int, out string, named bool) error {
	left := time.Duration(within) * 24 * time.Hour
	c, err := f.look()
	if err != nil {
		return err
	}
	if len(c.Due(left)) == 0 { // nobody is asked for a passphrase
		return f.print([]issuedView{}, func() { fmt.Fprintf(f.stdout, "no certificate ends within %d days\n", within) })
	}
	return f.change(func(c *ca.CA) error {
		var renewed []issuedView
		var failed []error
		for _, r := range c.Due(left) {
			lasts := days
			if lasts == 0 {
				lasts = r.Days()
			}
			var issued *ca.Issued
			var v issuedView
			var err error
			if !named {
				err = standsHere(r)
			}
			if err == nil {
				issued, err = c.Renew(r.Name, lasts)
			}
			if err == nil {
				v, err = written(c, issued, out, true)
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("renew the certificate of %q: %w", r.Name, err))
				continue
			}
			renewed = append(renewed, v)
		}
		return errors.Join(append(failed, f.print(renewed, func() { f.showIssued(renewed...) }))...)
	})
}

func (f *authorityFlags) revoke() *cobra.Command {
	var reason string
	var dry bool
	cmd := &cobra.Command{
		Use: "revoke NAME|SERIAL", Short: "Take certificates back: all valid ones of a name, or one", Args: cobra.ExactArgs(1),
		Long: "Puts certificates on the revocation list of their issuer. Copy the file to the servers, under the name that they have as security.tls.crl_file and security.cluster.crl_file: " +
			"they read it within seconds, refuse who is on it, and cut connections that are open.",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("--reason", reason, ca.Reasons()); err != nil {
				return err
			}
			if dry {
				return f.wouldRevoke(args[0])
			}
			return f.change(func(c *ca.CA) error {
				taken, err := c.Revoke(args[0], reason)
				if err != nil {
					return err
				}
				if err := f.showRecords(taken); err != nil || f.output != "table" {
					return err
				}
				_, err = fmt.Fprintf(f.stdout, "\nlists  %s\n", c.ListFile())
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "unspecified", "why: "+strings.Join(ca.Reasons(), ", "))
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say which would be taken back")
	return cmd
}

func (f *authorityFlags) wouldRevoke(name string) error {
	c, err := f.look()
	if err != nil {
		return err
	}
	would, err := c.Revocable(name)
	if err != nil {
		return err
	}
	if err := f.showRecords(would); err != nil || f.output != "table" {
		return err
	}
	_, err = fmt.Fprintf(f.stdout, "\n%s would be taken back; none was\n", plural(len(would), "certificate"))
	return err
}

// recordView is a certificate as list and show print it.
type recordView struct {
	*ca.Record
	State string `json:"state"`
}

func (f *authorityFlags) showRecords(all []*ca.Record) error {
	now := time.Now()
	views := make([]recordView, len(all))
	for i, r := range all {
		views[i] = recordView{r, r.State(now)}
	}
	return f.print(views, func() {
		t := f.table("NAME", "PROFILE", "STATE", "ENDS", "GENERATION", "SERIAL")
		for _, v := range views {
			t.AppendRow(table.Row{v.Name, v.Profile, v.State, v.NotAfter.UTC().Format(time.DateOnly), v.Generation, v.Serial})
		}
		t.Render()
	})
}

func (f *authorityFlags) list() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List what was issued and is valid, by name, the newest of a name last", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := f.look()
			if err != nil {
				return err
			}
			var shown []*ca.Record
			for _, r := range c.Records() {
				if all || r.State(time.Now()) == "valid" {
					shown = append(shown, r)
				}
			}
			slices.SortStableFunc(shown, func(a, b *ca.Record) int { return strings.Compare(a.Name, b.Name) })
			return f.showRecords(shown)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what has ended or is revoked")
	return cmd
}

func (f *authorityFlags) showCertificate() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME|SERIAL", Short: "Show a certificate", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := f.look()
			if err != nil {
				return err
			}
			r, err := c.Find(args[0])
			if err != nil {
				return err
			}
			v := recordView{r, r.State(time.Now())}
			return f.print(v, func() {
				line := func(name, value string) {
					if value != "" {
						fmt.Fprintf(f.stdout, "%-12s%s\n", name, visible(value))
					}
				}
				line("name", r.Name)
				line("profile", r.Profile)
				line("subject", r.Subject)
				line("serial", r.Serial)
				line("state", v.State)
				if r.Revoked != nil {
					line("revoked", r.Revoked.Format(time.RFC3339)+", "+r.Reason)
				}
				line("valid", r.NotBefore.UTC().Format(time.RFC3339)+" to "+r.NotAfter.UTC().Format(time.RFC3339))
				line("hosts", strings.Join(r.Hosts, ", "))
				line("uris", strings.Join(r.URIs, ", "))
				line("emails", strings.Join(r.Emails, ", "))
				line("key", r.KeyKind)
				line("generation", fmt.Sprint(r.Generation))
			})
		},
	}
}

// errRefused ends verify, whose output says why.
var errRefused = errors.New("the certificate is refused")

func (f *authorityFlags) verify() *cobra.Command {
	o := ca.VerifyOptions{}
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Say whether a certificate would be taken, and if not why", Args: cobra.ExactArgs(1),
		Long: "Judges a certificate, in PEM with those between it and its authority, as the servers do. It may be another authority's: give --cafile, and --crl-file if there are lists.",
		Example: "  rustmq admin certs verify node-1.pem --use node --host 10.0.0.1\n" +
			"  rustmq admin certs verify alice.pem --use client --cafile corporate.pem --crl-file corporate.crl",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Use != "" {
				if err := oneOf("--use", o.Use, ca.Uses()); err != nil {
					return err
				}
			}
			o.File, o.Now = args[0], time.Now()
			if o.CAFile == "" {
				c, err := f.look()
				if err != nil {
					return err
				}
				o.CAFile = c.BundleFile()
				if o.ListFile == "" {
					o.ListFile = c.ListFile()
				}
			}
			v, err := ca.Verify(o)
			if errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(o.File, ".pem") {
				return fmt.Errorf("verify %s: %w: name the certificate's file, such as certs/%s.pem; `rustmq admin certs show` takes names", o.File, err, o.File)
			}
			if err != nil {
				return fmt.Errorf("verify %s: %w", o.File, err)
			}
			if err := f.print(v, func() { f.showVerdict(v) }); err != nil || v.OK {
				return err
			}
			return fmt.Errorf("%w: %s", errRefused, v.Reason)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.CAFile, "cafile", "", "PEM `FILE` of the authorities to trust (default: those of --ca-dir)")
	flags.StringVar(&o.ListFile, "crl-file", "", "`FILE` of revocation lists (default: those of --ca-dir, or none with --cafile)")
	flags.StringVar(&o.Use, "use", "", "what it is to be good for: "+strings.Join(ca.Uses(), ", ")+" (both, with the name of a node); default: anything")
	flags.StringVar(&o.Host, "host", "", "`NAME` or address that it has to name")
	return cmd
}

func (f *authorityFlags) showVerdict(v ca.Verdict) {
	if !v.OK {
		fmt.Fprintf(f.stdout, "refused: %s\n  %s\n", v.Reason, visible(v.Detail))
		return
	}
	fmt.Fprintln(f.stdout, "good")
	for i, subject := range v.Chain {
		fmt.Fprintf(f.stdout, "%s%s\n", strings.Repeat("  ", i+1), visible(subject))
	}
}
