package controller

import (
	"context"
	"slices"
	"strconv"

	"rustmq.dev/rustmq/consensus/metadata"
)

// ConfigOpKind is numbered as in Kafka's IncrementalAlterConfigs.
type ConfigOpKind int8

const (
	SetConfig      ConfigOpKind = 0
	DeleteConfig   ConfigOpKind = 1
	AppendConfig   ConfigOpKind = 2
	SubtractConfig ConfigOpKind = 3
)

// ConfigOp is one operation on one key.
type ConfigOp struct {
	Key   string
	Op    ConfigOpKind
	Value string
}

// ConfigChange is what is to change on one resource: all of it or nothing.
type ConfigChange struct {
	Type metadata.ResourceType
	Name string // a topic, a broker id in decimal, or empty for all brokers
	Ops  []ConfigOp
	By   string // principal that asks; empty: nobody was asked who it is
}

// AlterConfigs carries out changes, each on its own; errors are in order of the
// request. With validateOnly it says what would happen.
func (c *Controller) AlterConfigs(ctx context.Context, changes []ConfigChange, validateOnly bool) []error {
	end, err := c.change(ctx)
	if err != nil {
		return slices.Repeat([]error{err}, len(changes))
	}
	defer end()
	results := make([]error, len(changes))
	for i, change := range changes {
		results[i] = c.retryConflicts(ctx, func(image *metadata.Image) ([]byte, error) {
			command, err := c.ruled().decideConfigs(image, change)
			if err != nil {
				return nil, err
			}
			if change.Type == metadata.BrokerResource && image.FeatureLevel() >= metadata.ConfigHistoryFeatureLevel {
				command.By, command.At = change.By, c.opt.Now().UnixMilli()
			}
			return encode(image, command)
		}, validateOnly)
	}
	return results
}

// retryConflicts decides on the present image and proposes; when another
// change came between, it decides again.
func (c *Controller) retryConflicts(ctx context.Context, decide func(*metadata.Image) ([]byte, error), validateOnly bool) error {
	for {
		if err := c.leads(); err != nil {
			return err
		}
		command, err := decide(c.state.Image())
		if err != nil || validateOnly {
			return err
		}
		_, err = c.finish(ctx, c.node.Start(command))
		if metadata.CodeOf(err) != metadata.Conflict {
			return err
		}
	}
}

func checkBrokerName(image *metadata.Image, name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil || strconv.FormatInt(id, 10) != name {
		return metadata.Errorf(metadata.InvalidRequest, "a broker is named by its id, in decimal, or by nothing for all brokers")
	}
	if _, ok := image.Broker(int32(id)); !ok {
		return metadata.Errorf(metadata.ResourceNotFound, "broker %d is not registered", id)
	}
	return nil
}
