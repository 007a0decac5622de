package admin

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/storage"
)

const (
	// laggingEntries is how many committed entries of the metadata log a controller may
	// lack: more than are under way in a second of many changes.
	laggingEntries = 10_000
	// namedPartitions bounds the partitions that a problem names.
	namedPartitions = 10
)

// ClusterHealth is whether a cluster needs a person, and for what.
type ClusterHealth struct {
	Healthy  bool      `json:"healthy"`
	Problems []Problem `json:"problems" doc:"what is wrong, the worst first"`
	Notes    []string  `json:"notes" doc:"what is not as usual, and meant to be so"`
}

// Problem is one thing that is wrong.
type Problem struct {
	ID       string `json:"id" doc:"names the problem for as long as it lasts: leaderless, broker/3, certificate/2"`
	Kind     string `json:"kind" enum:"controllers,leaderless,under-min-isr,under-replicated,broker,node,log,disk,bucket,upload,damage,healing,certificate,clock,audit,config,module"`
	Severity string `json:"severity" enum:"critical,warning" doc:"critical: something is not served, or about to be lost; warning: it will come to that, or nothing else may fail meanwhile"`
	Node     int32  `json:"node,omitempty" doc:"that it is a problem of"`
	// Since is known to the node that has the problem, or was seen by the one that answers.
	Since      time.Time `json:"since,omitzero" doc:"when it began, as far as is known; left out: not yet known"`
	Earlier    bool      `json:"earlier,omitempty" doc:"it had begun by then, at the start of the process that answers"`
	What       string    `json:"what" doc:"what is wrong, and what follows from it"`
	Do         string    `json:"do" doc:"what helps"`
	Partitions []string  `json:"partitions,omitempty" doc:"the first ten that it is of"`
}

// ClusterView is a cluster as the API describes it.
type ClusterView struct {
	ClusterID    string        `json:"cluster_id"`
	Incarnation  uint64        `json:"incarnation" doc:"of the cluster in its bucket; 0: it has none yet"`
	FeatureLevel uint32        `json:"feature_level" doc:"that every node may use"`
	KnownLevel   uint32        `json:"known_level" doc:"the highest feature level that the process that answers knows"`
	Controller   int32         `json:"controller" doc:"the node that leads; -1: none is known"`
	Version      string        `json:"version" doc:"of the process that answers"`
	Bucket       string        `json:"bucket,omitempty" doc:"without what may be secret"`
	Nodes        []ClusterNode `json:"nodes"`
	Topics       int           `json:"topics"`
	Partitions   int           `json:"partitions"`
	Objects      int           `json:"objects" doc:"committed objects in the bucket"`
	BucketBytes  int64         `json:"bucket_bytes" doc:"bytes of batches in them that are still read"`
}

// ClusterNode is a node that has made itself known.
type ClusterNode struct {
	ID           int32    `json:"id"`
	Roles        []string `json:"roles"`
	Rack         string   `json:"rack,omitempty"`
	State        string   `json:"state,omitempty" doc:"of its broker: serving, fenced or draining"`
	FeatureLevel uint32   `json:"feature_level" doc:"the highest that its version knows; 0: it has not said"`
}

type (
	healthOutput      struct{ Body ClusterHealth }
	clusterViewOutput struct{ Body ClusterView }
)

// clusterAPI answers for the cluster as a whole.
type clusterAPI struct {
	cluster     Cluster
	controllers Controllers
	bucket      Bucket     // nil: this process does not know
	transforms  Transforms // nil: as bucket
	version     string

	node   Node       // nil: as bucket
	sights *sightings // nil: since when problems are there is not looked at
}

func registerCluster(h *routes, a clusterAPI) {
	if a.sights != nil {
		a.sights.judge = a.judge
	}
	route(h, http.MethodGet, "/api/v1/cluster", onCluster[struct{}](describesCluster), a.describe)
	route(h, http.MethodGet, "/api/v1/cluster/health", onCluster[struct{}](describesCluster), a.health)
}

// health answers also where nobody leads, and where the bucket is away.
func (a clusterAPI) health(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	h := a.judge(ctx)
	if a.sights != nil {
		a.sights.date(h.Problems, time.Now())
	}
	return &healthOutput{h}, nil
}

