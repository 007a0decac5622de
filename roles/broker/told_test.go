package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/transport/rpc"
)

// Every broker in service is asked for what is of its process; who does not answer is named with
// the reason, and keeps nobody from being told what the others say.
func TestBrokersTellOfTheirProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, false, nil, func(o *Options) {
			id := o.NodeID
			o.Tell = func(_ context.Context, what string) (any, error) {
				if what != "id" {
					return nil, &GroupError{kerr.UnsupportedVersion, "it knows nothing of " + what}
				}
				return map[string]int32{"is": id}, nil
			}
			if id == 3 {
				o.Tell = nil
			}
		})
		c.settle() // until each is in service, by the metadata of all
		want := func(from string, got []Told, silent int32) {
			t.Helper()
			for i, is := range got {
				id := int32(i + 1)
				answer, why := fmt.Sprintf(`{"is":%d}`, id), ""
				switch id {
				case 3:
					answer, why = "", "it tells nothing of its process"
				case silent:
					answer, why = "", rpc.ErrPeerUnreachable.Error()
				}
				if is.Broker != id || string(is.Answer) != answer || (why == "") != (is.Unknown == "") || !strings.Contains(is.Unknown, why) {
					t.Errorf("%s: broker %d says %q, %q: want %q, %q", from, is.Broker, is.Answer, is.Unknown, answer, why)
				}
			}
			if len(got) != 3 {
				t.Errorf("%s: %d brokers are told of, want 3", from, len(got))
			}
		}
		want("a broker", c.nodes[1].Told(t.Context(), "id"), 0)
		w := &wayIn{nodes: map[string]rpc.PeerHandler{}, silent: map[string]error{}}
		for b := range c.controller.Image().Brokers() {
			address, _ := peerAddress(b)
			w.nodes[address] = c.nodes[b.ID]
			if b.ID == 2 {
				w.silent[address] = errors.Join(rpc.ErrPeerUnreachable)
			}
		}
		want("a front", NewFront(c.controller.Image, w).Told(t.Context(), "id"), 2)
		for _, is := range c.nodes[1].Told(t.Context(), "weather") {
			if is.Answer != nil || is.Unknown == "" {
				t.Errorf("broker %d answers what it does not know: %s", is.Broker, is.Answer)
			}
		}
	})
}
