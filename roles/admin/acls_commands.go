package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/security/acl"
)

// aclCommand is `rustmq admin acl …`.
func (e *env) aclCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "acl", Short: "Say who may do what, and find out why", Args: cobra.NoArgs}
	cmd.AddCommand(e.createACLs(), e.listACLs(), e.deleteACLs(), e.checkACL())
	return cmd
}

const resourceUsage = "`TYPE.NAME`: topic.orders, topic.orders.* for all that begin with \"orders.\", topic.* for all, cluster; types are topic, group, cluster, transactional-id, delegation-token and user"

// aclFlags are those that say which rules are meant.
type aclFlags struct {
	principals  []string
	resources   []string
	permissions string
	effect      string
	host        string
}

func (f *aclFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.principals, "principal", nil, "`NAME` of a user, with or without User:, or * for everybody; may be repeated")
	flags.StringArrayVar(&f.resources, "resource", nil, resourceUsage+"; may be repeated")
	flags.StringVar(&f.permissions, "permissions", "", "`OPERATIONS`, comma separated: read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs, idempotent-write, all")
	flags.StringVar(&f.effect, "effect", "", "allow, or deny, which wins over any that allows; not given: both")
	flags.StringVar(&f.host, "host", "", "`ADDRESS` of clients, or a range such as 10.0.0.0/8; not given: any")
}

// principalOf reads a principal. What has a colon is not guessed at: it may be a mistyped
// "User:", a type of principals that there is not, or a name.
func principalOf(name string) (string, error) {
	if strings.Contains(name, ":") && !strings.HasPrefix(name, "User:") {
		return "", &UsageError{fmt.Sprintf("--principal %q: rules are for users: write User:NAME; a name that itself has a colon is written User:%s", name, name)}
	}
	principal, err := acl.ParsePrincipal(name)
	if err != nil {
		return "", &UsageError{"--principal: " + err.Error()}
	}
	return principal, nil
}

// acls are the rules that the flags name, one for each combination.
func (f *aclFlags) acls() (all []ACL, err error) {
	switch {
	case len(f.principals) == 0:
		return nil, &UsageError{"who? Give --principal NAME, or --principal '*' for everybody"}
	case len(f.resources) == 0:
		return nil, &UsageError{"what for? Give --resource TYPE.NAME, such as topic.orders or topic.orders.*"}
	case f.permissions == "":
		return nil, &UsageError{"to do what? Give --permissions, such as read,write"}
	}
	ops, err := acl.ParseOperations(f.permissions)
	if err != nil {
		return nil, &UsageError{"--permissions: " + err.Error()}
	}
	permission, err := acl.ParsePermission(orElse(f.effect, acl.Allow.String()))
	if err != nil {
		return nil, &UsageError{"--effect: " + err.Error()}
	}
	for _, name := range f.principals {
		principal, err := principalOf(name)
		if err != nil {
			return nil, err
		}
		for _, short := range f.resources {
			on, err := acl.ParseResource(short)
			if err != nil {
				return nil, &UsageError{"--resource: " + err.Error()}
			}
			for _, op := range ops {
				rule, err := acl.Rule{Resource: on.Resource, Pattern: on.Type, Name: on.Name, Principal: principal, Host: orElse(f.host, acl.Wildcard), Operation: op, Permission: permission}.Canonical()
				if err != nil {
					return nil, &UsageError{err.Error()}
				}
				all = append(all, shownACL(rule))
			}
		}
	}
	return all, nil
}

func orElse(given, otherwise string) string {
	if given == "" {
		return otherwise
	}
	return given
}

