package broker

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
)

// adminOf starts a cluster with topic "events" of two partitions, a record in the
// first, and returns Kafka's admin client of it.
func adminOf(t *testing.T) (context.Context, *kadm.Client, *node) {
	t.Helper()
	n, addr := startCluster(t, func(o *Options) {
		o.DataDir, o.Space = "/data/rustmq", func() (int64, int64, error) { return 700, 1000, nil }
	})
	ctx := within(t, 30*time.Second)
	cl := newClient(t, addr, kgo.DefaultProduceTopic("events"))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 2, 1, nil, "events"); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return ctx, adm, n
}

// addr is where the node is served.
func (n *node) addr() string {
	l := n.options.Listeners[0]
	return net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

func TestLogDirsShowTheDataDirectory(t *testing.T) {
	ctx, adm, _ := adminOf(t)
	all, err := adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := all[1]["/data/rustmq"]
	if dir.Err != nil || dir.TotalBytes != 1000 || dir.UsableBytes != 700 || len(dir.Topics["events"]) != 2 {
		t.Errorf("%+v", dir)
	}
	size := dir.Topics["events"][0].Size + dir.Topics["events"][1].Size
	if size < 60 || size > 1000 {
		t.Errorf("one record takes %d bytes", size)
	}
	one := kadm.TopicsSet{}
	one.Add("events", 1, 99)
	one.Add("nowhere", 0)
	some, err := adm.DescribeBrokerLogDirs(ctx, 1, one)
	if err != nil || len(some["/data/rustmq"].Topics) != 1 || len(some["/data/rustmq"].Topics["events"]) != 1 {
		t.Errorf("one partition: %+v, %v", some, err)
	}
}

func TestElectionsAreAnsweredByWhatStands(t *testing.T) {
	ctx, adm, n := adminOf(t)
	some := kadm.TopicsSet{}
	some.Add("events", 0, 99)
	for _, how := range []kadm.ElectLeadersHow{kadm.ElectPreferredReplica, kadm.ElectLiveReplica} {
		results, err := adm.ElectLeaders(ctx, how, some)
		if err != nil {
			t.Fatal(err)
		}
		if got := results["events"][0].Err; !errors.Is(got, kerr.ElectionNotNeeded) {
			t.Errorf("%v: a partition that is led: %v", how, got)
		}
		if got := results["events"][99].Err; !errors.Is(got, kerr.UnknownTopicOrPartition) {
			t.Errorf("%v: a partition that is not: %v", how, got)
		}
		if all, err := adm.ElectLeaders(ctx, how, nil); err != nil || len(all) != 0 {
			t.Errorf("%v: all: %v, %v", how, all, err)
		}
	}
	odd := kmsg.NewPtrElectLeadersRequest()
	odd.ElectionType = 7
	if p := ask[*kmsg.ElectLeadersResponse](n.connect(), 2, odd); p.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("election of type 7: %v", kerr.ErrorForCode(p.ErrorCode))
	}
}

