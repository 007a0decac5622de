package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/security/ca"
)

// completionTime is how long a shell waits for names.
const completionTime = 2 * time.Second

// completer offers words to a shell. Whatever goes wrong, it offers none: what it said would
// stand in the line that a person writes.
type completer = cobra.CompletionFunc

// addCompletion has the shell offer what the cluster knows, and what flags may be.
func (e *env) addCompletion(root *cobra.Command) {
	topic, group := e.named("/api/v1/topics", "topics", "name"), e.named(groupsPath, "groups", "group")
	broker, controller := e.named("/api/v1/brokers", "brokers", "id"), e.named("/api/v1/controllers", "controllers", "id")
	user, token, module := e.named(usersPath, "users", "name"), e.named(tokensPath, "tokens", "name"), e.named(modulesPath, "modules", "name")
	certificate := e.issued
	set := e.named("/api/v1/config", "set", "key")
	for path, offer := range map[string]completer{
		"topics describe": topic, "topics alter": topic, "topics delete": topic, "topics add-partitions": topic,
		"groups describe": group, "groups delete": group, "groups reset-offsets": group,
		"brokers describe": broker, "brokers drain": broker, "brokers undrain": broker, "brokers decommission": broker,
		"controllers remove": controller, "users delete": user, "users set-password": user, "tokens revoke": token,
		"etl describe": module, "etl enable": module, "etl disable": module, "etl rollback": module, "etl delete": module, "etl history": module, "etl deploy": module,
		"certs renew": certificate, "certs revoke": certificate, "certs show": certificate,
	} {
		if cmd, _, err := root.Find(strings.Fields(path)); err == nil {
			cmd.ValidArgsFunction = first(offer)
		}
	}
	for path, offer := range map[string]completer{"config set": e.liveKeys("="), "config unset": set, "config history": first(e.liveKeys(""))} {
		if cmd, _, err := root.Find(strings.Fields(path)); err == nil {
			cmd.ValidArgsFunction = offer
		}
	}
	for _, flag := range []struct {
		path, name string
		offer      completer
	}{
		{"groups reset-offsets", "topic", topic}, {"acl create", "principal", user}, {"acl list", "principal", user}, {"acl delete", "principal", user}, {"acl check", "principal", user},
		{"acl create", "resource", e.resource}, {"acl list", "resource", e.resource}, {"acl delete", "resource", e.resource}, {"acl check", "resource", e.resource},
		{"acl create", "effect", words("allow", "deny")}, {"acl list", "effect", words("allow", "deny")}, {"acl delete", "effect", words("allow", "deny")},
		{"config set", "node", broker}, {"config unset", "node", broker}, {"quotas set", "user", user}, {"etl deploy", "topics", topic}, {"certs issue", "profile", words("broker", "controller", "broker,controller", "client", "admin")},
		{"certs issue", "key", words(ca.KeyKinds()...)}, {"certs verify", "use", words(ca.Uses()...)}, {"certs revoke", "reason", words(ca.Reasons()...)},
	} {
		cmd, _, err := root.Find(strings.Fields(flag.path))
		if err == nil && cmd.Flag(flag.name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag.name, flag.offer) // the flag is there, and was not registered
		}
	}
	_ = root.RegisterFlagCompletionFunc("output", words("table", "json", "yaml")) // as above
}

// first offers words for the first argument alone.
func first(offer completer) completer {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(cmd, args, begun)
	}
}

// words are always the same.
func words(all ...string) completer {
	return cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp)
}

// named offers a field of each of a list of the API.
func (e *env) named(path, list, field string) completer {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return e.ask(cmd, path, list, field), cobra.ShellCompDirectiveNoFileComp
	}
}

// liveKeys offers the keys that may change while nodes run, each with what is to follow it.
func (e *env) liveKeys(follows string) completer {
	return func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if follows != "" && strings.Contains(begun, follows) {
			return nil, cobra.ShellCompDirectiveNoFileComp // a value
		}
		live := slices.DeleteFunc(e.rows(cmd, "/api/v1/config", "settings"), func(row map[string]any) bool { return row["live"] == nil })
		keys := shown(live, "key")
		if follows == "" {
			return keys, cobra.ShellCompDirectiveNoFileComp
		}
		for i := range keys {
			keys[i] += follows
		}
		return keys, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// ask returns a field of each of a list of the API.
func (e *env) ask(cmd *cobra.Command, path, list, field string) []string {
	return shown(e.rows(cmd, path, list), field)
}

// rows returns a list of the API.
func (e *env) rows(cmd *cobra.Command, path, list string) (rows []map[string]any) {
	target, _, err := e.resolve(cmd)
	if err != nil || target.User != "" && target.PasswordFile == "" { // nobody is asked for a password
		return nil
	}
	server := newCaller(target.URL)
	if server.as(target, strings.NewReader(""), cmd.ErrOrStderr()) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	var answer map[string]json.RawMessage
	if server.call(ctx, http.MethodGet, path, nil, &answer) != nil || json.Unmarshal(answer[list], &rows) != nil {
		return nil
	}
	return rows
}

// shown returns a field of each row, once, of what can be shown as it is: else a shell would
// be offered what it runs.
func shown(rows []map[string]any, field string) (names []string) {
	for _, row := range rows {
		raw, err := json.Marshal(row[field])
		name := strings.Trim(string(raw), `"`)
		if err == nil && row[field] != nil && client.PlainWord(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// resource offers what rules may be about: kinds first, then topics and groups of that kind.
func (e *env) resource(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	kinds := []string{"cluster", "topic.", "group.", "transactional-id.", "delegation-token.", "user."}
	kind, _, has := strings.Cut(begun, ".")
	if !has {
		return kinds, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	var names []string
	switch kind {
	case "topic":
		names = e.ask(cmd, "/api/v1/topics", "topics", "name")
	case "group":
		names = e.ask(cmd, groupsPath, "groups", "group")
	case "user":
		names = e.ask(cmd, usersPath, "users", "name")
	}
	for i, name := range names {
		names[i] = kind + "." + name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// issued offers the names of certificates in the ledger of --ca-dir.
func (e *env) issued(cmd *cobra.Command, _ []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	dir, err := cmd.Flags().GetString("ca-dir")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := ca.Open(ca.Options{Dir: dir}, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	seen := map[string]bool{}
	for _, r := range c.Records() {
		if r.State(time.Now()) == "valid" && !seen[r.Name] && client.PlainWord(r.Name) {
			names, seen[r.Name] = append(names, r.Name), true
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
