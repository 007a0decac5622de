package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// Brokers is what the API asks of the controller for brokers.
type Brokers interface {
	DrainBroker(ctx context.Context, id int32, draining bool) error
	UnregisterBroker(ctx context.Context, id int32) error
	ReassignPartitions(ctx context.Context, moves []controller.Reassignment) []error
	PlanRebalance(context.Context) (controller.RebalancePlan, error)
}

// movesAtOnce bounds one command of reassignments.
const movesAtOnce = 1000

// Broker is a broker as the API shows it.
type Broker struct {
	ID        int32      `json:"id"`
	Rack      string     `json:"rack,omitempty"`
	State     string     `json:"state" doc:"serving, fenced (not in service), or draining"`
	Epoch     int64      `json:"epoch" doc:"of its registration"`
	Listeners []Listener `json:"listeners"`
	Leads     int        `json:"leads" doc:"partitions that it leads"`
	Replicas  int        `json:"replicas" doc:"partitions that it has a replica of"`
	InSync    int        `json:"in_sync" doc:"replicas of it that are in sync"`
	Moving    int        `json:"moving" doc:"replicas that are coming or going by a reassignment"`

	ReplicaList []Replica `json:"replica_list,omitempty"`
	Operation   string    `json:"operation,omitempty" doc:"of the answer to a drain: the id of what it began"`
}

// Listener is an address of a broker.
type Listener struct {
	Name    string `json:"name" doc:"peer is for other brokers"`
	Address string `json:"address"`
}

// Replica is one of a described broker.
type Replica struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Leads     bool   `json:"leads"`
	InSync    bool   `json:"in_sync"`
	Moving    string `json:"moving,omitempty" doc:"adding or removing, while a reassignment is under way"`
}

// Decommission says what is under way to empty a broker.
type Decommission struct {
	ID       int32    `json:"id"`
	Begun    int      `json:"begun" doc:"replicas that begin to move to other brokers"`
	Replicas int      `json:"replicas" doc:"replicas that it still has"`
	Refused  []string `json:"refused,omitempty" doc:"moves that cannot begin, and why"`

	Operation string `json:"operation" doc:"the id of what is under way"`
}

type (
	brokerID struct {
		ID int32 `path:"id" minimum:"1" maximum:"2147483647"`
	}
	brokersOutput struct {
		Body struct {
			Brokers []Broker `json:"brokers"`
			NextPage
		}
	}
	brokerOutput  struct{ Body Broker }
	replicasQuery struct {
		ID int32 `path:"id" minimum:"1" maximum:"2147483647"`
		PageQuery
	}
	replicasOutput struct {
		Body struct {
			Replicas []Replica `json:"replicas" doc:"by topic and partition"`
			NextPage
		}
	}
	// Draining is the body of a drain.
	Draining struct {
		Draining bool `json:"draining" doc:"false: it is given leaderships and replicas again"`
	}
	drainInput struct {
		ID   int32 `path:"id" minimum:"1" maximum:"2147483647"`
		Body Draining
	}
	decommissionOutput struct{ Body Decommission }
	evacuationOutput   struct{ Body Evacuation }
)

type brokersAPI struct {
	cluster  Cluster
	brokers  Brokers
	holdings Holdings // nil: nobody is asked what would be sent
}

func brokerName(in *brokerID) string { return strconv.Itoa(int(in.ID)) }

