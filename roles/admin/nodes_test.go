package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
)

// saying are brokers that tell of their processes as a test has it, by what they are asked.
type saying map[string][]broker.Told

func (s saying) Told(_ context.Context, what string) []broker.Told { return s[what] }

// holding are leaders that hold as much of each partition that the bucket does not have, but for
// those of a topic, who do not say.
type holding struct {
	tail   int64
	silent string
}

func (h holding) Holdings(_ context.Context, wanted []broker.PartitionNamed) []broker.Holding {
	out := make([]broker.Holding, len(wanted))
	for i, w := range wanted {
		if out[i].TailBytes = h.tail; w.Topic == h.silent {
			out[i] = broker.Holding{Unknown: "its leader does not say"}
		}
	}
	return out
}

// get reads an answer of the API, as its root.
func (a *asking) get(path string, status int, into any) {
	a.t.Helper()
	w := a.do(http.MethodGet, path, "", "Authorization", "Bearer "+a.local)
	if w.Code != status {
		a.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			a.t.Fatal(err)
		}
	}
}

func TestNodesSayHowTheyStand(t *testing.T) {
	a := newAsking(t, func(o *Options) {
		o.Tellers = saying{TellNode: {
			{Broker: 1, Answer: json.RawMessage(`{"version":"1.2.3","disk_free_bytes":5,"disk_total_bytes":10,"wal":{"capacity_bytes":7,"used_bytes":1,"fullness":0.5},"troubles":["it is hot"]}`)},
			{Broker: 2, Unknown: "broker 2 does not say: no answer"}, {Broker: 3, Answer: json.RawMessage(`["of a later version"]`)},
		}}
	})
	var is struct{ Nodes []NodeReport }
	a.get("/api/v1/nodes", http.StatusOK, &is)
	if len(is.Nodes) != 3 {
		t.Fatalf("%+v", is)
	}
	if f := is.Nodes[0].Figures; f == nil || f.Version != "1.2.3" || f.DiskFree != 5 || f.WAL == nil || f.WAL.Capacity != 7 || f.Upload != nil || len(f.Troubles) != 1 {
		t.Errorf("%+v", f)
	}
	if n := is.Nodes[1]; n.Figures != nil || n.Unknown != "broker 2 does not say: no answer" {
		t.Errorf("%+v", n)
	}
	if n := is.Nodes[2]; n.Figures != nil || !strings.Contains(n.Unknown, "broker 3 has answered what this version does not know") {
		t.Errorf("%+v", n)
	}
}

