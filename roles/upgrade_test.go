package roles_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/admin"
)

// level is the feature level that a node knows of.
func (c *processes) level(at int) uint32 {
	c.Helper()
	var view admin.ClusterView
	must(c.T, json.Unmarshal([]byte(c.admin(at, "cluster", "describe", "-o", "json")), &view))
	return view.FeatureLevel
}

// TestLevelIsHeldUntilItIsLetGo: a cluster whose feature level is held does not rise, though every
// node knows more, and refuses what needs more; restarted one by one without that, it rises.
func TestLevelIsHeldUntilItIsLetGo(t *testing.T) {
	const held = metadata.ConfigHistoryFeatureLevel - 1
	t.Setenv("RUSTMQ_CONTROLLER__FEATURE_LEVEL", "14")
	c := newProcesses(t, 3)
	eventually(t, "it rises as far as it may", func() bool { return c.level(1) == held })
	set := func() (int, string) {
		code, stdout, stderr := rustmq(t, "", "admin", "--url", "http://"+c.host(1)+":9642", "config", "set", "operations.log_level=debug")
		return code, stdout + stderr
	}
	if code, said := set(); code != 1 || !strings.Contains(said, "needs feature level") && !strings.Contains(said, "from feature level 15 on") {
		t.Errorf("below the level: exit %d, %s", code, said)
	}
	if code, _, said := rustmq(t, "", "admin", "--url", "http://"+c.host(1)+":9642", "config", "history"); code != 1 || !strings.Contains(said, "feature level 15") {
		t.Errorf("the history below the level: exit %d, %s", code, said)
	}
	t.Setenv("RUSTMQ_CONTROLLER__FEATURE_LEVEL", "0")
	for id := 1; id <= 3; id++ {
		if level := c.level(1 + id%3); id < 2 && level != held {
			t.Errorf("before node %d is restarted the level is %d", id, level)
		}
		c.end(id, syscall.SIGTERM)
		c.start(id)
		c.await(id)
	}
	eventually(t, "it rises", func() bool { return c.level(1) == metadata.LatestFeatureLevel })
	if code, said := set(); code != 0 {
		t.Errorf("at the level: %s", said)
	}
	// By a value that is set in the cluster, too, and that is over what nodes say.
	c.admin(2, "config", "set", "controller.feature_level=15")
	c.obeys(3, "controller.feature_level", "15")
}