// Where the preferred leader is another, or nobody leads, the answer says why
// nothing changes.
func TestElectionsThatCannotBe(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	image := n.controller.Image()
	topic, _ := image.Topic("events")
	for _, tc := range []struct {
		name     string
		leader   int32
		replicas []int32
		unclean  bool
		want     error
	}{
		{"another broker is preferred, and away", 1, []int32{2, 1}, false, kerr.PreferredLeaderNotAvailable},
		{"nobody leads, and the preferred one is away", metadata.NoLeader, []int32{2}, false, kerr.PreferredLeaderNotAvailable},
		{"nobody leads, and all are away", metadata.NoLeader, []int32{2}, true, kerr.EligibleLeadersNotAvailable},
		{"somebody leads", 1, []int32{2, 1}, true, kerr.ElectionNotNeeded},
	} {
		p := *topic.Partition(0)
		p.Leader, p.Replicas = tc.leader, tc.replicas
		changed := *topic
		changed.Partitions = metadata.PartitionsOf(p)
		if got := electionOf(image, &changed, 0, tc.unclean); kafkaError(got) != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestReassignmentsToWhatStands(t *testing.T) {
	ctx, adm, n := adminOf(t)
	for _, tc := range []struct {
		topic    string
		index    int32
		replicas []int32
		want     error
	}{
		{"events", 0, []int32{1}, nil},
		{"events", 0, nil, kerr.NoReassignmentInProgress},
		{"events", 0, []int32{}, kerr.InvalidReplicaAssignment},
		{"events", 0, []int32{2}, kerr.InvalidReplicaAssignment},
		{"events", 0, []int32{1, 1}, kerr.InvalidReplicaAssignment},
		{"events", 0, []int32{-1}, kerr.InvalidReplicaAssignment},
		{"events", 99, []int32{1}, kerr.UnknownTopicOrPartition},
		{"nowhere", 0, []int32{1}, kerr.UnknownTopicOrPartition},
	} {
		var req kadm.AlterPartitionAssignmentsReq
		if tc.replicas == nil {
			req.CancelAssign(tc.topic, tc.index)
		} else {
			req.Assign(tc.topic, tc.index, tc.replicas)
		}
		results, err := adm.AlterPartitionAssignments(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		if got := results[tc.topic][tc.index].Err; !errors.Is(got, tc.want) || (got == nil) != (tc.want == nil) {
			t.Errorf("%s-%d to %v: %v, want %v", tc.topic, tc.index, tc.replicas, got, tc.want)
		}
	}
	for _, asked := range []kadm.TopicsSet{nil, {"events": {0: {}}}} {
		if under, err := adm.ListPartitionReassignments(ctx, asked); err != nil || len(under) != 0 {
			t.Errorf("under way: %v, %v", under, err)
		}
	}
	topic, _ := n.images.image().Topic("events")
	if p := topic.Partition(0); p.PartitionEpoch != 0 || !slices.Equal(p.Replicas, []int32{1}) {
		t.Errorf("something was moved: %+v", p)
	}
}

func TestFeaturesAreNotSet(t *testing.T) {
	ctx, adm, n := adminOf(t)
	results, err := adm.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: "metadata.version", MaxVersionLevel: 1, UpgradeType: 1})
	if err != nil || !errors.Is(results.Error(), kerr.InvalidUpdateVersion) {
		t.Errorf("%v, %v", results, err)
	}
	results, err = adm.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: "group.version", MaxVersionLevel: 1, UpgradeType: 1})
	if err != nil || results.Error() != nil {
		t.Errorf("to the level in effect: %v, %v", results, err)
	}
	// What is announced is what is taken, and no other level.
	for _, f := range n.Broker.Features() {
		for level := f.Min; level <= f.Max+1; level++ {
			results, err := adm.UpdateFeatures(ctx, true, kadm.FeatureUpdate{Feature: f.Name, MaxVersionLevel: level, UpgradeType: 1})
			if err != nil || (results.Error() == nil) != (level == f.InUse) {
				t.Errorf("%s to %d: %v, %v; announced is %d", f.Name, level, results, err, f.InUse)
			}
		}
	}
	q := kmsg.NewPtrUpdateFeaturesRequest()
	q.FeatureUpdates = []kmsg.UpdateFeaturesRequestFeatureUpdate{{Feature: "a", MaxVersionLevel: 1, UpgradeType: 1}}
	p := ask[*kmsg.UpdateFeaturesResponse](n.connect(), 1, q)
	if p.ErrorCode != kerr.InvalidUpdateVersion.Code || len(p.Results) != 0 { // none is updated: Kafka has no answer for each
		t.Errorf("v1: %+v", p)
	}
}

// quotasOf returns what is described, entity by entity.
func quotasOf(t *testing.T, adm *kadm.Client, strict bool, components ...kadm.DescribeClientQuotaComponent) map[string]map[string]float64 {
	t.Helper()
	described, err := adm.DescribeClientQuotas(t.Context(), strict, components)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]float64{}
	for _, q := range described {
		values := map[string]float64{}
		for _, v := range q.Values {
			values[v.Key] = v.Value
		}
		all[q.Entity.String()] = values
	}
	return all
}

