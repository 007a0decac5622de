package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
)

// askedConfigs are the resources whose configs a request changes. What is refused
// before the controller sees it is not changed at all.
type askedConfigs struct {
	all     []controller.ConfigChange
	refused map[metadata.Resource]error
}

func resourceOf(c controller.ConfigChange) metadata.Resource {
	return metadata.Resource{Type: c.Type, Name: c.Name}
}

func noValue(key string) error { return explained{kerr.InvalidRequest, "no value for " + key} }

func (a *askedConfigs) refuse(c controller.ConfigChange, err error) {
	if a.refused == nil {
		a.refused = map[metadata.Resource]error{}
	}
	a.refused[resourceOf(c)] = err
}

func (a *askedConfigs) add(c controller.ConfigChange) {
	if c.Type == metadata.TopicResource && c.Name == "" {
		a.refuse(c, explained{kerr.InvalidRequest, "a topic has a name"})
	}
	a.all = append(a.all, c)
}

// changes are those that the controller is to decide on.
func (a *askedConfigs) changes() (some []controller.ConfigChange) {
	for _, c := range a.all {
		if a.refused[resourceOf(c)] == nil {
			some = append(some, c)
		}
	}
	return some
}

// each answers in the order of the request; decided are the answers to changes.
func (a *askedConfigs) each(decided []error, answer func(kmsg.ConfigResourceType, string, error)) {
	for _, c := range a.all {
		err := a.refused[resourceOf(c)]
		if err == nil {
			err, decided = decided[0], decided[1:]
		}
		answer(kmsg.ConfigResourceType(c.Type), c.Name, err)
	}
}
