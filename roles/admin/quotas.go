package admin

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
)

// QuotaEntity is who a quota is for: a user, a client id, a client id of a user, or an
// address.
type QuotaEntity struct {
	User            *string `json:"user,omitempty" doc:"name of a user; ANONYMOUS is who has not said"`
	DefaultUser     bool    `json:"default_user,omitempty" doc:"every user that has no quota by name"`
	ClientID        *string `json:"client_id,omitempty" doc:"as clients call themselves"`
	DefaultClientID bool    `json:"default_client_id,omitempty" doc:"every client id that has no quota by name"`
	IP              *string `json:"ip,omitempty" doc:"an address, such as 192.0.2.7 or 2001:db8::7; with no user and no client id"`
	DefaultIP       bool    `json:"default_ip,omitempty" doc:"every address that has no quota by name, each for itself"`
}

// Quotas are those of one entity.
type Quotas struct {
	QuotaEntity
	Rates map[string]float64 `json:"rates" doc:"by key: producer_byte_rate and consumer_byte_rate in bytes a second, request_percentage of one core, controller_mutation_rate in partitions a second; of an address, connection_creation_rate in connections a second"`
}

// QuotaPatch is the body of an alteration.
type QuotaPatch struct {
	QuotaEntity
	Set    map[string]float64 `json:"set,omitempty"`
	Delete []string           `json:"delete,omitempty" doc:"keys that are held to nothing any more"`

	DryRun bool `json:"dry_run,omitempty" doc:"change nothing: answer what would be held to, or why it would not be taken"`
}

type (
	quotasOutput struct {
		Body struct {
			Quotas []Quotas `json:"quotas"`
			NextPage
		}
	}
	quotaOutput     struct{ Body Quotas }
	quotaPatchInput struct{ Body QuotaPatch }
)

func registerQuotas(h *routes, a api) {
	route(h, http.MethodGet, "/api/v1/quotas", onCluster[PageQuery](describesConfigs).tagged(imageOf(a.cluster), quotasOfAll), a.listQuotas)
	route(h, http.MethodPatch, "/api/v1/quotas", onCluster[quotaPatchInput](need{acl.AlterConfigs, acl.Cluster}).act("quota.alter").about(toldEntity).saying(toldQuotas).unless(func(in *quotaPatchInput) bool { return in.Body.DryRun }).tagged(imageOf(a.cluster), quotasOfAll), a.alterQuotas)
}

// toldEntity and toldQuotas are a change of quotas as the audit log has it, as of Kafka's
// requests.
func toldEntity(in *quotaPatchInput) string {
	var of []string
	for _, half := range []struct {
		kind      string
		name      *string
		byDefault bool
	}{{"client-id", in.Body.ClientID, in.Body.DefaultClientID}, {"user", in.Body.User, in.Body.DefaultUser}, {"ip", in.Body.IP, in.Body.DefaultIP}} {
		switch {
		case half.name != nil:
			of = append(of, half.kind+"="+*half.name)
		case half.byDefault:
			of = append(of, half.kind+"=<default>")
		}
	}
	return strings.Join(of, ",")
}

func toldQuotas(in *quotaPatchInput) string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(in.Body.Set)) {
		keys = append(keys, fmt.Sprintf("%s=%v", key, in.Body.Set[key]))
	}
	for _, key := range in.Body.Delete {
		keys = append(keys, "remove "+key)
	}
	return strings.Join(keys, ", ")
}

// key is where the quotas of an entity come in a list.
func (q Quotas) key() string {
	half := func(name *string, byDefault bool) string {
		if name == nil {
			return fmt.Sprintf("%t", byDefault)
		}
		return "=" + *name
	}
	return half(q.User, q.DefaultUser) + "\x00" + half(q.ClientID, q.DefaultClientID) + "\x00" + half(q.IP, q.DefaultIP)
}

func (a api) listQuotas(_ context.Context, in *PageQuery) (*quotasOutput, error) {
	out := &quotasOutput{}
	out.Body.Quotas = []Quotas{}
	for q := range a.cluster.Image().ClientQuotas() {
		out.Body.Quotas = append(out.Body.Quotas, Quotas{shownEntity(q.Entity), q.Rates})
	}
	if *in == (PageQuery{}) { // they come as they stand
		return out, nil
	}
	var err error
	out.Body.Quotas, out.Body.NextPage, err = partOf(*in, out.Body.Quotas, Quotas.key)
	return out, err
}