// judge says what needs a person, by all that can be known here.
func (a clusterAPI) judge(ctx context.Context) ClusterHealth {
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	group, err := a.controllers.Members(ctx)
	var troubles []controller.NodeTrouble
	here := int32(0)
	if a.node != nil {
		here = a.node.ID()
		for _, t := range a.node.Troubles() {
			troubles = append(troubles, controller.NodeTrouble{Node: here, Trouble: t})
		}
	}
	if group != nil {
		for _, t := range group.Troubles {
			if t.Node != here || t.Kind == "clock" { // which the controller says; of itself a node knows better
				troubles = append(troubles, t)
			}
		}
	}
	if a.bucket != nil {
		troubles = append(troubles, bucketTroubles(a.bucket.State().Warnings, troubles)...)
	}
	image := a.cluster.Image()
	h := judgeCluster(image, group, err, troubles)
	h.add(moduleProblems(image, a.modulesHere(), time.Now())...)
	if a.bucket == nil {
		h.Notes = append(h.Notes, "the process that was asked has no way to the bucket: ask a broker or a controller for its state")
	}
	return h
}

// bucketTroubles are those of the bucket that nobody else has told.
func bucketTroubles(warnings []string, told []controller.NodeTrouble) (troubles []controller.NodeTrouble) {
	for _, warning := range warnings {
		for line := range strings.Lines(warning) {
			line = strings.TrimSuffix(line, "\n")
			if !slices.ContainsFunc(told, func(t controller.NodeTrouble) bool { return t.What == line }) {
				troubles = append(troubles, controller.NodeTrouble{Trouble: controller.Trouble{Kind: "bucket", Severity: controller.Warning, What: line, Do: probeBucket}})
			}
		}
	}
	return troubles
}

// modulesHere is how the active modules are in this process, if it runs them.
func (a clusterAPI) modulesHere() []etl.ModuleStatus {
	if a.transforms == nil {
		return nil
	}
	here, _ := a.transforms.Status()
	return here
}

// judgeCluster says what of a cluster needs a person: by its metadata, its controllers or
// why they do not answer, and what nodes find wrong with themselves.
func judgeCluster(image *metadata.Image, group *controller.Group, unanswered error, troubles []controller.NodeTrouble) ClusterHealth {
	h := ClusterHealth{Problems: []Problem{}, Notes: []string{}}
	if err := image.Ended(); err != nil {
		h.add(Problem{
			ID: "controllers/ended", Kind: "controllers", Severity: controller.Critical, What: err.Error(),
			Do: "stop every node that answers so, and start it as docs/cluster.md (When the controllers' disks are lost) says: its records are taken into the cluster that came in its place",
		})
	}
	h.add(controllerProblems(group, unanswered)...)
	h.add(damageProblems(image, group)...)
	h.add(partitionProblems(image)...)
	for b := range image.Brokers() {
		switch {
		case b.Fenced:
			h.add(Problem{
				ID: fmt.Sprintf("broker/%d", b.ID), Kind: "broker", Node: b.ID, Severity: controller.Warning,
				What: fmt.Sprintf("broker %d is not in service: others lead what it led, and its replicas fall behind", b.ID),
				Do:   fmt.Sprintf("start it, or look into its log for why it does not serve; if it is gone for good, `rustmq admin brokers decommission %d`", b.ID),
			})
		case b.Draining:
			h.Notes = append(h.Notes, fmt.Sprintf("broker %d is drained: it leads nothing that others can; `rustmq admin brokers undrain %d` ends that", b.ID, b.ID))
		}
	}
	for _, t := range troubles {
		p := Problem{ID: t.Kind, Kind: t.Kind, Node: t.Node, Severity: t.Severity, Since: t.Since, What: t.What, Do: t.Do, Partitions: named(image, t.Partitions)}
		if t.Node != 0 {
			p.ID, p.What = fmt.Sprintf("%s/%d", t.Kind, t.Node), fmt.Sprintf("node %d: %s", t.Node, t.What)
		}
		h.add(p)
	}
	if level := image.FeatureLevel(); level < metadata.LatestFeatureLevel {
		h.Notes = append(h.Notes, fmt.Sprintf("the feature level is %d, and this process knows %d: it rises once every node runs a version that does, unless it is held (controller.feature_level)", level, metadata.LatestFeatureLevel))
	}
	h.Healthy = len(h.Problems) == 0
	return h
}

// add adds problems, the critical ones before the others, each under an id of its own.
func (h *ClusterHealth) add(all ...Problem) {
	for _, p := range all {
		id := p.ID
		for n := 2; slices.ContainsFunc(h.Problems, func(o Problem) bool { return o.ID == p.ID }); n++ {
			p.ID = fmt.Sprintf("%s/%d", id, n)
		}
		h.Problems = append(h.Problems, p)
	}
	slices.SortStableFunc(h.Problems, func(a, b Problem) int { return strings.Compare(a.Severity, b.Severity) }) // critical, warning
	h.Healthy = len(h.Problems) == 0
}