func registerBrokers(h *routes, a brokersAPI) {
	route(h, http.MethodGet, "/api/v1/brokers", onCluster[PageQuery](describesCluster), a.list)
	route(h, http.MethodGet, "/api/v1/brokers/{id}", onCluster[brokerID](describesCluster).tagged(imageOf(a.cluster), taggedBroker), a.describe)
	route(h, http.MethodGet, "/api/v1/brokers/{id}/replicas", onCluster[replicasQuery](describesCluster), a.listReplicas)
	route(h, http.MethodDelete, "/api/v1/brokers/{id}", onCluster[brokerID](altersCluster).act("broker.unregister").about(brokerName).tagged(imageOf(a.cluster), taggedBroker), a.unregister)
	route(h, http.MethodPost, "/api/v1/brokers/{id}/drain", onCluster[drainInput](altersCluster).act("broker.drain").about(func(in *drainInput) string { return strconv.Itoa(int(in.ID)) }).saying(toldDrain).tagged(imageOf(a.cluster), func(in *drainInput) controller.Tagged { return brokerNamed(in.ID) }), a.drain)
	route(h, http.MethodGet, "/api/v1/brokers/{id}/decommission", onCluster[brokerID](describesCluster).noting("what a decommission would do; nothing is changed"), a.planDecommission)
	route(h, http.MethodPost, "/api/v1/brokers/{id}/decommission", onCluster[brokerID](altersCluster).act("broker.decommission").about(brokerName).tagged(imageOf(a.cluster), taggedBroker), a.decommission)
	route(h, http.MethodPost, "/api/v1/cluster/rebalance", onCluster[rebalanceInput](altersCluster).act("cluster.rebalance").unless(func(in *rebalanceInput) bool { return in.Body.DryRun }), a.rebalance)
}

func taggedBroker(in *brokerID) controller.Tagged { return brokerNamed(in.ID) }

func (a brokersAPI) list(_ context.Context, in *PageQuery) (*brokersOutput, error) {
	image := a.cluster.Image()
	out := &brokersOutput{}
	out.Body.Brokers = []Broker{}
	at := map[int32]int{}
	for b := range image.Brokers() {
		at[b.ID] = len(out.Body.Brokers)
		out.Body.Brokers = append(out.Body.Brokers, brokerView(b))
	}
	for t := range image.Topics() {
		for i := range t.Partitions.Len() {
			p := t.Partitions.At(i)
			for _, r := range p.Replicas {
				if j, known := at[r]; known {
					out.Body.Brokers[j].count(replicaOf(t, p, r))
				}
			}
		}
	}
	var err error
	out.Body.Brokers, out.Body.NextPage, err = partOf(*in, out.Body.Brokers, func(b Broker) string { return numberKey(b.ID) })
	return out, err
}

// listReplicas lists those of a broker, in parts if that is asked for.
func (a brokersAPI) listReplicas(ctx context.Context, in *replicasQuery) (*replicasOutput, error) {
	is, err := a.describe(ctx, &brokerID{in.ID})
	if err != nil {
		return nil, err
	}
	out := &replicasOutput{}
	all := append([]Replica{}, is.Body.ReplicaList...)
	out.Body.Replicas, out.Body.NextPage, err = partOf(in.PageQuery, all, func(r Replica) string { return r.Topic + "/" + numberKey(r.Partition) })
	return out, err
}

func (a brokersAPI) describe(_ context.Context, in *brokerID) (*brokerOutput, error) {
	image := a.cluster.Image()
	b, ok := image.Broker(in.ID)
	if !ok {
		return nil, unknownBroker(in.ID)
	}
	view := brokerView(b)
	for t := range image.Topics() {
		for i := range t.Partitions.Len() {
			if p := t.Partitions.At(i); slices.Contains(p.Replicas, in.ID) {
				r := replicaOf(t, p, in.ID)
				view.count(r)
				view.ReplicaList = append(view.ReplicaList, r)
			}
		}
	}
	return &brokerOutput{view}, nil
}

// toldDrain is what becomes of a broker, as the audit log has it.
func toldDrain(in *drainInput) string {
	if in.Body.Draining {
		return "drained"
	}
	return "undrained"
}

