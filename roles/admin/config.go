package admin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
)

// Configuration is the configuration of the process that answers.
type Configuration interface {
	// Settings lists its keys in order, with what is obeyed of each.
	Settings() []Setting
}

// Setting is one key of a process, with the value that it obeys.
type Setting struct {
	Key       string `json:"key"`
	Value     string `json:"value" doc:"what this process obeys"`
	Source    string `json:"source" doc:"where that comes from: cluster, cluster node, a flag, the environment, a line of a file, default"`
	Live      string `json:"live,omitempty" enum:"node,cluster" doc:"it may change while processes run: on one broker or all (node), or for all (cluster); left out: it waits for a restart"`
	Default   string `json:"default"`
	Own       string `json:"own" doc:"what the node's own sources say, below what is set in the cluster"`
	OwnSource string `json:"own_source"`
	Refused   string `json:"refused,omitempty" doc:"why what is set in the cluster is not obeyed here"`
	Waits     bool   `json:"waits,omitempty" doc:"its file says something else by now, which waits for a restart"`
}

// ClusterSetting is a value that was set while processes run.
type ClusterSetting struct {
	Broker int32  `json:"broker" doc:"the broker that it is set on; -1: all nodes"`
	Key    string `json:"key" doc:"as in the configuration; defaults of topics have Kafka's name, as log.retention.ms"`
	Name   string `json:"name" doc:"what clients of Kafka call it"`
	Value  string `json:"value"`
}

// ConfigView is what is set in a cluster, and what the process that answers makes of it.
type ConfigView struct {
	Set      []ClusterSetting `json:"set"`
	Node     int32            `json:"node" doc:"the process that answers"`
	Settings []Setting        `json:"settings" doc:"of the process that answers"`
	Version  uint64           `json:"version" doc:"of the last change of what is set"`
}

// ConfigSet is the body of a change of what is set in a cluster.
type ConfigSet struct {
	Broker *int32            `json:"broker,omitempty" minimum:"1" doc:"one broker; left out: all nodes"`
	Set    map[string]string `json:"set,omitempty"`
	Delete []string          `json:"delete,omitempty" doc:"keys that go back to what each node's own sources say"`
	DryRun bool              `json:"dry_run,omitempty"`
}

// ConfigChange is one change that was made, as the history has it.
type ConfigChange struct {
	Version uint64            `json:"version" doc:"index of the change in the metadata log"`
	At      *time.Time        `json:"at,omitempty" doc:"by the clock of the controller"`
	By      string            `json:"by,omitempty" doc:"the principal that asked; left out: nobody was asked who it is"`
	Broker  int32             `json:"broker" doc:"-1: all nodes"`
	Keys    []ConfigKeyChange `json:"keys"`
}

// ConfigKeyChange is what became of one key.
type ConfigKeyChange struct {
	Key string  `json:"key"`
	Old *string `json:"old,omitempty" doc:"left out: it was not set"`
	New *string `json:"new,omitempty" doc:"left out: it is not set any more"`
}

type (
	configOutput   struct{ Body ConfigView }
	configSetInput struct{ Body ConfigSet }
	changesInput   struct {
		Key string `query:"key" maxLength:"200" doc:"changes of this key alone"`
	}
	changesOutput struct {
		Body struct {
			Changes []ConfigChange `json:"changes" doc:"the last 256, the newest first"`
		}
	}
)

// configAPI answers for what is set on nodes while they run.
type configAPI struct {
	cluster Cluster
	here    Configuration
}

func registerConfig(h *routes, a configAPI) {
	sees := need{acl.DescribeConfigs, acl.Cluster}
	route(h, http.MethodGet, "/api/v1/config", onCluster[struct{}](sees).tagged(imageOf(a.cluster), configOfNodes), a.list)
	route(h, http.MethodGet, "/api/v1/config/history", onCluster[changesInput](sees), a.history)
	route(h, http.MethodPatch, "/api/v1/config", onCluster[configSetInput](need{acl.AlterConfigs, acl.Cluster}).act("config.alter").about(toldNode).saying(toldConfig).
		unless(func(in *configSetInput) bool { return in.Body.DryRun }).tagged(imageOf(a.cluster), configOfNodes), a.alter)
}

// toldNode and toldConfig are a change as the audit log has it.
func toldNode(in *configSetInput) string {
	if in.Body.Broker == nil {
		return acl.ClusterName
	}
	return strconv.Itoa(int(*in.Body.Broker))
}

func toldConfig(in *configSetInput) string {
	return toldPatch(&alterInput{Body: ConfigPatch{Set: in.Body.Set, Delete: in.Body.Delete}})
}