// named are the first partitions by their names.
func named(image *metadata.Image, ids []storage.PartitionID) (names []string) {
	for _, id := range ids {
		if t, _ := image.Partition(id); t != nil && len(names) < namedPartitions {
			names = append(names, fmt.Sprintf("%s-%d", t.Name, id.Index))
		}
	}
	return names
}

func controllerProblems(group *controller.Group, unanswered error) []Problem {
	if unanswered != nil {
		return []Problem{{
			ID: "controllers/leaderless", Kind: "controllers", Severity: controller.Critical, What: fmt.Sprintf("no controller that leads answers: metadata does not change, and brokers that fall silent are not replaced (%v)", unanswered),
			Do: "start controllers until a majority of them runs and reaches each other; /healthz of each says whether it knows of a leader, and how far it has the metadata; where the disks of most are lost, docs/cluster.md has the way back",
		}}
	}
	problems := []Problem{}
	add := func(id uint64, what, do string) {
		problems = append(problems, Problem{ID: fmt.Sprintf("controllers/%d", id), Kind: "controllers", Node: int32(min(id, math.MaxInt32)), Severity: controller.Warning, What: what, Do: do})
	}
	voters, active := 0, 0
	member := map[uint64]bool{} // ids of voters, which have the data directory that they became one with
	for _, m := range group.Members {
		if m.Role == controller.Voter {
			voters++
			member[m.ID] = true
			if m.Active || m.Leads {
				active++
			}
		}
	}
	for _, m := range group.Members {
		switch lag := max(group.Committed, m.Match) - m.Match; {
		case m.Role == controller.Waiting && member[m.ID]:
			add(m.ID, fmt.Sprintf("controller %d runs on another data directory than the one that it is a member with: another disk is mounted there, or its own was lost, and it has no vote", m.ID),
				fmt.Sprintf("if its disk is only not mounted: stop it, mount that, and start it again; if it is lost: `rustmq admin controllers remove %d`, then `rustmq admin controllers add %d`", m.ID, m.ID))
		case m.Role == controller.Waiting:
			add(m.ID, fmt.Sprintf("controller %d is no member of the group, and waits", m.ID), fmt.Sprintf("`rustmq admin controllers add %d`, or stop it", m.ID))
		case !m.Active && !m.Leads:
			add(m.ID, fmt.Sprintf("controller %d is not heard of: of %d voters %d are, and %d have to be", m.ID, voters, active, voters/2+1),
				fmt.Sprintf("start it; if it is gone for good, `rustmq admin controllers remove %d`; if its disk alone is lost, add it again then with an empty directory", m.ID))
		case lag > laggingEntries:
			add(m.ID, fmt.Sprintf("controller %d lacks %d entries of the metadata log: it cannot replace the one that leads yet", m.ID, lag), "look at its disk and its network; it catches up by itself when they keep up")
		}
	}
	return problems
}

// damageProblems names the partitions of which the brokers that lead them have said that they
// cannot be read, whichever node was asked.
func damageProblems(image *metadata.Image, group *controller.Group) []Problem {
	if group == nil {
		return nil
	}
	p := Problem{ID: "damage", Kind: "damage", Severity: controller.Critical}
	n, by := 0, []int32{}
	for _, id := range group.Damaged {
		t, is := image.Partition(id)
		if is == nil {
			continue // deleted meanwhile
		}
		if n++; n <= namedPartitions {
			p.Partitions = append(p.Partitions, fmt.Sprintf("%s-%d", t.Name, id.Index))
		}
		if !slices.Contains(by, is.Leader) && is.Leader != metadata.NoLeader {
			by = append(by, is.Leader)
		}
	}
	if n == 0 {
		return nil
	}
	slices.Sort(by)
	p.What = fmt.Sprintf("%s: the log of the broker that leads is damaged, and the bucket has not all that may be missing, so that nothing is written to them or read from them", plural(n, "partition"))
	p.Do = fmt.Sprintf("suspect the disks of brokers %s; their logs name the file and the byte. docs/storage.md says what can be done", ids(by))
	return []Problem{p}
}

