package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
)

// alone is a controller that is alone, with three brokers on racks and a topic of a
// replica on each.
func alone(t *testing.T) (c *controller.Controller, epochs map[int32]int64) {
	t.Helper()
	c, err := controller.Open(t.Context(), controller.Options{NodeID: 1, BrokerSession: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	epochs = map[int32]int64{}
	for id := int32(1); id <= 3; id++ {
		epoch, err := c.RegisterBroker(t.Context(), controller.Registration{
			BrokerID: id, Incarnation: [16]byte{1, byte(id)}, Directory: [16]byte{byte(id)}, MaxFeatureLevel: metadata.LatestFeatureLevel, Rack: string('a' + rune(id)),
		})
		if err == nil {
			err = c.Heartbeat(t.Context(), id, epoch)
		}
		if err != nil {
			t.Fatal(err)
		}
		epochs[id] = epoch
	}
	for _, r := range c.CreateTopics(t.Context(), []controller.NewTopic{
		{Name: "orders", Partitions: 12, ReplicationFactor: 3, Configs: map[string]string{"min.insync.replicas": "2"}},
		{Name: "one", Partitions: -1, ReplicationFactor: -1, Assignments: []controller.Assignment{{Replicas: []int32{3}}}},
	}, false) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return c, epochs
}

func kinds(h ClusterHealth) string {
	var all []string
	for _, p := range h.Problems {
		all = append(all, p.Kind)
	}
	return strings.Join(all, " ")
}

// TestHealthNamesWhoIsAwaited: of a cluster that was brought back from its bucket nobody is
// known to have been in sync.
func TestHealthNamesWhoIsAwaited(t *testing.T) {
	c, _ := alone(t)
	if err := c.SetBucket(t.Context(), metadata.Bucket{Nonce: [16]byte{1}, Incarnation: controller.FirstIncarnation}); err != nil {
		t.Fatal(err)
	}
	image, _, err := metadata.Recover(c.Image(), metadata.RecoverOptions{Brokers: []int32{1, 3}})
	if err != nil {
		t.Fatal(err)
	}
	h := judgeCluster(image, &controller.Group{}, nil, nil)
	if kinds(h) != "leaderless broker broker broker" || !strings.Contains(h.Problems[0].Do, "until brokers 1,3 have said") {
		t.Errorf("%+v", h)
	}
}

// TestHealthSaysThatNobodyIsLeft: a broker that comes on another disk has nothing of what it had
// acknowledged, and there is nobody to start.
func TestHealthSaysThatNobodyIsLeft(t *testing.T) {
	c, epochs := alone(t)
	if err := c.FenceBroker(t.Context(), 3, epochs[3]); err != nil {
		t.Fatal(err)
	}
	epoch, err := c.RegisterBroker(t.Context(), controller.Registration{
		BrokerID: 3, Incarnation: [16]byte{2, 3}, Directory: [16]byte{33}, MaxFeatureLevel: metadata.LatestFeatureLevel,
	})
	if err == nil {
		err = c.Heartbeat(t.Context(), 3, epoch)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := judgeCluster(c.Image(), &controller.Group{}, nil, nil)
	if kinds(h) != "leaderless under-replicated" || !strings.HasPrefix(h.Problems[0].Do, "of 1 partition no broker is left") || strings.Contains(h.Problems[0].Do, "start brokers") {
		t.Errorf("%+v", h)
	}
}

// TestHealthNamesWhatIsWrong fails broker after broker of a cluster: each partition is
// counted once, by the worst that is wrong with it, and every problem says what to do.
func TestHealthNamesWhatIsWrong(t *testing.T) {
	c, epochs := alone(t)
	judge := func() ClusterHealth {
		t.Helper()
		group, err := c.Members(t.Context())
		h := judgeCluster(c.Image(), group, err, nil)
		if h.Healthy != (len(h.Problems) == 0) {
			t.Errorf("%+v", h)
		}
		for _, p := range h.Problems {
			if p.What == "" || p.Do == "" || p.ID == "" || p.Severity != controller.Critical && p.Severity != controller.Warning {
				t.Errorf("%+v", p)
			}
		}
		return h
	}
	fence := func(id int32) {
		t.Helper()
		if err := c.FenceBroker(t.Context(), id, epochs[id]); err != nil {
			t.Fatal(err)
		}
	}
	if h := judge(); !h.Healthy {
		t.Fatalf("a cluster that is well: %+v", h)
	}
	if err := c.DrainBroker(t.Context(), 2, true); err != nil {
		t.Fatal(err)
	}
	if h := judge(); !h.Healthy || len(h.Notes) != 1 || !strings.Contains(h.Notes[0], "broker 2 is drained") {
		t.Errorf("a drained broker: %+v", h)
	}
	fence(3)
	h := judge()
	if kinds(h) != "leaderless under-replicated broker" || !slices.Equal(h.Problems[0].Partitions, []string{"one-0"}) ||
		!strings.HasPrefix(h.Problems[1].What, "12 partitions") || len(h.Problems[1].Partitions) != namedPartitions {
		t.Errorf("without broker 3: %+v", h)
	}
	if do := h.Problems[0].Do; !strings.HasPrefix(do, "start brokers 3, which") {
		t.Errorf("of a partition that only broker 3 has: %s", do)
	}
	fence(2)
	if h := judge(); kinds(h) != "leaderless under-min-isr broker broker" {
		t.Errorf("without brokers 2 and 3: %+v", h)
	}
	troubles := []controller.NodeTrouble{
		{Node: 2, Trouble: controller.Trouble{Kind: "bucket", Severity: controller.Warning, What: "the bucket does not answer", Do: "x"}},
		{Node: 2, Trouble: controller.Trouble{Kind: "bucket", Severity: controller.Warning, What: "uploads fail", Do: "x"}},
		{Node: 3, Trouble: controller.Trouble{Kind: "damage", Severity: controller.Critical, What: "a log is corrupt", Do: "x"}},
	}
	h = judgeCluster(c.Image(), nil, errors.New("no quorum"), troubles)
	if kinds(h) != "controllers leaderless under-min-isr damage broker broker bucket bucket" {
		t.Errorf("without controllers and bucket: %s", kinds(h))
	}
	var ids []string
	for _, p := range h.Problems {
		ids = append(ids, p.ID)
	}
	if want := "controllers/leaderless leaderless under-min-isr damage/3 broker/2 broker/3 bucket/2 bucket/2/2"; strings.Join(ids, " ") != want {
		t.Errorf("the problems are %s, want %s", ids, want)
	}
}

// TestHealthNamesDamageElsewhere: whichever node is asked, it knows which partitions the brokers
// that lead them cannot read.
func TestHealthNamesDamageElsewhere(t *testing.T) {
	c, epochs := alone(t)
	one, _ := c.Image().Topic("one")
	damaged := []controller.PartitionLoad{{Partition: storage.PartitionID{Topic: one.ID}, Damaged: true}}
	if err := c.ReportLoad(t.Context(), 3, epochs[3], 0, damaged); err != nil {
		t.Fatal(err)
	}
	out, err := clusterAPI{cluster: c, controllers: c}.health(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := out.Body; h.Healthy || kinds(h) != "damage" || !slices.Equal(h.Problems[0].Partitions, []string{"one-0"}) || !strings.Contains(h.Problems[0].Do, "brokers 3;") {
		t.Errorf("%+v", h)
	}
	if err := c.ReportLoad(t.Context(), 3, epochs[3], 0, nil); err != nil {
		t.Fatal(err)
	}
	if out, err = (clusterAPI{cluster: c, controllers: c}).health(t.Context(), nil); err != nil || !out.Body.Healthy {
		t.Errorf("%+v, %v", out, err)
	}
}

// damagedNode is one with a log that is corrupt, and a bucket that is ill.
type damagedNode struct {
	Bucket
	Node
}

func (damagedNode) State() BucketState {
	s := BucketState{Circuit: "closed", Damage: &DamageState{CorruptPartitions: 1, CorruptError: "a gap at offset 7", LastError: "was corrupt", LastErrorAt: time.Now()}}
	s.Warn(errors.New("the bucket is ill"), time.Now())
	return s
}

func (damagedNode) ID() int32 { return 2 }

func (d damagedNode) Troubles() []controller.Trouble {
	s := d.State()
	return s.Troubles(time.Now())
}

// TestHealthTellsDamageFromTheBucket: a probe of the bucket is no advice against a disk that rots.
func TestHealthTellsDamageFromTheBucket(t *testing.T) {
	c, _ := alone(t)
	out, err := clusterAPI{cluster: c, controllers: c, bucket: damagedNode{}, node: damagedNode{}}.health(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if h := out.Body; h.Healthy || kinds(h) != "damage damage bucket" || h.Problems[2].What != "the bucket is ill" || !strings.Contains(h.Problems[0].What, "a gap at offset 7") || h.Problems[0].Node != 2 {
		t.Errorf("%+v", h)
	}
}

// TestHealthNamesTroublesOfOtherNodes: what a node says of itself is known to whoever is
// asked, until it says something else, or nothing for long.
func TestHealthNamesTroublesOfOtherNodes(t *testing.T) {
	c, _ := alone(t)
	one, _ := c.Image().Topic("one")
	since := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	disk := controller.Trouble{Kind: "disk", Severity: controller.Critical, What: "no room", Do: "make room", Since: since}
	healing := controller.Trouble{Kind: "healing", Severity: controller.Warning, What: "one begins anew", Do: "wait", Partitions: []storage.PartitionID{{Topic: one.ID}}}
	if err := c.ReportTroubles(t.Context(), 3, []controller.Trouble{healing, disk}); err != nil {
		t.Fatal(err)
	}
	seen := newSightings()
	a := clusterAPI{cluster: c, controllers: c, sights: seen}
	out, err := a.health(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := out.Body
	if kinds(h) != "disk healing" || h.Problems[0].ID != "disk/3" || h.Problems[0].What != "node 3: no room" || !h.Problems[0].Since.Equal(since) || h.Problems[0].Earlier {
		t.Errorf("%+v", h)
	}
	if p := h.Problems[1]; !slices.Equal(p.Partitions, []string{"one-0"}) || p.Since.IsZero() || !p.Earlier {
		t.Errorf("%+v", p)
	}
	many := make([]controller.Trouble, controller.MaxTroubles+1)
	long := []controller.Trouble{{What: strings.Repeat("x", 5<<10)}}
	for _, refused := range [][]controller.Trouble{many, long} {
		if err := c.ReportTroubles(t.Context(), 2, refused); metadata.CodeOf(err) != metadata.InvalidRequest {
			t.Errorf("%d troubles: %v", len(refused), err)
		}
	}
	if err := c.ReportTroubles(t.Context(), 2, []controller.Trouble{long[0].Bounded()}); err != nil {
		t.Errorf("bounded: %v", err)
	}
	for _, node := range []int32{2, 3} {
		if err := c.ReportTroubles(t.Context(), node, nil); err != nil {
			t.Fatal(err)
		}
	}
	if out, err = a.health(t.Context(), nil); err != nil || !out.Body.Healthy {
		t.Errorf("%+v, %v", out, err)
	}
}

// A problem has the time since when it is seen, for as long as it lasts and keeps its id.
func TestProblemsAreDated(t *testing.T) {
	s, now := newSightings(), time.Unix(1000, 0)
	look := func(ids ...string) (said []string) {
		problems := make([]Problem, len(ids))
		for i, id := range ids {
			problems[i].ID = id
		}
		s.date(problems, now)
		for _, p := range problems {
			word := p.ID
			if p.Earlier {
				word += " at least"
			}
			said = append(said, fmt.Sprintf("%s %d", word, p.Since.Unix()))
		}
		return said
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("at %d: %q, want %q", now.Unix(), got, want)
		}
	}
	want(look("a"), "a at least 1000")
	now = now.Add(5 * time.Second)
	want(look("a", "b"), "a at least 1000", "b 1005")
	now = now.Add(5 * time.Second)
	want(look("b"), "b 1005")
	now = now.Add(5 * time.Second)
	want(look("a", "b"), "a at least 1000", "b 1005") // a moment without it is no end
	now = now.Add(sightForgotten + time.Second)
	want(look("b"), "b 1005")
	now = now.Add(time.Second)
	want(look("a"), "a 1032")
}

// TestOffsetsOfWhatIsElsewhere: a process without a replica knows of its records what the
// bucket has, and does not say that there are none.
func TestOffsetsOfWhatIsElsewhere(t *testing.T) {
	c, epochs := alone(t)
	topic, ok := c.Image().Topic("one")
	if !ok {
		t.Fatal("there is no topic")
	}
	of := storage.PartitionID{Topic: topic.ID}
	id, err := c.PrepareObjects(t.Context(), 3, epochs[3], 1)
	if err == nil {
		var results []error
		results, err = c.CommitObject(t.Context(), 3, epochs[3], id, 100, []metadata.PartitionRange{{Partition: of, Range: metadata.Range{End: 50, Bytes: 10, IndexPosition: 50, IndexLength: 10, Epoch: topic.Partition(0).LeaderEpoch}}})
		err = errors.Join(append(results, err)...)
	}
	if err != nil {
		t.Fatal(err)
	}
	topic, _ = c.Image().Topic("one")
	stale := func(storage.PartitionID) (PartitionState, bool) { return PartitionState{HighWatermark: 20}, true }
	ahead := func(storage.PartitionID) (PartitionState, bool) { return PartitionState{HighWatermark: 60}, true }
	for _, is := range []struct {
		here func(storage.PartitionID) (PartitionState, bool)
		want storage.Offset
	}{{nil, 50}, {stale, 50}, {ahead, 60}} {
		if view := (api{cluster: c, partition: is.here}).shown(t.Context(), topic)[0]; view.PartitionList[0].HighWatermark != is.want || view.Records != int64(is.want) {
			t.Errorf("want %d: %+v", is.want, view)
		}
	}
}

// TestHealthOfControllers is of members that are silent, behind, or wait.
func TestHealthOfControllers(t *testing.T) {
	voter := func(id uint64, active bool, match uint64) controller.Member {
		return controller.Member{ID: id, Role: controller.Voter, Leads: id == 1, Active: active, Match: match}
	}
	group := &controller.Group{Leader: 1, Committed: 50_000, Members: []controller.Member{voter(1, true, 50_000), voter(2, true, 50_000), voter(3, true, 45_000)}}
	if p := controllerProblems(group, nil); len(p) > 0 {
		t.Errorf("well: %+v", p)
	}
	group.Members = []controller.Member{voter(1, true, 50_000), voter(2, false, 50_000), voter(3, true, 10_000), {ID: 4, Role: controller.Waiting}, {ID: 2, Role: controller.Waiting}}
	var said []string
	for _, p := range controllerProblems(group, nil) {
		said = append(said, p.What)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"controller 2 is not heard of: of 3 voters 2 are, and 2 have to be", "controller 3 lacks 40000 entries", "controller 4 is no member", "controller 2 runs on another data directory"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
}

// aloneDoor is the way to a controller that is alone.
type aloneDoor struct{ *controller.Controller }

// leaderless is a cluster that knows of no controller that leads.
type leaderless struct{ aloneDoor }

func (c leaderless) Image() *metadata.Image { return c.aloneDoor.Image().WithController(0) }

// TestNobodyLeads: a cluster without a leading controller names none, node 0 least of all.
func TestNobodyLeads(t *testing.T) {
	c, _ := alone(t)
	out, err := clusterAPI{cluster: leaderless{aloneDoor{c}}, version: "1"}.describe(t.Context(), nil)
	if err != nil || out.Body.Controller != -1 {
		t.Errorf("%v: %+v leads", err, out.Body.Controller)
	}
	var shown strings.Builder
	(&env{stdout: &shown}).showCluster(out.Body)
	if !strings.Contains(shown.String(), " none ") {
		t.Error(shown.String())
	}
	if p := controllerProblems(nil, errors.New("nobody is there")); len(p) != 1 || !strings.Contains(p[0].What, "nobody is there") || !strings.Contains(p[0].Do, "/healthz of each") {
		t.Errorf("%+v", p)
	}
}

// TestClusterCommands runs `rustmq admin cluster health` and `describe` against the API.
func TestClusterCommands(t *testing.T) {
	c, epochs := alone(t)
	d := aloneDoor{c}
	s := New(Options{Metrics: prometheus.NewRegistry(), Cluster: d, Brokers: d, Controllers: d, Version: "1.2.3"})
	var looked atomic.Pointer[func()] // is called behind each look at the health
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.http.Handler.ServeHTTP(w, r)
		if f := looked.Load(); f != nil && strings.HasSuffix(r.URL.Path, "/cluster/health") {
			(*f)()
		}
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		_ = s.Close(context.Background())
	})
	out, err := run(t.Context(), server.URL, "cluster", "health")
	if err != nil || !strings.Contains(out, "healthy: a controller leads") || !strings.Contains(out, "note: ") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = run(t.Context(), server.URL, "cluster", "describe")
	for _, want := range []string{c.Image().ClusterID(), "1.2.3", "serving", "13"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, without %q: %s", err, want, out)
		}
	}
	trouble := func(found ...controller.Trouble) {
		t.Helper()
		if err := c.ReportTroubles(t.Context(), 2, found); err != nil {
			t.Fatal(err)
		}
	}
	trouble(controller.Trouble{Kind: "disk", Severity: controller.Warning, What: "no room", Do: "make room"})
	if out, err = run(t.Context(), server.URL, "cluster", "health"); err == nil || !strings.Contains(out, "WARNING disk/2: node 2: no room\n    since: ") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err = run(t.Context(), server.URL, "cluster", "health", "--fail-on", "critical"); err != nil || !strings.Contains(out, "no room") {
		t.Errorf("a warning alone: %v: %s", err, out)
	}
	err = nil
	for limit := 100 * time.Millisecond; limit < time.Minute && (err == nil || strings.Contains(err.Error(), "no answer")); limit *= 2 { // as a busy machine needs
		_, err = run(t.Context(), server.URL, "cluster", "health", "--exit-when-healthy", "--interval", "5ms", "--timeout", limit.String())
	}
	if err == nil || !strings.Contains(err.Error(), "given up: the cluster is not healthy") {
		t.Errorf("waiting in vain: %v", err)
	}
	behind := func(looks int64, do func()) {
		var n atomic.Int64
		f := func() {
			if n.Add(1) == looks {
				do()
			}
		}
		looked.Store(&f)
	}
	behind(3, func() { trouble() })
	if out, err = run(t.Context(), server.URL, "cluster", "health", "--exit-when-healthy", "--interval", "5ms", "-o", "json"); err != nil || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"healthy":true`) {
		t.Errorf("waiting: %v: %s", err, out)
	}
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	behind(5, stop)
	if out, err = run(watching, server.URL, "cluster", "health", "--watch", "--interval", "5ms"); err != nil || strings.Count(out, "healthy: ") != 1 {
		t.Errorf("watching: %v: %s", err, out)
	}
	for _, wrong := range [][]string{{"--fail-on", "all"}, {"--interval", "0s"}, {"--timeout", "5s"}} {
		if _, err := run(t.Context(), server.URL, append([]string{"cluster", "health"}, wrong...)...); !errors.As(err, new(*UsageError)) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	if err := c.FenceBroker(t.Context(), 3, epochs[3]); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"table", "json", "yaml"} {
		out, err = run(t.Context(), server.URL, "cluster", "health", "-o", format)
		if err == nil || !strings.Contains(err.Error(), "not healthy: 3 problems") || !strings.Contains(out, "leaderless") || !strings.Contains(out, "one-0") {
			t.Errorf("%s: %v: %s", format, err, out)
		}
	}
}

// TestWhoWasNeverAnsweredIsNotHealthy: a wait that ends before anybody has said how the cluster
// is has not found it well, whether its time is up or it is interrupted.
func TestWhoWasNeverAnsweredIsNotHealthy(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	silent := answers(t, func(_ http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done()
	})
	for _, flags := range [][]string{{"--exit-when-healthy", "--timeout", "50ms"}, {"--watch", "--timeout", "50ms"}} {
		if _, err := run(t.Context(), silent, append([]string{"cluster", "health"}, flags...)...); err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("%v: %v", flags, err)
		}
	}
	if _, err := run(ctx, silent, "cluster", "health", "--exit-when-healthy"); err == nil {
		t.Error("an interrupted wait has found the cluster healthy")
	}
	if _, err := run(ctx, silent, "cluster", "health", "--watch"); err != nil {
		t.Errorf("who only looks has been interrupted: %v", err)
	}
}

// What is shown first of a watch is shown though there is nothing to say.
func TestGistOfHealthIsNeverNothing(t *testing.T) {
	if (ClusterHealth{Healthy: true}).gist() == "" {
		t.Error("a watch that begins with a healthy cluster shows nothing")
	}
}

// silent is controllers none of which answers.
type silent struct{ Controllers }

func (silent) Members(ctx context.Context) (*controller.Group, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Without a majority of controllers what is known is said soon.
func TestHealthDoesNotWaitForControllers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := alone(t)
		began := time.Now()
		out, err := clusterAPI{cluster: aloneDoor{c}, controllers: silent{}}.health(t.Context(), nil)
		if err != nil || len(out.Body.Problems) == 0 || out.Body.Problems[0].Kind != "controllers" {
			t.Fatalf("%v, %+v", err, out)
		}
		if took := time.Since(began); took >= 2*time.Second {
			t.Errorf("answered after %v", took)
		}
	})
}

// TestSchemeOfTheAPI: who writes https is told which URL it is.
func TestSchemeOfTheAPI(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	if _, err := run(t.Context(), "https"+strings.TrimPrefix(s.URL, "http"), "cluster", "health"); err == nil || !strings.Contains(err.Error(), "--url "+s.URL) {
		t.Error(err)
	}
}

// Who names the port of something else is told so.
func TestAnotherPortIsNoAPI(t *testing.T) {
	for what, says := range map[string]string{"a Kafka port, which hangs up": "", "a port of gRPC": "\x00\x00\x06\x04\x00\x00\x00\x00\x00"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte(says))
			conn.Close()
		}()
		_, err = run(t.Context(), "http://"+l.Addr().String(), "cluster", "health")
		if err == nil || !strings.Contains(err.Error(), "does not speak HTTP") || !strings.Contains(err.Error(), "--url http://HOST:9642") {
			t.Errorf("%s: %v", what, err)
		}
		l.Close()
		<-ended
	}
}

// A node that is killed while it is asked closes the connection as a port of Kafka does: both
// are said, and what may have been done.
func TestWhoEndsMeanwhileIsNotCalledAnotherPort(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	defer s.Close()
	_, err := run(t.Context(), s.URL, "topics", "create", "events")
	if err == nil || !strings.Contains(err.Error(), "has ended meanwhile") || !strings.Contains(err.Error(), "may be done all the same") {
		t.Error(err)
	}
}