func (a api) alterQuotas(ctx context.Context, in *quotaPatchInput) (*quotaOutput, error) {
	entity, err := entityOf(in.Body.QuotaEntity)
	if err != nil {
		return nil, huma.NewError(http.StatusBadRequest, err.Error())
	}
	change := controller.QuotaChange{Entity: entity, Set: in.Body.Set, Remove: in.Body.Delete}
	if err := a.cluster.AlterClientQuotas(ctx, []controller.QuotaChange{change}, in.Body.DryRun)[0]; err != nil {
		return nil, problem(err)
	}
	held := map[string]float64{}
	maps.Copy(held, a.cluster.Image().ClientQuotasOf(entity))
	if in.Body.DryRun {
		maps.Copy(held, in.Body.Set)
		for _, key := range in.Body.Delete {
			delete(held, key)
		}
	}
	return &quotaOutput{Quotas{shownEntity(entity), held}}, nil
}

// entityOf returns e as the cluster knows it.
func entityOf(e QuotaEntity) (out metadata.QuotaEntity, err error) {
	half := func(what string, name *string, byDefault bool) (n metadata.QuotaName) {
		switch {
		case name != nil && byDefault:
			err = fmt.Errorf("INVALID_REQUEST: a %s by name, or the default, not both", what)
		case name != nil:
			n = metadata.QuotaName{Scope: metadata.QuotaNamed, Name: *name}
		case byDefault:
			n.Scope = metadata.QuotaDefault
		}
		return n
	}
	out = metadata.QuotaEntity{User: half("user", e.User, e.DefaultUser), ClientID: half("client id", e.ClientID, e.DefaultClientID), IP: half("address", e.IP, e.DefaultIP)}
	if err == nil && out.IP.Scope == metadata.QuotaNamed {
		out.IP.Name, err = metadata.CanonicalAddress(out.IP.Name)
	}
	return out, err
}

func shownEntity(e metadata.QuotaEntity) (out QuotaEntity) {
	half := func(n metadata.QuotaName) (name *string, byDefault bool) {
		if n.Scope == metadata.QuotaNamed {
			name = &n.Name
		}
		return name, n.Scope == metadata.QuotaDefault
	}
	out.User, out.DefaultUser = half(e.User)
	out.ClientID, out.DefaultClientID = half(e.ClientID)
	out.IP, out.DefaultIP = half(e.IP)
	return out
}

// quotasCommand is `rustmq admin quotas …`.
func (e *env) quotasCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "quotas", Short: "Hold clients to rates, by user and client id, and connections by address", Args: cobra.NoArgs}
	cmd.AddCommand(e.setQuotas(), e.showQuotas())
	return cmd
}

