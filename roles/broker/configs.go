package broker

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker/group"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/transport/kafka"
)

func (b *Broker) describeConfigs(_ *kafka.Request, q *kmsg.DescribeConfigsRequest) *kmsg.DescribeConfigsResponse {
	p := q.ResponseKind().(*kmsg.DescribeConfigsResponse)
	type resource struct {
		kind kmsg.ConfigResourceType
		name string
	}
	seen := map[resource]bool{} // so that a small request has no huge answer
	byName := 0
	for _, want := range q.Resources {
		if r := (resource{want.ResourceType, want.ResourceName}); seen[r] {
			continue
		} else {
			seen[r] = true
		}
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = want.ResourceType, want.ResourceName
		if len(want.ConfigNames) == 0 {
			want.ConfigNames = nil // none named is all, as where the list is null
		}
		if isThereByName(want.ResourceType) {
			byName++
		}
		var configs []kmsg.DescribeConfigsResponseResourceConfig
		err := error(errTooManyNamed)
		if guard.Check("broker.described-by-name", byName <= maxDescribedByName || !isThereByName(want.ResourceType)) {
			configs, err = b.configsOf(want)
		}
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		for i := range configs {
			if !q.IncludeSynonyms {
				configs[i].ConfigSynonyms = nil
			}
			if !q.IncludeDocumentation {
				configs[i].Documentation = nil
			}
		}
		out.Configs = configs
		p.Resources = append(p.Resources, out)
	}
	return p
}

// isThereByName reports whether resources of a kind have a configuration whether
// anybody has made them or not.
func isThereByName(kind kmsg.ConfigResourceType) bool {
	return kind == kmsg.ConfigResourceTypeGroupConfig || kind == kmsg.ConfigResourceTypeClientMetrics
}

var errTooManyNamed = explained{kerr.InvalidRequest, fmt.Sprintf("at most %d groups and client metrics subscriptions at once", maxDescribedByName)}

// configsOf returns the configuration of a resource, or of it those keys that
// are asked for.
func (b *Broker) configsOf(want kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	image := b.images.image()
	switch want.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		t, ok := image.Topic(want.ResourceName)
		if !ok {
			if err := metadata.ValidTopicName(want.ResourceName); err != nil {
				return nil, err
			}
			return nil, errUnknownTopic
		}
		return b.topicConfigs(t.Configs, t.MinISR(t.Partition(0)), want.ConfigNames), nil
	case kmsg.ConfigResourceTypeBroker:
		if want.ResourceName != "" && want.ResourceName != strconv.Itoa(int(b.opt.NodeID)) {
			return nil, explained{kerr.InvalidRequest, "only broker " + strconv.Itoa(int(b.opt.NodeID)) + " is described here, or all by the empty name"}
		}
		return b.brokerConfigs(image, want), nil
	case kmsg.ConfigResourceTypeGroupConfig:
		if want.ResourceName == "" {
			return nil, explained{kerr.InvalidRequest, "a group has a name"}
		}
		return b.groupConfigs(image, want), nil
	case kmsg.ConfigResourceTypeClientMetrics:
		if want.ResourceName == "" {
			return nil, explained{kerr.InvalidRequest, "a client metrics subscription has a name"}
		}
		return clientMetricsConfigs(image, want), nil
	}
	return nil, explained{kerr.InvalidRequest, unconfigured(want.ResourceType)}
}

// listConfigResources names what has a configuration: topics, brokers, subscriptions to
// metrics of clients, and groups that were given one. Version 0 asks for the
// subscriptions.
func (b *Broker) listConfigResources(_ *kafka.Request, q *kmsg.ListConfigResourcesRequest) *kmsg.ListConfigResourcesResponse {
	p := q.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	kinds := q.ResourceTypes
	if q.Version == 0 {
		kinds = []int8{int8(kmsg.ConfigResourceTypeClientMetrics)}
	}
	for _, kind := range kinds {
		switch kmsg.ConfigResourceType(kind) {
		case kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger,
			kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig:
		default:
			p.ErrorCode = kerr.UnsupportedVersion.Code
			return p
		}
	}
	add := func(kind kmsg.ConfigResourceType, name string) {
		if len(kinds) == 0 || slices.Contains(kinds, int8(kind)) {
			out := kmsg.NewListConfigResourcesResponseConfigResource()
			out.Type, out.Name = int8(kind), name
			p.ConfigResources = append(p.ConfigResources, out)
		}
	}
	image := b.images.image()
	for t := range image.Topics() {
		add(kmsg.ConfigResourceTypeTopic, t.Name)
	}
	for broker := range image.Brokers() {
		add(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(broker.ID)))
	}
	for c := range image.ClientMetrics() {
		add(kmsg.ConfigResourceTypeClientMetrics, c.Resource.Name)
	}
	for c := range image.GroupConfigs() {
		add(kmsg.ConfigResourceTypeGroupConfig, c.Resource.Name)
	}
	return p
}