// What modules did is added up over the brokers that say so; what they did under a name that is
// gone is left out.
func TestModulesAreToldOfAllBrokers(t *testing.T) {
	says := saying{
		TellModules: {
			{Broker: 1, Answer: json.RawMessage(`[{"name":"gone","counts":{"calls":9}},{"name":"m","active":true,"version":2,"ready":true,"recent_failures":3,"counts":{"calls":2,"records":20,"failures":1,"seconds":0.5,"outcomes":{"dropped":4}}}]`)},
			{Broker: 2, Unknown: "away"},
			{Broker: 3, Answer: json.RawMessage(`[{"name":"m","active":true,"version":1,"error":"it loads","recent_failures":1,"counts":{"calls":1,"records":5,"outcomes":{"dropped":1,"routed":2}}}]`)},
		},
		TellModules + "/m": {{Broker: 1, Answer: json.RawMessage(`[{"name":"m","active":true,"ready":true,"partitions":[{"topic":"t","partition":0,"lag":4},{"topic":"t","partition":1,"lag":3}],"counts":{}}]`)}},
	}
	a := newAsking(t, func(o *Options) { o.Tellers = says })
	a.get("/api/v1/etl/nodes?module=m", http.StatusNotFound, nil)
	if w := a.do(http.MethodPost, modulesPath+"/m/versions", `{"battery":"upper","spec":{"mode":"inline","topics":["orders"]}}`, "Authorization", "Bearer "+a.local); w.Code != http.StatusCreated {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var is struct {
		Nodes   []ETLNode
		Modules []ETLSum
	}
	a.get("/api/v1/etl/nodes", http.StatusOK, &is)
	if len(is.Nodes) != 3 || len(is.Nodes[0].Modules) != 1 || is.Nodes[1].Unknown != "away" || is.Nodes[2].Modules[0].Error != "it loads" {
		t.Errorf("%+v", is.Nodes)
	}
	if len(is.Modules) != 1 {
		t.Fatalf("%+v", is.Modules)
	}
	m := is.Modules[0]
	if c := m.Counts; m.Ready != 1 || m.Asked != 2 || m.Recent != 3 || c.Calls != 3 || c.Records != 25 || c.Failures != 1 || c.Seconds != 0.5 || c.Outcomes["dropped"] != 5 || c.Outcomes["routed"] != 2 {
		t.Errorf("%+v", m)
	}
	a.get("/api/v1/etl/nodes?module=m", http.StatusOK, &is)
	if is.Modules[0].Lag != 7 || len(is.Nodes[0].Modules[0].Partitions) != 2 {
		t.Errorf("%+v", is)
	}
}

// A decommission can be looked at before it is begun: what would move where, what of it is sent,
// and what nobody can take. Nothing is changed.
func TestADecommissionIsPlannedBeforehand(t *testing.T) {
	a := newAsking(t, func(o *Options) { o.Holdings = holding{100, ""} })
	before := a.c.Image().Offset()
	var plan Evacuation
	// Each of three brokers has all of orders: nobody else can take them. Broker 3 alone has "one".
	a.get("/api/v1/brokers/3/decommission", http.StatusOK, &plan)
	if plan.Replicas != 13 || len(plan.Stuck) != 12 || !slices.Contains(plan.Stuck, "orders-11") || len(plan.Moves) != 1 || plan.Forgets || plan.State != "serving" {
		t.Fatalf("%+v", plan)
	}
	if m := plan.Moves[0]; m.Topic != "one" || !slices.Equal(m.From, []int32{3}) || len(m.To) != 1 || m.To[0] == 3 || m.SentBytes != 100 || plan.SentBytes != 100 {
		t.Errorf("%+v", plan)
	}
	to := plan.Moves[0].To[0]
	for _, b := range plan.Brokers {
		want := 12
		if b.ID == to {
			want++
		}
		if b.ID == 3 || b.Before != 12 || b.After != want {
			t.Errorf("%+v", b)
		}
	}
	if len(plan.Brokers) != 2 {
		t.Errorf("%+v", plan.Brokers)
	}
	a.get("/api/v1/brokers/9/decommission", http.StatusNotFound, nil)
	if now := a.c.Image().Offset(); now != before {
		t.Errorf("a plan has changed the metadata: %d, then %d", before, now)
	}
	b := newAsking(t, func(o *Options) { o.Holdings = holding{100, "one"} })
	b.get("/api/v1/brokers/3/decommission", http.StatusOK, &plan)
	if plan.SentBytes != 0 || len(plan.Unknown) != 1 || !strings.HasPrefix(plan.Unknown[0], "one-0: ") {
		t.Errorf("%+v", plan)
	}
}

// The certificates of all brokers are told, and of whom they are not known.
func TestCertificatesOfAllNodes(t *testing.T) {
	a := newAsking(t, func(o *Options) {
		o.Tellers = saying{TellCertificates: {
			{Broker: 1, Answer: json.RawMessage(`[{"use":"tls","subject":"told by itself"}]`)}, // noNode is 1
			{Broker: 2, Answer: json.RawMessage(`[{"use":"tls","subject":"CN=two","not_after":"2030-01-01T00:00:00Z"}]`)},
			{Broker: 3, Unknown: "away"}, {Broker: 4, Answer: json.RawMessage(`null`)}, {Broker: 5, Answer: json.RawMessage(`"another version"`)},
		}}
	})
	var is struct{ Nodes []CertificatesOfNode }
	a.get("/api/v1/certificates", http.StatusOK, &is)
	if len(is.Nodes) != 5 || is.Nodes[0].Node != 1 || len(is.Nodes[0].Certificates) != 0 {
		t.Fatalf("%+v", is)
	}
	if two := is.Nodes[1]; len(two.Certificates) != 1 || two.Certificates[0].Subject != "CN=two" || two.Certificates[0].NotAfter.Year() != 2030 || two.Unknown != "" {
		t.Errorf("%+v", two)
	}
	if is.Nodes[2].Unknown != "away" || is.Nodes[3].Unknown != "" || is.Nodes[3].Certificates == nil || is.Nodes[4].Unknown == "" {
		t.Errorf("%+v", is.Nodes[2:])
	}
}

// Which modules records of a topic pass is told in the order that they pass them, for the topics
// that the caller may describe.
func TestPipelinesAreToldByTopic(t *testing.T) {
	a := newAsking(t)
	for name, spec := range map[string]string{
		"late":  `{"mode":"inline","topics":["ord*"],"stage":2}`,
		"low":   `{"mode":"inline","topics":["orders"],"priority":-1,"on_failure":"pass"}`,
		"a":     `{"mode":"inline","topics":["*"],"priority":5,"when":[{"header":"h","present":true}]}`,
		"b":     `{"mode":"inline","topics":["orders"],"priority":5,"on_failure":"dead-letter","dead_letter_topic":"dead","routes":["r"]}`,
		"copy":  `{"mode":"async","topics":["orders"],"output":"clean","on_failure":"pass"}`,
		"other": `{"mode":"inline","topics":["elsewhere"]}`,
	} {
		if w := a.do(http.MethodPost, modulesPath+"/"+name+"/versions", `{"battery":"upper","spec":`+spec+`}`, "Authorization", "Bearer "+a.local); w.Code != http.StatusCreated {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := a.do(http.MethodPost, modulesPath+"/other/disable", `{}`, "Authorization", "Bearer "+a.local); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var is struct {
		Pipelines []ETLPipeline
		Topics    int
	}
	a.get("/api/v1/etl/pipelines", http.StatusOK, &is)
	if is.Topics != 2 || len(is.Pipelines) != 2 || is.Pipelines[0].Topic != "one" || is.Pipelines[1].Topic != "orders" {
		t.Fatalf("%+v", is)
	}
	if one := is.Pipelines[0]; len(one.Inline) != 1 || len(one.Inline[0].Modules) != 1 || !one.Inline[0].Modules[0].Conditional || len(one.Async) != 0 {
		t.Errorf("%+v", one)
	}
	orders := is.Pipelines[1]
	var order []string
	for _, s := range orders.Inline {
		for _, m := range s.Modules {
			order = append(order, m.Name)
		}
	}
	if got := strings.Join(order, " "); got != "a b low late" || len(orders.Inline) != 2 || orders.Inline[0].Stage != 0 || orders.Inline[1].Stage != 2 {
		t.Errorf("%s: %+v", got, orders.Inline)
	}
	if b := orders.Inline[0].Modules[1]; b.OnFailure != "dead-letter" || b.DeadLetterTopic != "dead" || !slices.Equal(b.Routes, []string{"r"}) || b.Version != 1 || b.Spent {
		t.Errorf("%+v", b)
	}
	if len(orders.Async) != 1 || orders.Async[0].Output != "clean" {
		t.Errorf("%+v", orders.Async)
	}
	text := a.token("t", "alice", false, time.Time{})
	a.allow("alice", acl.Describe, acl.Cluster, acl.ClusterName)
	a.allow("alice", acl.Describe, acl.Topic, "one")
	if said := a.do(http.MethodGet, "/api/v1/etl/pipelines", "", "Authorization", "Bearer "+text).Body.String(); strings.Contains(said, `"orders"`) || !strings.Contains(said, `"one"`) {
		t.Errorf("who may describe one topic is told: %s", said)
	}
}
