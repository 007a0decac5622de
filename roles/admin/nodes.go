package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"rustmq.dev/rustmq/roles/broker"
)

// Tellers asks the brokers in service what is of their processes. What is asked is one of the
// names below.
type Tellers interface {
	Told(ctx context.Context, what string) []broker.Told
}

// What brokers are asked of their processes, and how they answer.
const (
	// TellNode is answered by NodeFigures.
	TellNode = "node"
	// TellModules is answered by a list of ETLNodeModule. With a slash and the name of a module
	// behind it, it is of that alone, with its partitions.
	TellModules = "modules"
	// TellCertificates is answered by a list of NodeCertificate.
	TellCertificates = "certificates"
)

// ModuleAsked is the module that a question is about; all: it is about all of them.
func ModuleAsked(what string) (name string, all, is bool) {
	if what == TellModules {
		return "", true, true
	}
	name, is = strings.CutPrefix(what, TellModules+"/")
	return name, false, is
}

// NodeFigures is how the process of a broker stands, as it says itself.
type NodeFigures struct {
	Version   string       `json:"version"`
	Roles     []string     `json:"roles,omitempty" doc:"of broker, controller, admin, what the process is; left out by versions that do not say"`
	Started   time.Time    `json:"started"`
	DataDir   string       `json:"data_dir"`
	HTTP      string       `json:"http,omitempty" doc:"URL of its metrics, health and API, as it is dialled from elsewhere; on a loopback address it is reached from its own machine alone"`
	DiskFree  int64        `json:"disk_free_bytes" doc:"of the disk of its data directory; disk_total_bytes 0: it is not known"`
	DiskTotal int64        `json:"disk_total_bytes"`
	Circuit   string       `json:"circuit" enum:"closed,open,half-open" doc:"its way to the bucket; closed: requests pass"`
	LastError string       `json:"last_error,omitempty" doc:"of the bucket"`
	WAL       *WALState    `json:"wal,omitempty"`
	Upload    *UploadState `json:"upload,omitempty"`
	Damage    *DamageState `json:"damage,omitempty"`
	Troubles  []string     `json:"troubles" doc:"what is not as it should be there, in words"`
}

// NodeReport is what a broker says of its process, or why it does not.
type NodeReport struct {
	Broker  int32        `json:"broker"`
	Unknown string       `json:"unknown,omitempty" doc:"why it does not say: the figures are left out"`
	Figures *NodeFigures `json:"figures,omitempty"`
}

// ETLCounts is what a module did.
type ETLCounts struct {
	Calls    uint64            `json:"calls" doc:"batches that an inline module was called for; transactions that were committed for an async one"`
	Records  uint64            `json:"records" doc:"that it was shown"`
	Failures uint64            `json:"failures" doc:"calls that failed"`
	Seconds  float64           `json:"seconds,omitempty" doc:"that its calls took, of an inline module"`
	Outcomes map[string]uint64 `json:"outcomes" doc:"what became of records: dropped, routed, rejected, dead-lettered; of an async module kept, dropped, routed, passed, dead_letter"`
	Restarts uint64            `json:"restarts,omitempty" doc:"of an async module: partitions that were begun anew from the last transaction"`
	Skipped  uint64            `json:"skipped,omitempty" doc:"of an async module: offsets that nobody can read any more"`
}

// add adds what a module did elsewhere.
func (c *ETLCounts) add(o *ETLCounts) {
	c.Calls += o.Calls
	c.Records += o.Records
	c.Failures += o.Failures
	c.Seconds += o.Seconds
	c.Restarts += o.Restarts
	c.Skipped += o.Skipped
	for outcome, n := range o.Outcomes {
		if c.Outcomes == nil {
			c.Outcomes = map[string]uint64{}
		}
		c.Outcomes[outcome] += n
	}
}

// ETLNodeModule is how a module is on one broker.
type ETLNodeModule struct {
	Name   string `json:"name"`
	Active bool   `json:"active" doc:"it runs there; false: only what it did is told"`
	ETLHere
	Recent int       `json:"recent_failures" doc:"within the window of its error budget there"`
	Counts ETLCounts `json:"counts" doc:"since the process began; of an async module since it is active there"`
}

