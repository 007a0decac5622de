package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
)

// An operation is long work that a call began and the cluster goes on with by itself: a drain,
// a decommission, or moves of replicas. Nobody keeps a list of them: what is under way stands
// in the metadata, and an id says how much there was to do when the call began it. So any
// process tells of any operation, and none is lost with a process.

const operationsPath = "/api/v1/operations"

// Kinds of operations.
const (
	kindDrain        = "drain"
	kindDecommission = "decommission"
	kindReassignment = "reassignment"
)

// Operation is one as the API shows it.
type Operation struct {
	ID     string `json:"id"`
	Kind   string `json:"kind" enum:"drain,decommission,reassignment"`
	Broker int32  `json:"broker,omitempty" doc:"of a drain or a decommission"`
	State  string `json:"state" enum:"running,done,stuck,ended" doc:"stuck: what is left needs a person, as what says; ended: it was taken back, or the broker is gone"`
	Total  int    `json:"total,omitempty" doc:"what there was to do when it began: leaderships, or replicas to move; left out: the id does not say"`
	Left   int    `json:"left" doc:"what there is to do yet"`
	What   string `json:"what" doc:"the same in words, and what helps"`
	// Partitions are the first that are left.
	Partitions []string `json:"partitions,omitempty" doc:"the first ten that are left"`
}

type (
	operationsOutput struct {
		Body struct {
			Operations []Operation `json:"operations" doc:"those that are under way, and drains that are done of brokers that have replicas yet"`
		}
	}
	operationInput struct {
		ID string `path:"id" maxLength:"64" doc:"as a drain, a decommission or a rebalance has answered it"`
	}
	operationOutput struct{ Body Operation }
)

type operationsAPI struct{ cluster Cluster }

func registerOperations(h *routes, a operationsAPI) {
	route(h, http.MethodGet, operationsPath, onCluster[struct{}](describesCluster), a.list)
	route(h, http.MethodGet, operationsPath+"/{id}", onCluster[operationInput](describesCluster), a.describe)
}

// operationID names work of a kind of which there was so much to do: kind-broker-total, or
// reassignment-total.
func operationID(kind string, broker int32, total int) string {
	if kind == kindReassignment {
		return fmt.Sprintf("%s-%d", kind, total)
	}
	return fmt.Sprintf("%s-%d-%d", kind, broker, total)
}

// parseOperation reads what operationID has written.
func parseOperation(id string) (kind string, broker int32, total int, ok bool) {
	parts := strings.Split(id, "-")
	number := func(text string) int {
		n, err := strconv.ParseInt(text, 10, 31)
		if err != nil || strconv.FormatInt(n, 10) != text {
			ok = false
		}
		return int(n)
	}
	ok = true
	switch {
	case len(parts) == 2 && parts[0] == kindReassignment:
		total = number(parts[1])
	case len(parts) == 3 && (parts[0] == kindDrain || parts[0] == kindDecommission):
		broker, total = int32(number(parts[1])), number(parts[2])
	default:
		ok = false
	}
	return parts[0], broker, total, ok
}

func (a operationsAPI) list(context.Context, *struct{}) (*operationsOutput, error) {
	image, out := a.cluster.Image(), &operationsOutput{}
	out.Body.Operations = []Operation{}
	for b := range image.Brokers() {
		if !b.Draining {
			continue
		}
		kind := kindDrain
		if moves(image, func(p *metadata.Partition) bool { return slices.Contains(p.Removing, b.ID) }).count > 0 {
			kind = kindDecommission
		}
		o := operationOf(image, kind, b.ID, 0)
		if o.State == "done" {
			// Whether it was drained to be taken out stands nowhere: who waits for that is told
			// why nothing moves.
			rest := operationOf(image, kindDecommission, b.ID, 0)
			if rest.Left == 0 {
				continue
			}
			o.What, o.Partitions = o.What+". If it is to be taken out: "+rest.What, rest.Partitions
		}
		out.Body.Operations = append(out.Body.Operations, o)
	}
	if o := operationOf(image, kindReassignment, 0, 0); o.Left > 0 {
		out.Body.Operations = append(out.Body.Operations, o)
	}
	return out, nil
}

func (a operationsAPI) describe(_ context.Context, in *operationInput) (*operationOutput, error) {
	kind, broker, total, ok := parseOperation(in.ID)
	if !ok {
		return nil, huma.NewError(http.StatusNotFound, fmt.Sprintf("there is no operation %q: ids are those that a drain, a decommission or a rebalance has answered, and %s lists what is under way", in.ID, operationsPath))
	}
	return &operationOutput{operationOf(a.cluster.Image(), kind, broker, total)}, nil
}

