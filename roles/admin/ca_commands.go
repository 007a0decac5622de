package admin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rustmq.dev/rustmq/security/ca"
)

const (
	// defaultCADir is where the authority is unless --ca-dir says otherwise.
	defaultCADir = "./rustmq-ca"
	// passphraseVariable has the passphrase of keys, where nobody can be asked.
	passphraseVariable = "RUSTMQ_CA_PASSPHRASE" // #nosec G101 -- the name of a variable
	// maxPassphrase is how much is read of a file with a passphrase, in bytes.
	maxPassphrase = 4096
)

// authorityFlags are those by which `admin ca` and `admin certs` find an authority. They work
// on its files: there is no server that has its keys.
type authorityFlags struct {
	*env
	dir, keyDir, passphraseFile string
}

func (f *authorityFlags) add(cmd *cobra.Command) {
	AsksNoServer(cmd)
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.dir, "ca-dir", defaultCADir, "`DIR` of the authority")
	flags.StringVar(&f.keyDir, "key-dir", "", "`DIR` of the authority's keys, if they are kept elsewhere")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "`FILE` with the passphrase of the authority's keys (default: "+passphraseVariable+", else it is asked for)")
}

func (f *authorityFlags) options(ask func() ([]byte, error)) ca.Options {
	return ca.Options{Dir: f.dir, KeyDir: f.keyDir, Passphrase: ask}
}

// change opens the authority, has it do something, and closes it.
func (f *authorityFlags) change(do func(*ca.CA) error) error {
	c, err := ca.Open(f.options(func() ([]byte, error) { return f.passphrase(false) }), true)
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

// look is change, of who only reads.
func (f *authorityFlags) look() (*ca.CA, error) { return ca.Open(f.options(nil), false) }

// passphrase is where it was given, or what a person types; twice, for a new key.
func (f *authorityFlags) passphrase(isNew bool) ([]byte, error) {
	given, err := f.givenPassphrase()
	if given == nil && err == nil {
		if given, err = typedPassphrase(isNew); err != nil {
			return nil, err
		}
	}
	if err == nil && isNew && len(given) < ca.MinPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes: want %d at least", len(given), ca.MinPassphrase)
	}
	return given, err
}

func (f *authorityFlags) givenPassphrase() ([]byte, error) {
	if f.passphraseFile == "" {
		if text, set := os.LookupEnv(passphraseVariable); set {
			return []byte(text), nil
		}
		return nil, nil
	}
	raw, err := os.ReadFile(f.passphraseFile)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	raw = bytes.TrimRight(raw, "\r\n")
	if len(raw) == 0 || len(raw) > maxPassphrase {
		return nil, fmt.Errorf("read the passphrase: %s has %d bytes: want a line of 1 to %d", f.passphraseFile, len(raw), maxPassphrase)
	}
	return raw, nil
}

func typedPassphrase(isNew bool) ([]byte, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return nil, fmt.Errorf("the authority's keys need a passphrase, and there is no terminal to ask for it: give --passphrase-file, or set %s", passphraseVariable)
	}
	ask := func(what string) ([]byte, error) {
		fmt.Fprintf(os.Stderr, "%s of the authority's keys: ", what)
		typed, err := term.ReadPassword(in)
		fmt.Fprintln(os.Stderr)
		return typed, err
	}
	first, err := ask("Passphrase")
	if err != nil || !isNew {
		return first, err
	}
	again, err := ask("Once more, the passphrase")
	if err == nil && !bytes.Equal(first, again) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, err
}

// caCommand is `rustmq admin ca …`.
func (e *env) caCommand() *cobra.Command {
	f := &authorityFlags{env: e}
	cmd := &cobra.Command{
		Use: "ca", Short: "Make and rotate a certificate authority, on files of this machine", Args: cobra.NoArgs,
		Long: "Makes and rotates a certificate authority: a directory with a root, an intermediate that it has signed, and a ledger of what that has issued.\n" +
			"No server is asked, and none needs the directory: keep it where only you reach it. docs/security.md has the whole way.",
	}
	f.add(cmd)
	cmd.AddCommand(f.init(), f.show(), f.rotate(), f.lists())
	return cmd
}

