package controller

import (
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
)

// A change that was decided on one version of a configuration is not made of another.
func TestAChangeOfAnotherVersionIsRefused(t *testing.T) {
	c := open(t, Options{})
	register(t, c, 1, 1)
	create(t, c, defaults("t"))
	change := ConfigChange{Type: metadata.TopicResource, Name: "t", Ops: []ConfigOp{{"k", SetConfig, "1"}}, Conditional: true}
	alter := func() error { return c.AlterConfigs(t.Context(), []ConfigChange{change}, false)[0] }
	version := func() uint64 {
		_, version := c.Image().Config(metadata.Resource{Type: metadata.TopicResource, Name: "t"})
		return version
	}
	change.Version = version()
	if err := alter(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "of the version before", alter(), metadata.InvalidUpdateVersion)
	change.Version = version() + 1
	wantCode(t, "of one that is to come", alter(), metadata.InvalidUpdateVersion)
	change.Version = version()
	if err := alter(); err != nil {
		t.Error(err)
	}
}