// ETLNode is what a broker says of its modules, or why it does not.
type ETLNode struct {
	Broker  int32           `json:"broker"`
	Unknown string          `json:"unknown,omitempty"`
	Modules []ETLNodeModule `json:"modules"`
}

// ETLSum is what a module did on all brokers that say so.
type ETLSum struct {
	Name   string    `json:"name"`
	Ready  int       `json:"ready" doc:"brokers on which it is ready"`
	Asked  int       `json:"asked" doc:"brokers that have answered"`
	Recent int       `json:"recent_failures" doc:"within the window of its error budget, on the broker that has most: each has a budget of its own"`
	Lag    int64     `json:"lag,omitempty" doc:"of an async module, if the question is about it alone"`
	Counts ETLCounts `json:"counts"`
}

type (
	nodesOutput struct {
		Body struct {
			Nodes []NodeReport `json:"nodes" doc:"the brokers in service, in order of their ids"`
		}
	}
	etlNodesInput struct {
		Module string `query:"module" maxLength:"64" doc:"the module that is asked about, with its partitions; left out: all, without"`
	}
	etlNodesOutput struct {
		Body struct {
			Nodes   []ETLNode `json:"nodes" doc:"the brokers in service, in order of their ids"`
			Modules []ETLSum  `json:"modules" doc:"the same by module"`
		}
	}
)

// nodesAPI is what brokers say of themselves.
type nodesAPI struct{ told Tellers }

func registerNodes(h *routes, a nodesAPI) {
	route(h, http.MethodGet, "/api/v1/nodes", onCluster[struct{}](describesCluster), a.list)
}

func (a nodesAPI) list(ctx context.Context, _ *struct{}) (*nodesOutput, error) {
	out := &nodesOutput{}
	out.Body.Nodes = []NodeReport{}
	for _, is := range a.told.Told(ctx, TellNode) {
		report := NodeReport{Broker: is.Broker}
		report.Figures, report.Unknown = answered[NodeFigures](is)
		out.Body.Nodes = append(out.Body.Nodes, report)
	}
	return out, nil
}

// answered reads what a broker has said; unknown: why it has not.
func answered[T any](is broker.Told) (answer *T, unknown string) {
	if is.Unknown != "" {
		return nil, is.Unknown
	}
	answer = new(T)
	if err := json.Unmarshal(is.Answer, answer); err != nil {
		return nil, fmt.Sprintf("broker %d has answered what this version does not know: %v", is.Broker, err)
	}
	return answer, ""
}

// nodes tells how modules are on all brokers in service.
func (a etlAPI) nodes(ctx context.Context, in *etlNodesInput) (*etlNodesOutput, error) {
	what, out := TellModules, &etlNodesOutput{}
	out.Body.Nodes, out.Body.Modules = []ETLNode{}, []ETLSum{}
	if in.Module != "" {
		if _, err := a.find(in.Module); err != nil {
			return nil, err
		}
		what += "/" + in.Module
	}
	places, asked := map[string]int{}, 0
	for t := range a.cluster.Image().Transforms() {
		if in.Module == "" || in.Module == t.Name {
			places[t.Name] = len(out.Body.Modules)
			out.Body.Modules = append(out.Body.Modules, ETLSum{Name: t.Name, Counts: ETLCounts{Outcomes: map[string]uint64{}}})
		}
	}
	for _, is := range a.told.Told(ctx, what) {
		node := ETLNode{Broker: is.Broker, Modules: []ETLNodeModule{}}
		said, unknown := answered[[]ETLNodeModule](is)
		if node.Unknown = unknown; said != nil {
			asked++
			for _, m := range *said {
				at, known := places[m.Name]
				if !known { // it was deleted, and what it did is remembered
					continue
				}
				node.Modules = append(node.Modules, m)
				sum := &out.Body.Modules[at]
				sum.Counts.add(&m.Counts)
				sum.Recent = max(sum.Recent, m.Recent)
				if m.Active && m.Ready {
					sum.Ready++
				}
				for _, p := range m.Partitions {
					sum.Lag += p.Lag
				}
			}
		}
		out.Body.Nodes = append(out.Body.Nodes, node)
	}
	for i := range out.Body.Modules {
		out.Body.Modules[i].Asked = asked
	}
	return out, nil
}
