package roles

import (
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/roles/admin"
)

// A process with the role admin alone has an id that is another's, or nobody's: it says nothing
// of a node.
func TestAFrontSpeaksForNoNode(t *testing.T) {
	for roles, want := range map[string]bool{"admin": false, "broker": true, "controller": true, "controller,admin": true, "broker,controller,admin": true} {
		config := configs.Default()
		config.Broker.Roles = roles
		if got := (&Node{config: config}).tellsTroubles(); got != want {
			t.Errorf("%s: %v", roles, got)
		}
	}
}

// A disk is short of room by what is less: a share of it, or bytes.
func TestDisksAreShortOfRoom(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		free, total int64
		short, out  bool
	}{
		{50 * gib, 1000 * gib, false, false},
		{4 * gib, 1000 * gib, true, false},
		{gib - 1, 1000 * gib, true, true},
		{2 * gib, 10 * gib, false, false},
		{gib - 1, 10 * gib, true, false},
		{gib / 4, 10 * gib, true, true},
		{0, 10 * gib, true, true},
	} {
		if short, out := diskRoom(c.free, c.total); short != c.short || out != c.out {
			t.Errorf("%d of %d: short %v, out %v", c.free, c.total, short, out)
		}
	}
}

// Brokers ask each other of their processes as soon as they answer each other at all: what is not
// all there yet, or not any more, says so.
func TestAProcessThatStartsTellsNothing(t *testing.T) {
	for _, what := range []string{admin.TellNode, admin.TellFigures, admin.TellCertificates, admin.TellModules} {
		if said, err := (&Node{}).tell(t.Context(), what); err == nil || !strings.Contains(err.Error(), "starting or stopping") {
			t.Errorf("%s: %v, %v", what, said, err)
		}
	}
}