// found counts partitions, and names the first of them.
type found struct {
	count int
	names []string
}

func (f *found) add(t *metadata.Topic, p *metadata.Partition) {
	if f.count++; f.count <= namedPartitions {
		f.names = append(f.names, fmt.Sprintf("%s-%d", t.Name, p.Index))
	}
}

// moves finds the partitions that are as wanted.
func moves(image *metadata.Image, wanted func(*metadata.Partition) bool) (f found) {
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			if wanted(p) {
				f.add(t, p)
			}
		}
	}
	return f
}

// operationOf is how far work of a kind has come; total 0: it is not known how much there was.
func operationOf(image *metadata.Image, kind string, broker int32, total int) Operation {
	o := Operation{ID: operationID(kind, broker, total), Kind: kind, Broker: broker, State: "running"}
	var left found
	if kind == kindReassignment {
		left = moves(image, movesByItself(image))
		if o.What = fmt.Sprintf("%s of replicas under way: new replicas are sent what is not in the bucket yet", plural(left.count, "move")); left.count == 0 {
			o.State, o.What = "done", "every partition has the replicas that it is to have"
		}
		return o.with(total, left)
	}
	b, known := image.Broker(broker)
	switch {
	case !known && kind == kindDecommission:
		o.State, o.What = "ended", fmt.Sprintf("broker %d is taken out of the cluster", broker)
	case !known:
		o.State, o.What = "ended", fmt.Sprintf("there is no broker %d", broker)
	case !b.Draining:
		o.State, o.What = "ended", fmt.Sprintf("broker %d is given leaderships and replicas again: somebody has undrained it, or it has registered anew", broker)
	case kind == kindDrain:
		left = o.drain(image, broker)
	default:
		left = o.decommission(image, broker)
	}
	return o.with(total, left)
}

// movesByItself tells moves that are of no decommission.
func movesByItself(image *metadata.Image) func(*metadata.Partition) bool {
	drained := map[int32]bool{}
	for b := range image.Brokers() {
		drained[b.ID] = b.Draining
	}
	return func(p *metadata.Partition) bool {
		moving := len(p.Adding) > 0 || len(p.Removing) > 0
		return moving && !slices.ContainsFunc(p.Removing, func(id int32) bool { return drained[id] })
	}
}

func (o *Operation) drain(image *metadata.Image, broker int32) found {
	left := moves(image, func(p *metadata.Partition) bool { return p.Leader == broker })
	alone := moves(image, func(p *metadata.Partition) bool { return p.Leader == broker && len(p.ISR) == 1 })
	switch {
	case left.count == 0:
		o.State, o.What = "done", fmt.Sprintf("broker %d leads nothing: it can be stopped without anybody waiting for another leader", broker)
	case alone.count == left.count:
		o.State, o.What = "stuck", fmt.Sprintf("broker %d is alone in sync of what it still leads: start the brokers that have the other replicas, or give these topics more of them", broker)
	default:
		o.What = fmt.Sprintf("broker %d leads %s yet: others come to lead them", broker, plural(left.count, "partition"))
	}
	return left
}

func (o *Operation) decommission(image *metadata.Image, broker int32) found {
	left := moves(image, func(p *metadata.Partition) bool { return slices.Contains(p.Replicas, broker) })
	moving := moves(image, func(p *metadata.Partition) bool { return slices.Contains(p.Removing, broker) })
	again, stuck := controller.Evacuate(image, broker)
	switch {
	case left.count == 0:
		o.State, o.What = "done", fmt.Sprintf("broker %d has no replica: it can be stopped, and unregistered", broker)
	case moving.count > 0:
		o.What = fmt.Sprintf("broker %d has %s yet, of which %d are moving: new replicas are sent what is not in the bucket yet", broker, plural(left.count, "replica"), moving.count)
	case len(stuck) > 0 && len(again) == 0:
		o.State, o.What = "stuck", fmt.Sprintf("broker %d has %s that no other broker in service can take: start another broker, or give the topics fewer replicas, and decommission it again", broker, plural(left.count, "replica"))
	default:
		o.State, o.What = "stuck", fmt.Sprintf("broker %d has %s, and none is moving: `rustmq admin brokers decommission %d` begins anew what is left", broker, plural(left.count, "replica"), broker)
	}
	return left
}

// with adds how much there was, and is left.
func (o Operation) with(total int, left found) Operation {
	o.Left, o.Partitions = left.count, left.names
	if total > 0 {
		o.Total = max(total, left.count)
	}
	return o
}

// begun counts what a drain or a decommission of a broker has to do.
func begun(image *metadata.Image, kind string, broker int32) int {
	return operationOf(image, kind, broker, 0).Left
}