// queries are the filters of the rules that the flags name, of which each may be left out.
func (f *aclFlags) queries() (all []url.Values, err error) {
	all = []url.Values{{}}
	each := func(n int, put func(i int, q url.Values) error) {
		if n == 0 || err != nil {
			return
		}
		var more []url.Values
		for _, q := range all {
			for i := range n {
				one := url.Values{}
				for key := range q {
					one.Set(key, q.Get(key))
				}
				if failed := put(i, one); failed != nil && err == nil {
					err = &UsageError{failed.Error()}
				}
				more = append(more, one)
			}
		}
		all = more
	}
	each(len(f.principals), func(i int, q url.Values) error {
		principal, err := principalOf(f.principals[i])
		q.Set("principal", principal)
		return err
	})
	each(len(f.resources), func(i int, q url.Values) error {
		on, err := acl.ParseResource(f.resources[i])
		q.Set("resource_type", on.Resource.String())
		q.Set("pattern", on.Type.String())
		q.Set("name", on.Name)
		return err
	})
	if f.permissions != "" {
		ops, failed := acl.ParseOperations(f.permissions)
		if failed != nil {
			return nil, &UsageError{"--permissions: " + failed.Error()}
		}
		each(len(ops), func(i int, q url.Values) error {
			q.Set("operation", ops[i].String())
			return nil
		})
	}
	for _, q := range all {
		if f.effect != "" {
			q.Set("permission", f.effect)
		}
		if f.host != "" {
			q.Set("host", f.host)
		}
	}
	return all, err
}

func (e *env) createACLs() *cobra.Command {
	var f aclFlags
	cmd := &cobra.Command{
		Use: "create", Short: "Allow or deny somebody something", Args: cobra.NoArgs,
		Long: `Allow or deny somebody something.

What no rule allows is denied; a rule that denies wins over all that allow. To
allow read, write, delete or alter is to allow describe as well. Rules are in
force on all brokers at once, on connections that are open too.`,
		Example: `  rustmq admin acl create --principal user@domain.com --resource "topic.events.*" --permissions read,write
  rustmq admin acl create --principal app --resource group.app --permissions read
  rustmq admin acl create --principal '*' --resource topic.secrets --permissions all --effect deny --host 10.9.0.0/16`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			acls, err := f.acls()
			if err != nil {
				return err
			}
			var out aclsBody
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, "/api/v1/acls", aclsBody{acls}, &out); err != nil {
				return err
			}
			return e.print(out.ACLs, func() { e.showACLs(out.ACLs) })
		},
	}
	f.bind(cmd)
	cmd.Flags().Lookup("effect").Usage = "allow, or deny, which wins over any that allows; not given: allow"
	cmd.Flags().String("org", "", "taken, and of no effect: principals are told apart by their names")
	return cmd
}

func (e *env) listACLs() *cobra.Command {
	var f aclFlags
	var matching bool
	cmd := &cobra.Command{
		Use: "list", Short: "List rules", Args: cobra.NoArgs,
		Example: `  rustmq admin acl list --principal app
  rustmq admin acl list --resource topic.events.clicks --matching`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if matching && len(f.resources) == 0 {
				return &UsageError{"--matching: what is to match? Give --resource TYPE.NAME, such as topic.orders"}
			}
			all, err := e.eachACL(cmd, &f, http.MethodGet, func(q url.Values) {
				if matching && q.Get("name") != "" {
					q.Set("pattern", acl.Match.String())
				}
			})
			if err != nil {
				return err
			}
			return e.print(all, func() { e.showACLs(all) })
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&matching, "matching", false, "of --resource not the very rules, but all that a resource of that name falls under")
	return cmd
}

// eachACL asks for each filter, and returns what came of all, each rule once.
func (e *env) eachACL(cmd *cobra.Command, f *aclFlags, method string, adapt func(url.Values)) ([]ACL, error) {
	queries, err := f.queries()
	if err != nil {
		return nil, err
	}
	all, seen := []ACL{}, map[ACL]bool{}
	for _, q := range queries {
		adapt(q)
		var out aclsBody
		if err := e.client(cmd).call(cmd.Context(), method, "/api/v1/acls?"+q.Encode(), nil, &out); err != nil {
			return nil, err
		}
		for _, one := range out.ACLs {
			if !seen[one] {
				all, seen[one] = append(all, one), true
			}
		}
	}
	return all, nil
}