// unconfigured says why a kind of resource has no configuration here.
func unconfigured(kind kmsg.ConfigResourceType) string {
	if kind == kmsg.ConfigResourceTypeBrokerLogger {
		return "loggers have no levels of their own: operations.log_level is that of all"
	}
	return fmt.Sprintf("only topics, brokers, groups and client metrics subscriptions have a configuration, not resources of type %d", kind)
}

// brokerConfigs lists what clients and tools look for in a broker, read-only,
// and what was set on it.
func (b *Broker) brokerConfigs(image *metadata.Image, want kmsg.DescribeConfigsRequestResource) []kmsg.DescribeConfigsResponseResourceConfig {
	configs := []kmsg.DescribeConfigsResponseResourceConfig{}
	add := func(name, value string, kind kmsg.ConfigType, source kmsg.ConfigSource, readOnly bool) {
		if want.ConfigNames != nil && !slices.Contains(want.ConfigNames, name) {
			return
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType, c.Source, c.ReadOnly = name, &value, kind, source, readOnly
		c.IsDefault = source == kmsg.ConfigSourceDefaultConfig
		c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{synonym(name, &value, source)}
		configs = append(configs, c)
	}
	if want.ResourceName != "" {
		id := strconv.Itoa(int(b.opt.NodeID))
		static := kmsg.ConfigSourceStaticBrokerConfig
		add("broker.id", id, kmsg.ConfigTypeInt, static, true)
		add("node.id", id, kmsg.ConfigTypeInt, static, true)
		add("offsets.topic.num.partitions", strconv.Itoa(group.Partitions), kmsg.ConfigTypeInt, static, true)
		for _, c := range b.groups.Configs() {
			add(c.Name, c.Value, configType(c.Type), static, true)
		}
		if b.opt.Rack != "" {
			add("broker.rack", b.opt.Rack, kmsg.ConfigTypeString, static, true)
		}
	}
	from := b.sources(image)
	for _, v := range from.configured {
		shown := slices.ContainsFunc(configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool { return c.Name == v.Name })
		if want.ResourceName == "" || shown || v.Value == "" {
			continue
		}
		synonyms, _ := from.synonyms(v.Name)
		add(v.Name, *synonyms[0].Value, configType(v.Type), synonyms[0].Source, !v.Dynamic)
		if last := len(configs) - 1; last >= 0 && configs[last].Name == v.Name {
			configs[last].ConfigSynonyms, configs[last].Documentation = synonyms, &v.Doc
		}
	}
	// What was set while brokers run and has no value by the configuration.
	set, _ := image.Config(metadata.Resource{Type: metadata.BrokerResource, Name: want.ResourceName})
	for name, value := range set {
		if slices.ContainsFunc(configs, func(c kmsg.DescribeConfigsResponseResourceConfig) bool { return c.Name == name }) {
			continue
		}
		source := kmsg.ConfigSourceDynamicBrokerConfig
		if want.ResourceName == "" {
			source = kmsg.ConfigSourceDynamicDefaultBrokerConfig
		}
		add(name, value, kmsg.ConfigTypeString, source, false)
	}
	slices.SortFunc(configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int {
		return slices.Compare([]string{a.Name}, []string{b.Name})
	})
	return configs
}

// groupConfigs lists what a group has of its own, and the broker's where it has nothing.
func (b *Broker) groupConfigs(image *metadata.Image, want kmsg.DescribeConfigsRequestResource) []kmsg.DescribeConfigsResponseResourceConfig {
	listed := []kmsg.DescribeConfigsResponseResourceConfig{}
	set, _ := image.Config(metadata.Resource{Type: metadata.GroupResource, Name: want.ResourceName})
	brokers := b.groups.Configs()
	for _, key := range configs.KafkaGroupKeys() {
		if key.Support != configs.Served || want.ConfigNames != nil && !slices.Contains(want.ConfigNames, key.Name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.ConfigType, c.Documentation = key.Name, configType(key.Type), &key.Why
		if value, ok := set[key.Name]; ok {
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(key.Name, &value, kmsg.ConfigSourceGroupConfig))
		}
		behind := configs.GroupSynonym(key.Name)
		i := slices.IndexFunc(brokers, func(c group.Config) bool { return c.Name == behind })
		c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(behind, &brokers[i].Value, kmsg.ConfigSourceStaticBrokerConfig))
		c.Value, c.Source = c.ConfigSynonyms[0].Value, c.ConfigSynonyms[0].Source
		listed = append(listed, c)
	}
	return listed
}