func (a brokersAPI) drain(ctx context.Context, in *drainInput) (*brokerOutput, error) {
	if _, ok := a.cluster.Image().Broker(in.ID); !ok {
		return nil, unknownBroker(in.ID)
	}
	todo := begun(a.cluster.Image(), kindDrain, in.ID)
	if err := a.brokers.DrainBroker(ctx, in.ID, in.Body.Draining); err != nil {
		return nil, problem(err)
	}
	out, err := a.describe(ctx, &brokerID{in.ID})
	if err == nil && in.Body.Draining {
		out.Body.Operation = operationID(kindDrain, in.ID, max(todo, out.Body.Leads))
	}
	return out, err
}

// decommission begins to empty a broker, or goes on with it.
func (a brokersAPI) decommission(ctx context.Context, in *brokerID) (*decommissionOutput, error) {
	b, ok := a.cluster.Image().Broker(in.ID)
	if !ok {
		return nil, unknownBroker(in.ID)
	}
	todo := begun(a.cluster.Image(), kindDecommission, in.ID)
	if !b.Draining {
		if err := a.brokers.DrainBroker(ctx, in.ID, true); err != nil {
			return nil, problem(err)
		}
		ctx = controller.WithoutCondition(ctx) // it was met, and the broker is another by the drain
	}
	image := a.cluster.Image()
	moves, stuck := controller.Evacuate(image, in.ID)
	out := &decommissionOutput{Decommission{ID: in.ID}}
	refuse := func(id storage.PartitionID, why string) {
		name := id.Topic.String()
		if t, ok := image.TopicByID(id.Topic); ok {
			name = t.Name
		}
		out.Body.Refused = append(out.Body.Refused, fmt.Sprintf("%s-%d: %s", name, id.Index, why))
	}
	for part := range slices.Chunk(moves, movesAtOnce) {
		for i, err := range a.brokers.ReassignPartitions(ctx, part) {
			if err != nil {
				refuse(part[i].Partition, err.Error())
				continue
			}
			out.Body.Begun++
		}
	}
	for _, id := range stuck {
		refuse(id, "every other broker in service has a replica of it already: start another broker, or give the topic fewer replicas")
	}
	is, err := a.describe(ctx, in)
	if err != nil {
		return nil, err
	}
	out.Body.Replicas = is.Body.Replicas
	out.Body.Operation = operationID(kindDecommission, in.ID, max(todo, is.Body.Replicas))
	return out, nil
}

func (a brokersAPI) unregister(ctx context.Context, in *brokerID) (*struct{}, error) {
	if _, ok := a.cluster.Image().Broker(in.ID); !ok {
		return nil, unknownBroker(in.ID)
	}
	if err := a.brokers.UnregisterBroker(ctx, in.ID); err != nil {
		return nil, problem(err)
	}
	return nil, nil
}

func brokerView(b *metadata.Broker) Broker {
	view := Broker{ID: b.ID, Rack: b.Rack, Epoch: b.Epoch, State: "serving", Listeners: []Listener{}}
	switch {
	case b.Fenced:
		view.State = "fenced"
	case b.Draining:
		view.State = "draining"
	}
	for _, l := range b.Listeners {
		view.Listeners = append(view.Listeners, Listener{l.Name, hostPort(l.Host, l.Port)})
	}
	return view
}

func replicaOf(t *metadata.Topic, p *metadata.Partition, broker int32) Replica {
	r := Replica{Topic: t.Name, Partition: p.Index, Leads: p.Leader == broker, InSync: slices.Contains(p.ISR, broker)}
	switch {
	case slices.Contains(p.Adding, broker):
		r.Moving = "adding"
	case slices.Contains(p.Removing, broker):
		r.Moving = "removing"
	}
	return r
}

func (b *Broker) count(r Replica) {
	b.Replicas++
	if r.Leads {
		b.Leads++
	}
	if r.InSync {
		b.InSync++
	}
	if r.Moving != "" {
		b.Moving++
	}
}

func unknownBroker(id int32) error {
	return huma.NewError(http.StatusNotFound, fmt.Sprintf("BROKER_ID_NOT_REGISTERED: there is no broker %d; `rustmq admin brokers list` shows those there are", id))
}
