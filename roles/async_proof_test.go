package roles

import (
	"testing"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/security/pki"
)

// TestWhoIsLetInside: another broker comes in as the cluster itself where it has proved which
// one it is, or where nobody has to say who he is.
func TestWhoIsLetInside(t *testing.T) {
	for _, c := range []struct {
		authorization string
		proven, in    bool
	}{{"off", false, true}, {"off", true, true}, {"on", false, false}, {"on", true, true}} {
		config, err := configs.Load(configs.Sources{Set: []string{"security.authorization.mode=" + c.authorization}})
		if err != nil {
			t.Fatal(err)
		}
		n := &Node{config: config, peers: &peers{}}
		if c.proven {
			n.peers.secure = new(pki.Mutual)
		}
		if why := n.noDoorInside(); (why == "") != c.in {
			t.Errorf("%+v: %q", c, why)
		}
	}
}