// clientMetricsConfigs lists what was set on a subscription to metrics of clients, and
// the defaults.
func clientMetricsConfigs(image *metadata.Image, want kmsg.DescribeConfigsRequestResource) []kmsg.DescribeConfigsResponseResourceConfig {
	listed := []kmsg.DescribeConfigsResponseResourceConfig{}
	set, _ := image.Config(metadata.Resource{Type: metadata.ClientMetricsResource, Name: want.ResourceName})
	for _, key := range configs.KafkaClientMetricsKeys() {
		if want.ConfigNames != nil && !slices.Contains(want.ConfigNames, key.Name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.ConfigType, c.Documentation = key.Name, configType(key.Type), &key.Why
		c.Value, c.Source, c.IsDefault = &key.Default, kmsg.ConfigSourceDefaultConfig, true
		if value, ok := set[key.Name]; ok {
			c.Value, c.Source, c.IsDefault = &value, kmsg.ConfigSourceClientMetricsConfig, false
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(key.Name, &value, c.Source)) // the default is none, as in Kafka
		}
		listed = append(listed, c)
	}
	return listed
}

// incrementalAlterConfigs changes single keys.
func (b *Broker) incrementalAlterConfigs(ctx context.Context, asks *kafka.Request, q *kmsg.IncrementalAlterConfigsRequest) *kmsg.IncrementalAlterConfigsResponse {
	p := q.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	var asked askedConfigs
	for _, r := range q.Resources {
		change := controller.ConfigChange{Type: metadata.ResourceType(r.ResourceType), Name: r.ResourceName, By: asks.Conn.Principal()}
		for _, c := range r.Configs {
			op := controller.ConfigOp{Key: c.Name, Op: controller.ConfigOpKind(c.Op)}
			if c.Value != nil {
				op.Value = *c.Value
			} else if op.Op != controller.DeleteConfig {
				asked.refuse(change, noValue(c.Name))
			}
			change.Ops = append(change.Ops, op)
		}
		asked.add(change)
	}
	asked.each(b.changeConfigs(ctx, asked.changes(), false, q.ValidateOnly), func(kind kmsg.ConfigResourceType, name string, err error) {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = kind, name
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		p.Resources = append(p.Resources, out)
	})
	return p
}

// alterConfigs replaces all keys: what the request does not name goes back to
// its default.
func (b *Broker) alterConfigs(ctx context.Context, asks *kafka.Request, q *kmsg.AlterConfigsRequest) *kmsg.AlterConfigsResponse {
	p := q.ResponseKind().(*kmsg.AlterConfigsResponse)
	var asked askedConfigs
	for _, r := range q.Resources {
		change := controller.ConfigChange{Type: metadata.ResourceType(r.ResourceType), Name: r.ResourceName, By: asks.Conn.Principal()}
		for _, c := range r.Configs {
			if c.Value != nil {
				change.Ops = append(change.Ops, controller.ConfigOp{Key: c.Name, Op: controller.SetConfig, Value: *c.Value})
			} else {
				asked.refuse(change, noValue(c.Name))
			}
		}
		asked.add(change)
	}
	asked.each(b.changeConfigs(ctx, asked.changes(), true, q.ValidateOnly), func(kind kmsg.ConfigResourceType, name string, err error) {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = kind, name
		out.ErrorCode, out.ErrorMessage = codeAndMessage(err)
		p.Resources = append(p.Resources, out)
	})
	return p
}

// changeConfigs carries out changes, of resources that the request names once; whole
// ones put the keys that they do not name back to their defaults.
func (b *Broker) changeConfigs(ctx context.Context, changes []controller.ConfigChange, whole, validateOnly bool) []error {
	ctx, cancel := controllerContext(ctx, 0)
	defer cancel()
	times := map[metadata.Resource]int{}
	for _, c := range changes {
		times[metadata.Resource{Type: c.Type, Name: c.Name}]++
	}
	errs := make([]error, len(changes))
	var once []controller.ConfigChange
	var places []int
	image := b.opt.Controller.Image()
	for i, c := range changes {
		resource := metadata.Resource{Type: c.Type, Name: c.Name}
		if times[resource] > 1 {
			errs[i] = explained{kerr.InvalidRequest, "the request names this resource more than once"}
			continue
		}
		if !guard.Check("broker.audit-configs", c.Type != metadata.TopicResource || c.Name != AuditTopic) {
			errs[i] = explained{kerr.PolicyViolation, "what is kept of the audit log is said by the configuration of the nodes: security.audit.retention_time and retention_bytes"}
			continue
		}
		if whole {
			c.Ops = append(c.Ops, unnamedKeys(image, resource, c.Ops)...)
		}
		once, places = append(once, c), append(places, i)
	}
	for i, err := range b.opt.Controller.AlterConfigs(ctx, once, validateOnly) {
		errs[places[i]] = err
	}
	if !validateOnly {
		b.settle(ctx)
	}
	return errs
}

// unnamedKeys deletes the keys of a resource that no operation names.
func unnamedKeys(image *metadata.Image, r metadata.Resource, ops []controller.ConfigOp) (all []controller.ConfigOp) {
	named := map[string]bool{}
	for _, op := range ops {
		named[op.Key] = true
	}
	set, _ := image.Config(r)
	for key := range set {
		if !named[key] {
			all = append(all, controller.ConfigOp{Key: key, Op: controller.DeleteConfig})
		}
	}
	return all
}