func (e *env) setQuotas() *cobra.Command {
	var patch QuotaPatch
	var user, clientID, ip string
	cmd := &cobra.Command{
		Use: "set KEY=RATE...", Short: "Set or delete quotas of a user, a client id or both, or of an address", Args: cobra.ArbitraryArgs,
		Long: `Set or delete quotas of a user, a client id or both, or of an address. Keys:

  producer_byte_rate        bytes a second that may be produced, such as 10MiB
  consumer_byte_rate        bytes a second that may be consumed
  request_percentage        share of one core's time that requests may take
  controller_mutation_rate  partitions a second that may be made and deleted
  connection_creation_rate  connections a second that may come; of an address alone

The most specific quota holds: user and client id before user before client id,
each by name before the default. Each address counts for itself, and an IPv6 address
for its /64; QUIC's streams are not counted. Ten seconds' worth may be taken at once.`,
		Example: `  rustmq admin quotas set --user alice producer_byte_rate=10MiB consumer_byte_rate=20MiB
  rustmq admin quotas set --default-client-id request_percentage=50
  rustmq admin quotas set --default-ip connection_creation_rate=20
  rustmq admin quotas set --user alice --delete producer_byte_rate --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			rates, err := rates(args)
			if err != nil {
				return err
			}
			patch.Set = rates
			if cmd.Flags().Changed("user") {
				patch.User = &user
			}
			if cmd.Flags().Changed("client-id") {
				patch.ClientID = &clientID
			}
			if cmd.Flags().Changed("ip") {
				patch.IP = &ip
			}
			client := patch.User != nil || patch.ClientID != nil || patch.DefaultUser || patch.DefaultClientID
			switch address := patch.IP != nil || patch.DefaultIP; {
			case !client && !address:
				return &UsageError{"whose quota? Give --user NAME, --default-user, --client-id NAME, --default-client-id, --ip ADDRESS or --default-ip"}
			case client && address:
				return &UsageError{"a quota of an address is of no user and no client id: give --ip or --default-ip alone"}
			case patch.IP != nil && patch.DefaultIP:
				return &UsageError{"--ip and --default-ip: give one of them"}
			case patch.User != nil && patch.DefaultUser:
				return &UsageError{"--user and --default-user: give one of them"}
			case patch.ClientID != nil && patch.DefaultClientID:
				return &UsageError{"--client-id and --default-client-id: give one of them"}
			case len(patch.Set)+len(patch.Delete) == 0:
				return &UsageError{"nothing to set: give KEY=RATE, such as producer_byte_rate=10MiB, or --delete KEY"}
			}
			var out Quotas
			if err := e.client(cmd).call(cmd.Context(), http.MethodPatch, "/api/v1/quotas", patch, &out); err != nil {
				return err
			}
			return e.print(out, func() {
				if patch.DryRun {
					fmt.Fprintln(e.stdout, "it could be done; nothing was changed (--dry-run), and would be held to:")
				}
				e.showRates([]Quotas{out})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&user, "user", "", "a user by `NAME`; ANONYMOUS is who has not said")
	flags.BoolVar(&patch.DefaultUser, "default-user", false, "every user that has no quota by name")
	flags.StringVar(&clientID, "client-id", "", "a client id by `NAME`")
	flags.BoolVar(&patch.DefaultClientID, "default-client-id", false, "every client id that has no quota by name")
	flags.StringVar(&ip, "ip", "", "an `ADDRESS`, such as 192.0.2.7")
	flags.BoolVar(&patch.DefaultIP, "default-ip", false, "every address that has no quota by name, each for itself")
	flags.StringArrayVarP(&patch.Delete, "delete", "d", nil, "`KEY` that is held to nothing any more, may be repeated")
	flags.BoolVar(&patch.DryRun, "dry-run", false, "say what would be held to, and change nothing")
	return cmd
}

// rates reads KEY=RATE; bytes may have a unit.
func rates(args []string) (map[string]float64, error) {
	set, err := assignments("", args)
	if err != nil {
		return nil, err
	}
	rates := make(map[string]float64, len(set))
	for key, text := range set {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil && strings.HasSuffix(key, "_byte_rate") {
			var bytes configs.Size
			bytes, err = configs.ParseSize(text)
			rate = float64(bytes)
		}
		if err != nil || math.IsNaN(rate) || math.IsInf(rate, 0) {
			return nil, &UsageError{fmt.Sprintf("%s=%s: want a number, or bytes such as 10MiB for a byte rate", key, text)}
		}
		rates[key] = rate
	}
	return rates, nil
}

func (e *env) showQuotas() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all quotas", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out struct {
				Quotas []Quotas `json:"quotas"`
				NextPage
			}
			if err := e.client(cmd).call(cmd.Context(), http.MethodGet, "/api/v1/quotas", nil, &out); err != nil {
				return err
			}
			return e.print(out.Quotas, func() { e.showRates(out.Quotas) })
		},
	}
}

func (e *env) showRates(all []Quotas) {
	t := e.table("USER", "CLIENT ID", "ADDRESS", "KEY", "RATE")
	for _, q := range all {
		for _, key := range slices.Sorted(maps.Keys(q.Rates)) {
			t.AppendRow(table.Row{whom(q.User, q.DefaultUser), whom(q.ClientID, q.DefaultClientID), whom(q.IP, q.DefaultIP), key, shownRate(key, q.Rates[key])})
		}
	}
	t.Render()
}

// whom shows one half of an entity.
func whom(name *string, byDefault bool) string {
	switch {
	case byDefault:
		return "(default)"
	case name == nil:
		return "-"
	}
	return strconv.Quote(*name)
}

func shownRate(key string, rate float64) string {
	switch key {
	case metadata.ProducerByteRate, metadata.ConsumerByteRate:
		return size(int64(rate)) + "/s"
	case metadata.RequestPercentage:
		return strconv.FormatFloat(rate, 'g', -1, 64) + " % of a core"
	}
	what := " partitions/s"
	if key == metadata.ConnectionCreationRate {
		what = " connections/s"
	}
	return strconv.FormatFloat(rate, 'g', -1, 64) + what
}