// partitionProblems counts each partition once, by the worst of what is wrong with it.
func partitionProblems(image *metadata.Image) []Problem {
	kinds := []struct {
		kind, severity, is, follows, do string
		count                           int
		partitions                      []string
	}{
		{
			kind: "leaderless", severity: controller.Critical, is: "no leader", follows: "nothing is written to them or read from them",
			do: "start the brokers that were last in sync; " + uncleanElection,
		},
		{
			kind: "under-min-isr", severity: controller.Critical, is: "fewer replicas in sync than min.insync.replicas", follows: "acks=all is refused, and what others write is not readable yet",
			do: "start the brokers that are not in service, or give the topics replicas on others",
		},
		{
			kind: "under-replicated", severity: controller.Warning, is: "fewer replicas in sync than they have", follows: "another failure may stop them",
			do: "start the brokers that are not in service; a replica that is behind catches up by itself",
		},
	}
	var awaited []int32
	var held holders
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			kind := -1
			switch meant := len(p.Replicas) - len(p.Adding); {
			case p.Leader == metadata.NoLeader:
				kind = 0
			case len(p.ISR) < t.MinISR(p):
				kind = 1
			case len(p.ISR) < meant:
				kind = 2
			}
			if kind < 0 {
				continue
			}
			if r := p.Recovery(); r != nil {
				awaited = append(awaited, r.Silent()...)
			} else if kind == 0 {
				held.add(image, p)
			}
			k := &kinds[kind]
			if k.count++; k.count <= namedPartitions {
				k.partitions = append(k.partitions, fmt.Sprintf("%s-%d", t.Name, p.Index))
			}
		}
	}
	if do := held.do(); do != "" {
		kinds[0].do = do
	}
	if slices.Sort(awaited); len(awaited) > 0 {
		kinds[0].do = fmt.Sprintf("the cluster was brought back from its bucket, and partitions wait until brokers %s have said what they have: start them; where they are lost for good, "+
			"kafka-leader-election.sh --election-type unclean has others lead, and gives up what only they had", ids(slices.Compact(awaited)))
	}
	var problems []Problem
	for _, k := range kinds {
		if k.count > 0 {
			problems = append(problems, Problem{
				ID: k.kind, Kind: k.kind, Severity: k.severity, Do: k.do, Partitions: k.partitions,
				What: fmt.Sprintf("%s: %s, so that %s", plural(k.count, "partition"), k.is, k.follows),
			})
		}
	}
	return problems
}

const uncleanElection = "where they are lost for good, kafka-leader-election.sh --election-type unclean has another lead, and gives up what only they had"

// holders are the brokers that had all that was acknowledged of partitions without a leader.
type holders struct {
	away []int32 // not in service
	none int     // partitions of which there is none
}

func (h *holders) add(image *metadata.Image, p *metadata.Partition) {
	had := slices.Concat(p.ISR, p.ELR)
	if len(had) == 0 {
		h.none++
	}
	for _, id := range had {
		if b, known := image.Broker(id); !known || b.Fenced {
			h.away = append(h.away, id)
		}
	}
}

// do says what helps; "": there is nobody to start, and somebody who has it.
func (h *holders) do() string {
	var do []string
	if slices.Sort(h.away); len(h.away) > 0 {
		do = append(do, fmt.Sprintf("start brokers %s, which have all that was acknowledged; %s", ids(slices.Compact(h.away)), uncleanElection))
	}
	if h.none > 0 {
		do = append(do, fmt.Sprintf("of %s no broker is left that had all that was acknowledged, for their disks are lost: kafka-leader-election.sh --election-type unclean has one lead that is in service, "+
			"with what it and the bucket have", plural(h.none, "partition")))
	}
	return strings.Join(do, "; ")
}

// describe says what a cluster is made of.
func (a clusterAPI) describe(context.Context, *struct{}) (*clusterViewOutput, error) {
	image := a.cluster.Image()
	view := ClusterView{
		ClusterID: image.ClusterID(), FeatureLevel: image.FeatureLevel(), KnownLevel: metadata.LatestFeatureLevel, Controller: image.ControllerID(),
		Version: a.version, Nodes: []ClusterNode{}, Topics: image.NumTopics(), Partitions: image.NumPartitions(),
		Objects: image.NumObjects(metadata.Committed), BucketBytes: image.LiveBytes(),
	}
	if view.Controller < 1 { // as where none leads
		view.Controller = -1
	}
	if b, known := image.Bucket(); known {
		view.Incarnation = b.Incarnation
	}
	if a.bucket != nil {
		view.Bucket = a.bucket.State().Where
	}
	at := map[int32]int{}
	for b := range image.Brokers() {
		at[b.ID] = len(view.Nodes)
		view.Nodes = append(view.Nodes, ClusterNode{ID: b.ID, Roles: []string{"broker"}, Rack: b.Rack, State: brokerView(b).State, FeatureLevel: b.MaxFeatureLevel})
	}
	for c := range image.Controllers() {
		id := int32(c.ID)
		i, known := at[id]
		if !known {
			i = len(view.Nodes)
			view.Nodes = append(view.Nodes, ClusterNode{ID: id, FeatureLevel: c.MaxFeatureLevel})
		}
		view.Nodes[i].Roles = append(view.Nodes[i].Roles, "controller")
	}
	slices.SortFunc(view.Nodes, func(a, b ClusterNode) int { return int(a.ID) - int(b.ID) })
	return &clusterViewOutput{view}, nil
}