func (e *env) deleteACLs() *cobra.Command {
	var f aclFlags
	var all, dry bool
	cmd := &cobra.Command{
		Use: "delete", Short: "Take rules away", Args: cobra.NoArgs,
		Example: `  rustmq admin acl delete --principal app --resource "topic.events.*" --permissions write
  rustmq admin acl delete --principal app`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			named := len(f.principals)+len(f.resources) > 0
			switch {
			case !named && !all:
				return &UsageError{"which rules? Give --principal or --resource, or --all"}
			case named && all:
				return &UsageError{"--all is for all rules: give no --principal and no --resource"}
			}
			method := http.MethodDelete
			if dry {
				method = http.MethodGet // of the same filters
			}
			gone, err := e.eachACL(cmd, &f, method, func(q url.Values) {
				if all && !dry {
					q.Set("all", "true")
				}
			})
			if err != nil {
				return err
			}
			return e.print(gone, func() {
				if len(gone) == 0 {
					fmt.Fprintln(e.stdout, "no rule is as the flags say; none was taken away (rustmq admin acl list)")
					return
				}
				e.showACLs(gone)
				if dry {
					fmt.Fprintf(e.stdout, "\n%s would be taken away; none was\n", plural(len(gone), "rule"))
				}
			})
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say which rules would be taken away")
	cmd.Flags().BoolVar(&all, "all", false, "all rules")
	return cmd
}

func (e *env) checkACL() *cobra.Command {
	var principal, resource, op, host string
	cmd := &cobra.Command{
		Use: "check", Short: "Explain, rule by rule, whether somebody may do something", Args: cobra.NoArgs,
		Long:    "Explains, rule by rule, whether somebody may do something. Exits with 0 where it is allowed, and with 1 where it is denied.",
		Example: `  rustmq admin acl check --principal app --resource topic.events.clicks --permissions write --host 10.1.2.3`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if principal == "" || resource == "" || op == "" {
				return &UsageError{"who wants to do what? Give --principal, --resource and --permissions"}
			}
			who, err := principalOf(principal)
			if err != nil {
				return err
			}
			on, err := acl.ParseResource(resource)
			switch {
			case strings.Contains(op, ","):
				return &UsageError{fmt.Sprintf("--permissions %q: ask for one at a time", op)}
			case err != nil:
				return &UsageError{"--resource: " + err.Error()}
			case on.Type == acl.Prefixed || on.Name == acl.Wildcard:
				return &UsageError{"--resource: name one, without *"}
			}
			var out ACLAnswer
			q := ACLQuestion{Principal: who, Host: host, ResourceType: on.Resource.String(), Name: on.Name, Operation: op}
			if err := e.client(cmd).call(cmd.Context(), http.MethodPost, "/api/v1/acls/check", q, &out); err != nil {
				return err
			}
			if err := e.print(out, func() { e.showDecision(out) }); err != nil {
				return err
			}
			if !out.Allowed {
				return fmt.Errorf("%s may not %s %s", q.Principal, op, resource)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&principal, "principal", "", "`NAME` of a user, with or without User:; ANONYMOUS is who has not said")
	flags.StringVar(&resource, "resource", "", "`TYPE.NAME`, such as topic.events.clicks, or cluster")
	flags.StringVar(&op, "permissions", "", "one `OPERATION`, such as write")
	flags.StringVar(&host, "host", "", "`ADDRESS` of the client; not given: not known, as rules see it")
	return cmd
}

func (e *env) showACLs(all []ACL) {
	t := e.table("PRINCIPAL", "EFFECT", "OPERATION", "RESOURCE", "HOST")
	for _, a := range all {
		t.AppendRow(table.Row{a.Principal, a.Permission, a.Operation, shownResource(a), a.Host})
	}
	t.Render()
}

// shownResource is the short form of what a rule is about.
func shownResource(a ACL) string {
	if a.Pattern == acl.Prefixed.String() {
		return a.ResourceType + "." + a.Name + "*"
	}
	return a.ResourceType + "." + a.Name
}

func (e *env) showDecision(d ACLAnswer) {
	verdict := "denied"
	if d.Allowed {
		verdict = "allowed"
	}
	fmt.Fprintf(e.stdout, "%s: %s\n", verdict, d.Why)
	if d.Note != "" {
		fmt.Fprintf(e.stdout, "note: %s\n", d.Note)
	}
	if len(d.Rules) == 0 {
		return
	}
	t := e.table("COUNTS", "EFFECT", "PRINCIPAL", "OPERATION", "RESOURCE", "HOST", "WHY")
	for _, r := range d.Rules {
		t.AppendRow(table.Row{yesNo(r.Counts), r.Permission, r.Principal, r.Operation, shownResource(r.ACL), r.Host, r.Why})
	}
	t.Render()
}