func TestClientQuotasAreSetAndDescribed(t *testing.T) {
	ctx, adm, _ := adminOf(t)
	name := kmsg.StringPtr
	user := func(n *string) kadm.ClientQuotaEntityComponent {
		return kadm.ClientQuotaEntityComponent{Type: "user", Name: n}
	}
	clientID := func(n *string) kadm.ClientQuotaEntityComponent {
		return kadm.ClientQuotaEntityComponent{Type: "client-id", Name: n}
	}
	set := func(key string, value float64) []kadm.AlterClientQuotaOp {
		return []kadm.AlterClientQuotaOp{{Key: key, Value: value}}
	}
	for _, tc := range []struct {
		entity kadm.ClientQuotaEntity
		ops    []kadm.AlterClientQuotaOp
		want   error
	}{
		{kadm.ClientQuotaEntity{user(name("alice"))}, set("producer_byte_rate", 1024), nil},
		{kadm.ClientQuotaEntity{user(name("alice"))}, set("request_percentage", 12.5), nil},
		{kadm.ClientQuotaEntity{user(nil), clientID(name("app"))}, set("consumer_byte_rate", 5), nil},
		{kadm.ClientQuotaEntity{clientID(nil)}, set("controller_mutation_rate", 0.5), nil},
		{kadm.ClientQuotaEntity{}, set("producer_byte_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{user(nil), user(nil)}, set("producer_byte_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{{Type: "ip", Name: name("::ffff:192.0.2.7")}}, set("connection_creation_rate", 7), nil},
		{kadm.ClientQuotaEntity{{Type: "ip"}}, set("connection_creation_rate", 20), nil},
		{kadm.ClientQuotaEntity{{Type: "ip"}}, set("connection_creation_rate", 1.5), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{{Type: "ip"}}, set("producer_byte_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{{Type: "ip"}, user(nil)}, set("connection_creation_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{{Type: "ip", Name: name("192.0.2.0/24")}}, set("connection_creation_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{{Type: "planet", Name: name("earth")}}, set("producer_byte_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{user(nil)}, set("producer_byte_rate", 0), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{user(nil)}, set("producer_byte_rate", 1.5), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{user(nil)}, set("connection_creation_rate", 1), kerr.InvalidRequest},
		{kadm.ClientQuotaEntity{user(nil)}, append(set("producer_byte_rate", 1), set("producer_byte_rate", 2)...), kerr.InvalidRequest},
	} {
		entry := []kadm.AlterClientQuotaEntry{{Entity: tc.entity, Ops: tc.ops}}
		for _, alter := range []func(context.Context, []kadm.AlterClientQuotaEntry) (kadm.AlteredClientQuotas, error){adm.ValidateAlterClientQuotas, adm.AlterClientQuotas} {
			results, err := alter(ctx, entry)
			if err != nil || len(results) != 1 {
				t.Fatalf("%v: %v, %v", tc.entity, results, err)
			}
			if got := results[0].Err; !errors.Is(got, tc.want) || (got == nil) != (tc.want == nil) || (got != nil && results[0].ErrMessage == "") {
				t.Errorf("%v %v: %v (%s), want %v", tc.entity, tc.ops, got, results[0].ErrMessage, tc.want)
			}
		}
	}
	exact := func(kind, n string) kadm.DescribeClientQuotaComponent {
		return kadm.DescribeClientQuotaComponent{Type: kind, MatchName: name(n)}
	}
	const def, any = kmsg.QuotasMatchTypeDefault, kmsg.QuotasMatchTypeAny
	for _, tc := range []struct {
		name       string
		strict     bool
		components []kadm.DescribeClientQuotaComponent
		want       []string
	}{
		{"all", false, nil, []string{"{user=alice}", "{user=<default>, client-id=app}", "{client-id=<default>}", "{ip=192.0.2.7}", "{ip=<default>}"}},
		{"strictly nobody", true, nil, nil},
		{"a user", false, []kadm.DescribeClientQuotaComponent{exact("user", "alice")}, []string{"{user=alice}"}},
		{"another", false, []kadm.DescribeClientQuotaComponent{exact("user", "bob")}, nil},
		{"the default user", false, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchType: def}}, []string{"{user=<default>, client-id=app}"}},
		{"strictly the default user", true, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchType: def}}, nil},
		{"any client id", false, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchType: any}}, []string{"{user=<default>, client-id=app}", "{client-id=<default>}"}},
		{"strictly any client id", true, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchType: any}}, []string{"{client-id=<default>}"}},
		{"both", true, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchType: def}, exact("client-id", "app")}, []string{"{user=<default>, client-id=app}"}},
		{"an address", false, []kadm.DescribeClientQuotaComponent{exact("ip", "192.0.2.7")}, []string{"{ip=192.0.2.7}"}},
		{"the default address", true, []kadm.DescribeClientQuotaComponent{{Type: "ip", MatchType: def}}, []string{"{ip=<default>}"}},
		{"any address", false, []kadm.DescribeClientQuotaComponent{{Type: "ip", MatchType: any}}, []string{"{ip=192.0.2.7}", "{ip=<default>}"}},
		{"an address of a user", false, []kadm.DescribeClientQuotaComponent{{Type: "ip", MatchType: any}, {Type: "user", MatchType: any}}, nil},
	} {
		got := quotasOf(t, adm, tc.strict, tc.components...)
		if len(got) != len(tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		for _, entity := range tc.want {
			if got[entity] == nil {
				t.Errorf("%s: %v lacks %s", tc.name, got, entity)
			}
		}
	}
	if got := quotasOf(t, adm, false)["{user=alice}"]; got["producer_byte_rate"] != 1024 || got["request_percentage"] != 12.5 {
		t.Errorf("alice: %v", got)
	}
	for _, wrong := range [][]kadm.DescribeClientQuotaComponent{
		{exact("user", "a"), exact("user", "b")}, {exact("planet", "earth")}, {exact("", "a")}, {{Type: "user"}}, {{Type: "user", MatchName: name("a"), MatchType: any}}, {{Type: "user", MatchType: 9}},
	} {
		if got, err := adm.DescribeClientQuotas(ctx, false, wrong); err == nil {
			t.Errorf("%v is answered with %v", wrong, got)
		}
	}
	remove := []kadm.AlterClientQuotaEntry{{Entity: kadm.ClientQuotaEntity{user(name("alice"))}, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Remove: true}, {Key: "request_percentage", Remove: true}}}}
	if results, err := adm.AlterClientQuotas(ctx, remove); err != nil || results[0].Err != nil {
		t.Errorf("remove: %v, %v", results, err)
	}
	if got := quotasOf(t, adm, false); got["{user=alice}"] != nil || len(got) != 4 {
		t.Errorf("left: %v", got)
	}
}

// Kafka's tools ask for credentials with the quotas of a user, and fail without an answer.
func TestUsersHaveNoScramCredentials(t *testing.T) {
	ctx, adm, _ := adminOf(t)
	if all, err := adm.DescribeUserSCRAMs(ctx); err != nil || len(all) != 0 {
		t.Errorf("all users: %v, %v", all, err)
	}
	some, err := adm.DescribeUserSCRAMs(ctx, "ada", "grace", "grace")
	if err != nil || len(some) != 2 {
		t.Fatalf("two users: %v, %v", some, err)
	}
	if err := some["ada"].Err; !errors.Is(err, kerr.ResourceNotFound) {
		t.Errorf("ada: %v", err)
	}
	if err := some["grace"].Err; !errors.Is(err, kerr.DuplicateResource) {
		t.Errorf("grace, named twice: %v", err)
	}
}
