package roles

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/bundle"
)

// otherNode is a process of a cluster, and where it is asked.
type otherNode struct{ name, url string }

// knowing is a server that answers for its cluster.
type knowing interface {
	URL() string
	Get(ctx context.Context, path string, most int64) (body []byte, more bool, err error)
}

const (
	// mostNodes bounds the answer of a server about all of its cluster, in bytes.
	mostNodes = 16 << 20
	// othersWait is for a server that says which others there are: one that hangs is gathered from
	// too, and has to be come to.
	othersWait = 30 * time.Second
)

// othersOf finds the other processes of the cluster of a server: those that it can say where to
// ask, and those that it knows of and cannot. A server that does not answer knows of none.
func othersOf(ctx context.Context, server knowing) (others []otherNode, absent []bundle.Absent) {
	ctx, cancel := context.WithTimeout(ctx, othersWait)
	defer cancel()
	var answers struct {
		Node int32 `json:"node"`
	}
	var nodes struct {
		Nodes []admin.NodeReport `json:"nodes"`
	}
	var cluster struct {
		Nodes []admin.ClusterNode `json:"nodes"`
	}
	seen := map[int32]bool{}
	lacks := func(id int32, format string, args ...any) {
		absent = append(absent, bundle.Absent{Name: fmt.Sprintf("node-%d", id), Why: fmt.Sprintf(format, args...)})
	}
	if askJSON(ctx, server, "/api/v1/config", &answers) == nil {
		seen[answers.Node] = true // it is asked anyway
	}
	if err := askJSON(ctx, server, "/api/v1/nodes", &nodes); err != nil {
		return nil, append(absent, bundle.Absent{Name: "others", Why: "which other nodes there are is not known: " + err.Error()})
	}
	told := map[string]int{} // nodes by where they say that they are asked
	for _, n := range nodes.Nodes {
		if n.Figures != nil {
			told[n.Figures.HTTP]++
		}
	}
	for _, n := range nodes.Nodes {
		asked := seen[n.Broker] || answers.Node == 0 && n.Figures != nil && told[n.Figures.HTTP] == 1 && sameHost(server.URL(), n.Figures.HTTP)
		if seen[n.Broker] = true; asked {
			continue
		}
		switch {
		case n.Figures == nil:
			lacks(n.Broker, "it does not say where it is asked: %s; name it with --process URL", n.Unknown)
		case n.Figures.HTTP == "":
			lacks(n.Broker, "its version (%s) does not say where it is asked: name it with --process URL", n.Figures.Version)
		case !reaches(server.URL(), n.Figures.HTTP) || loopback(n.Figures.HTTP) && (told[n.Figures.HTTP] > 1 || sameHost(server.URL(), n.Figures.HTTP)):
			lacks(n.Broker, "its HTTP is on %s of its own machine: gather there too, or let it be reached (network.bind, security.rest.authentication)", n.Figures.HTTP)
		case told[n.Figures.HTTP] > 1 || sameHost(server.URL(), n.Figures.HTTP):
			lacks(n.Broker, "it says to be asked at %s, and so does another: name it with --process URL", n.Figures.HTTP)
		default:
			others = append(others, otherNode{fmt.Sprintf("node-%d", n.Broker), n.Figures.HTTP})
		}
	}
	if err := askJSON(ctx, server, "/api/v1/cluster", &cluster); err != nil {
		absent = append(absent, bundle.Absent{Name: "others", Why: "which other nodes there are is not known: " + err.Error()})
	}
	for _, n := range cluster.Nodes {
		switch {
		case seen[n.ID]:
		case slices.Contains(n.Roles, "broker"):
			lacks(n.ID, "its broker is %s, and does not say where it is asked: if its process runs, name it with --process URL", n.State)
		default:
			lacks(n.ID, "it is no broker, and where its HTTP is stands nowhere: name it with --process URL")
		}
	}
	return others, absent
}

func askJSON(ctx context.Context, server knowing, path string, into any) error {
	raw, more, err := server.Get(ctx, path, mostNodes)
	if err != nil {
		return err
	}
	if more {
		return fmt.Errorf("%s has more than %d bytes", path, mostNodes)
	}
	return json.Unmarshal(raw, into)
}

// reaches reports whether a URL that a node tells of itself is one for who asks at another: a
// loopback address is of the machine of who says it, which is this one only if the other is on
// it too. Two that say the same one are on two machines.
func reaches(from, to string) bool { return !loopback(to) || loopback(from) }

func loopback(at string) bool {
	u, err := url.Parse(at)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || ip != nil && ip.IsLoopback()
}

// sameHost reports whether two URLs are of one place.
func sameHost(a, b string) bool {
	first, err1 := url.Parse(strings.Replace(a, "//localhost:", "//127.0.0.1:", 1))
	second, err2 := url.Parse(strings.Replace(b, "//localhost:", "//127.0.0.1:", 1))
	return err1 == nil && err2 == nil && first.Host != "" && first.Host == second.Host
}
