package broker

import (
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
)

// brokerConfig returns what was set on this broker, and on all, while they run.
func (b *Broker) brokerConfig(image *metadata.Image) (own, all map[string]string) {
	own, _ = image.Config(metadata.Resource{Type: metadata.BrokerResource, Name: strconv.Itoa(int(b.opt.NodeID))})
	all, _ = image.Config(metadata.Resource{Type: metadata.BrokerResource})
	return own, all
}

// changeDefaults brings what logs do to the defaults for topics that an image has.
func (b *Broker) changeDefaults(image *metadata.Image) {
	defaults := map[string]string{}
	own, all := b.brokerConfig(image)
	for _, set := range []map[string]string{all, own} { // the broker's own over that of all
		for name, value := range set {
			if key, ok := configs.DefaultOf(name); ok {
				defaults[key] = value
			}
		}
	}
	if maps.Equal(defaults, b.defaults) {
		return
	}
	b.defaults = defaults
	for t := range image.Topics() {
		tp := b.table.byID(t.ID)
		if tp == nil {
			continue // it comes with this image
		}
		for _, p := range *tp.partitions.Load() {
			if l := p.role.Load().kept(); l != nil {
				l.SetConfig(b.logConfig(b.withDefaults(t), t.Partition(p.index)))
			}
		}
	}
}

// withDefaults returns a topic that has set what brokers were given as default of
// its configs. Of follow's goroutine.
func (b *Broker) withDefaults(t *metadata.Topic) *metadata.Topic {
	if len(b.defaults) == 0 {
		return t
	}
	changed := *t
	changed.Configs = maps.Clone(b.defaults)
	maps.Copy(changed.Configs, t.Configs)
	return &changed
}

type configSynonym = kmsg.DescribeConfigsResponseResourceConfigConfigSynonym

// configSources are where configs of brokers have their values from.
type configSources struct {
	own, all   map[string]string // that were set while they run
	configured []configs.BrokerValue
}

func (b *Broker) sources(image *metadata.Image) configSources {
	own, all := b.brokerConfig(image)
	return configSources{own, all, b.live.Load().Configs}
}

// synonyms lists where a config has its value from, what is in effect first: what
// was set while brokers run, the configuration, the default. It is whole unless the
// configuration does not know it.
func (s configSources) synonyms(name string) (values []configSynonym, whole bool) {
	if value, ok := s.own[name]; ok {
		values = append(values, synonym(name, &value, kmsg.ConfigSourceDynamicBrokerConfig))
	}
	if value, ok := s.all[name]; ok {
		values = append(values, synonym(name, &value, kmsg.ConfigSourceDynamicDefaultBrokerConfig))
	}
	i := slices.IndexFunc(s.configured, func(v configs.BrokerValue) bool { return v.Name == name })
	if i < 0 {
		return values, false
	}
	source := kmsg.ConfigSourceDefaultConfig
	if s.configured[i].Static {
		source = kmsg.ConfigSourceStaticBrokerConfig
	}
	return append(values, synonym(name, &s.configured[i].Value, source)), true
}