func (a configAPI) list(context.Context, *struct{}) (*configOutput, error) {
	return &configOutput{a.view()}, nil
}

func (a configAPI) view() ConfigView {
	image := a.cluster.Image()
	view := ConfigView{Set: []ClusterSetting{}, Settings: a.here.Settings()}
	for _, s := range view.Settings {
		if id, err := strconv.ParseInt(s.Value, 10, 32); s.Key == "broker.id" && err == nil {
			view.Node = int32(id)
		}
	}
	for of, is := range controller.ConfigsOfNodes(image) {
		view.Version = max(view.Version, is.Version)
		for _, name := range slices.Sorted(maps.Keys(is.Values)) {
			view.Set = append(view.Set, ClusterSetting{Broker: of, Key: shownKey(name), Name: name, Value: configs.ShownLive(name, is.Values[name])})
		}
	}
	return view
}

// shownKey is the key that is set under a name; a default of topics has no other.
func shownKey(name string) string {
	if k, live := configs.LiveKey(name); live {
		return k.Name
	}
	return name
}

func (a configAPI) alter(ctx context.Context, in *configSetInput) (*configOutput, error) {
	change := controller.ConfigChange{Type: metadata.BrokerResource}
	if who := subjectOf(ctx); who != nil {
		change.By = who.principal
	}
	if in.Body.Broker != nil {
		change.Name = strconv.Itoa(int(*in.Body.Broker))
	}
	if len(in.Body.Set)+len(in.Body.Delete) == 0 {
		return nil, problem(metadata.Errorf(metadata.InvalidRequest, "nothing to change: name keys to set, or to delete"))
	}
	image := a.cluster.Image()
	values, _ := image.Config(metadata.Resource{Type: change.Type, Name: change.Name})
	for _, key := range slices.Sorted(maps.Keys(in.Body.Set)) {
		name, value := key, in.Body.Set[key]
		if k, live := configs.LiveKey(key); live && k.Name == key {
			name = configs.LiveName(key)
			var err error
			if value, err = configs.LiveValue(key, value); err != nil {
				return nil, problem(metadata.Errorf(metadata.InvalidConfig, "%v", err))
			}
		}
		change.Ops = append(change.Ops, controller.ConfigOp{Key: name, Op: controller.SetConfig, Value: value})
	}
	for _, key := range in.Body.Delete {
		name := configs.LiveName(key)
		if _, set := values[name]; !set {
			where := "all nodes"
			if change.Name != "" {
				where = "broker " + change.Name
			}
			return nil, problem(metadata.Errorf(metadata.ResourceNotFound, "%s is not set on %s; `rustmq admin config list` shows what is", key, where))
		}
		change.Ops = append(change.Ops, controller.ConfigOp{Key: name, Op: controller.DeleteConfig})
	}
	if err := a.cluster.AlterConfigs(ctx, []controller.ConfigChange{change}, in.Body.DryRun)[0]; err != nil {
		return nil, problem(err)
	}
	return &configOutput{a.view()}, nil
}

func (a configAPI) history(_ context.Context, in *changesInput) (*changesOutput, error) {
	out := &changesOutput{}
	out.Body.Changes = []ConfigChange{}
	image := a.cluster.Image()
	if level := image.FeatureLevel(); level < metadata.ConfigHistoryFeatureLevel {
		return nil, problem(metadata.Errorf(metadata.UnsupportedVersion, "the history needs feature level %d, the cluster is at %d", metadata.ConfigHistoryFeatureLevel, level))
	}
	for r := range image.ConfigRevisions() {
		change := ConfigChange{Version: r.Index, By: r.By, Broker: -1, Keys: []ConfigKeyChange{}}
		if !r.At.IsZero() {
			change.At = &r.At
		}
		if id, err := strconv.ParseInt(r.Broker, 10, 32); err == nil {
			change.Broker = int32(id)
		}
		for _, k := range r.Keys {
			if shown := shownKey(k.Key); in.Key == "" || in.Key == shown || in.Key == k.Key {
				change.Keys = append(change.Keys, ConfigKeyChange{shown, shownValue(k.Key, k.Old), shownValue(k.Key, k.New)})
			}
		}
		if len(change.Keys) > 0 {
			out.Body.Changes = append(out.Body.Changes, change)
		}
	}
	slices.Reverse(out.Body.Changes)
	return out, nil
}

func shownValue(name string, value *string) *string {
	if value == nil {
		return nil
	}
	shown := configs.ShownLive(name, *value)
	return &shown
}

// where names the nodes that a value is set on.
func where(broker int32) string {
	if broker < 0 {
		return "all"
	}
	return fmt.Sprintf("broker %d", broker)
}
