package admin

import (
	"context"
	"fmt"
	"slices"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/consensus/metadata"
)

// Where a config of a topic has its value from.
const (
	configOfTopic   = "topic"   // it was set on it
	configOfCluster = "cluster" // all brokers were given a default
	configOfNode    = "node"    // the configuration of the process that answers
	configOfDefault = "default"
)

// TopicConfig is one config of a topic.
type TopicConfig struct {
	Key     string `json:"key"`
	Value   string `json:"value" doc:"that is in effect"`
	Source  string `json:"source" enum:"topic,cluster,node,default" doc:"where that comes from: it was set on the topic; on all brokers as their default; the configuration of the process that answers; nothing was said"`
	Default string `json:"default" doc:"what it goes back to when it is deleted from the topic"`
	Broker  string `json:"broker_key,omitempty" doc:"the config of brokers that is its default"`
	Type    string `json:"type" enum:"boolean,int,long,double,string,list"`
	Fixed   bool   `json:"fixed,omitempty" doc:"it is said when the topic is made, and stays"`
	Doc     string `json:"doc"`
}

type topicConfigsOutput struct {
	Body struct {
		Configs []TopicConfig `json:"configs" doc:"in order of their keys"`
	}
}

// topicConfigsAPI is /api/v1/topics/{name}/configs.
type topicConfigsAPI struct {
	cluster Cluster
	node    Configuration // nil: it is not known
}

func (a topicConfigsAPI) list(_ context.Context, in *topicName) (*topicConfigsOutput, error) {
	image := a.cluster.Image()
	t, ok := image.Topic(in.Name)
	if !ok {
		return nil, unknownTopic(in.Name)
	}
	ofBrokers, _ := image.Config(metadata.Resource{Type: metadata.BrokerResource})
	out := &topicConfigsOutput{}
	out.Body.Configs = []TopicConfig{}
	for _, key := range configs.TopicKeys() {
		is := TopicConfig{Key: key.Name, Source: configOfDefault, Default: key.Default, Broker: key.Synonym, Type: key.Type, Fixed: key.Name == configs.DurabilityKey, Doc: key.Doc}
		switch value, set := ofBrokers[key.Synonym]; {
		case set:
			is.Default, is.Source = value, configOfCluster
		case key.Name == "min.insync.replicas":
			own := *t
			own.Configs = nil
			is.Default = fmt.Sprint(own.MinISR(t.Partition(0)))
		case key.Name == "max.message.bytes" && a.node != nil:
			settings := a.node.Settings()
			if i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == "broker.message_max_bytes" }); i >= 0 && settings[i].Source != "default" {
				size, err := configs.ParseSize(settings[i].Value)
				if err != nil {
					return nil, fmt.Errorf("read broker.message_max_bytes: %w", err)
				}
				is.Default, is.Source = fmt.Sprint(int64(size)), configOfNode
			}
		}
		is.Value = is.Default
		if value, set := t.Configs[key.Name]; set {
			is.Value, is.Source = value, configOfTopic
		}
		out.Body.Configs = append(out.Body.Configs, is)
	}
	return out, nil
}