func (f *authorityFlags) init() *cobra.Command {
	o := ca.Options{}
	var open bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make an authority", Args: cobra.NoArgs,
		Example: "  rustmq admin ca init --cn \"RustMQ Root CA\" --org \"MyOrg\"\n  rustmq admin ca init --ca-dir /secure/ca --passphrase-file /run/secrets/ca --key ed25519",
		RunE: func(*cobra.Command, []string) (err error) {
			o.Dir, o.KeyDir = f.dir, f.keyDir
			o.Passphrase = func() ([]byte, error) { return f.passphrase(true) }
			if open && f.passphraseFile != "" {
				return &UsageError{"--no-passphrase and --passphrase-file: give one of them"}
			}
			if open {
				o.Passphrase = func() ([]byte, error) { return nil, nil }
			}
			if err := oneOf("--key", o.KeyKind, ca.KeyKinds()); err != nil {
				return err
			}
			c, err := ca.Init(o)
			if errors.Is(err, ca.ErrExists) {
				return fmt.Errorf("%w: name another directory with --ca-dir, or begin a new root in this one with `rustmq admin ca rotate`", err)
			}
			if err != nil {
				return err
			}
			return errors.Join(f.showAuthority(c), c.Close())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.CommonName, "cn", "RustMQ Root CA", "common `NAME` of the root")
	flags.StringVar(&o.Organization, "org", "", "`ORGANIZATION` in the names of root and intermediate")
	flags.StringVar(&o.KeyKind, "key", ca.ECDSA, "kind of the keys: "+strings.Join(ca.KeyKinds(), ", "))
	flags.BoolVar(&open, "no-passphrase", false, "write the keys as they are, in PKCS#8: whoever reads the files can issue certificates")
	return cmd
}

func oneOf(flag, value string, allowed []string) error {
	for _, a := range allowed {
		if a == value {
			return nil
		}
	}
	return &UsageError{fmt.Sprintf("%s %q: want one of %s", flag, value, strings.Join(allowed, ", "))}
}

// authorityView is what `admin ca` prints.
type authorityView struct {
	Dir         string         `json:"dir"`
	Trust       string         `json:"trust"` // file that everybody trusts
	Lists       string         `json:"lists"` // file with the revocation lists
	Authorities []ca.Authority `json:"authorities"`
}

func (f *authorityFlags) showAuthority(c *ca.CA) error {
	all, err := c.Authorities()
	if err != nil {
		return err
	}
	v := authorityView{f.dir, c.BundleFile(), c.ListFile(), all}
	return f.print(v, func() {
		t := f.table("GENERATION", "WHAT", "SUBJECT", "KEY", "ENDS", "TRUSTED", "ISSUES")
		for _, a := range all {
			t.AppendRow(table.Row{a.Generation, a.What, a.Subject, a.Key, a.NotAfter.UTC().Format(time.DateOnly), yesNo(a.Trusted), yesNo(a.Issues)})
		}
		t.Render()
		fmt.Fprintf(f.stdout, "\ntrust  %s\nlists  %s\n", v.Trust, v.Lists)
	})
}

func (f *authorityFlags) show() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show root and intermediate, of each generation", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := f.look()
			if err != nil {
				return err
			}
			return f.showAuthority(c)
		},
	}
}

func (f *authorityFlags) rotate() *cobra.Command {
	var finish, force, dry bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Begin a new root and intermediate, or end the old ones", Args: cobra.NoArgs,
		Long: "Without flags: makes a new root and intermediate, which issue from now on. The file to trust holds both roots: put it everywhere before you renew the first certificate.\n" +
			"With --finish: takes the old roots out of the file to trust, once nothing valid needs them.",
		RunE: func(*cobra.Command, []string) error {
			if force && !finish {
				return &UsageError{"--force goes with --finish"}
			}
			if dry && !finish {
				return &UsageError{"--dry-run goes with --finish: without, nothing is taken away"}
			}
			if dry {
				return f.wouldFinish()
			}
			return f.change(func(c *ca.CA) error {
				var err error
				if finish {
					err = c.Finish(force)
				} else {
					err = c.Rotate()
				}
				if err != nil {
					return err
				}
				return f.showAuthority(c)
			})
		},
	}
	cmd.Flags().BoolVar(&finish, "finish", false, "trust the old roots no more")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say which valid certificates would be trusted no more")
	cmd.Flags().BoolVar(&force, "force", false, "also where valid certificates of theirs were neither renewed nor revoked")
	return cmd
}

// wouldFinish says who is trusted by the old roots alone.
func (f *authorityFlags) wouldFinish() error {
	c, err := f.look()
	if err != nil {
		return err
	}
	names := append([]string{}, c.NeedsOld()...)
	if err := c.Close(); err != nil {
		return err
	}
	return f.print(map[string][]string{"trusted_no_more": names}, func() {
		for _, name := range names {
			fmt.Fprintf(f.stdout, "%s  was neither renewed nor revoked\n", name)
		}
		fmt.Fprintf(f.stdout, "%s would be trusted no more; nothing was changed (--dry-run)\n", plural(len(names), "certificate"))
	})
}

func (f *authorityFlags) lists() *cobra.Command {
	return &cobra.Command{
		Use: "lists", Short: "Make the revocation lists anew, which end after a year", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return f.change(func(c *ca.CA) error {
				if err := c.Lists(); err != nil {
					return err
				}
				return f.showAuthority(c)
			})
		},
	}
}
