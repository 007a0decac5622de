package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/storage/wal"
	"rustmq.dev/rustmq/transport/kafka"
)

// recorded is a recorder that keeps events, and refuses acts while err is set.
type recorded struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (r *recorded) Record(e audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorded) Admit() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// take returns what was recorded since it was called last, as "outcome action type name".
func (r *recorded) take() (lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%v %s %s %s", e.Outcome, e.Action, e.ResourceType, e.Resource)))
	}
	r.events = nil
	return lines
}

func auditedNode(t testing.TB, r audit.Recorder, change ...func(*Options)) *node {
	t.Helper()
	return startAuthorising(t, append(change, func(o *Options) { o.Audit, o.AuditData = r, true })...)
}

func wantEvents(t testing.TB, r *recorded, want ...string) {
	t.Helper()
	got := r.take()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("recorded:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// An act whose client did not wait for its end may have been done: it is not told as failed,
// nor left out.
func TestActsThatNobodyWaitedForAreRecorded(t *testing.T) {
	for _, c := range []struct {
		of   *kerr.Error
		want audit.Outcome
	}{{nil, audit.Allowed}, {kerr.RequestTimedOut, audit.Allowed}, {kerr.TopicAlreadyExists, audit.Failed}, {kerr.TopicAuthorizationFailed, 0}} {
		code := int16(0)
		if c.of != nil {
			code = c.of.Code
		}
		if got, reason := outcomeOf(code); got != c.want || (reason == "") != (code == 0 || c.want == 0) {
			t.Errorf("%v: %v, %q", c.of, got, reason)
		}
	}
}

func TestActsAreRecorded(t *testing.T) {
	r := &recorded{}
	n := auditedNode(t, r)
	root := n.as("root")

	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = 1000
	for _, name := range []string{"a", "b"} {
		create.Topics = append(create.Topics, kmsg.CreateTopicsRequestTopic{Topic: name, NumPartitions: 1, ReplicationFactor: 1})
	}
	ask[*kmsg.CreateTopicsResponse](root, 5, create)
	wantEvents(t, r, "allowed topic.create topic a", "allowed topic.create topic b")
	ask[*kmsg.CreateTopicsResponse](root, 5, create)
	wantEvents(t, r, "failed topic.create topic a", "failed topic.create topic b")
	create.ValidateOnly = true
	ask[*kmsg.CreateTopicsResponse](root, 5, create)
	wantEvents(t, r)

	acls := kmsg.NewPtrCreateACLsRequest()
	acls.Creations = []kmsg.CreateACLsRequestCreation{{
		ResourceType: kmsg.ACLResourceTypeTopic, ResourceName: "a", ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Principal: "User:alice", Host: "*",
		Operation: kmsg.ACLOperationRead, PermissionType: kmsg.ACLPermissionTypeAllow,
	}}
	ask[*kmsg.CreateACLsResponse](root, 3, acls)
	r.mu.Lock()
	if e := r.events[0]; e.Detail != "allow User:alice read from * (literal)" || e.Principal != "User:root" || e.Door != audit.DoorKafkaTCP {
		t.Errorf("%+v", e)
	}
	r.mu.Unlock()
	wantEvents(t, r, "allowed acl.create topic a")

	configs := kmsg.NewPtrIncrementalAlterConfigsRequest()
	value := "1000"
	configs.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "a",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}}}}
	ask[*kmsg.IncrementalAlterConfigsResponse](root, 1, configs)
	wantEvents(t, r, "allowed topic.alter-configs topic a")

	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TopicNames = []string{"a"}
	ask[*kmsg.DeleteTopicsResponse](root, 5, gone)
	wantEvents(t, r, "allowed topic.delete topic a")

	use := kmsg.NewPtrMetadataRequest()
	use.AllowAutoTopicCreation, use.Topics = true, []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("used")}}
	ask[*kmsg.MetadataResponse](root, 9, use)
	wantEvents(t, r, "allowed topic.create topic used")
	ask[*kmsg.MetadataResponse](root, 9, use)
	wantEvents(t, r)
}

func TestDenialsAreRecorded(t *testing.T) {
	r := &recorded{}
	n := auditedNode(t, r)
	n.controller.createTopic("orders", 1)
	n.controller.createTopic("hidden", 1)
	n.settle(t.Context())
	n.alter(false, allow("alice", acl.Write, acl.Topic, "orders"), allow("alice", acl.Read, acl.Topic, "orders"))
	alice := n.as("alice")
	r.take()

	produce := func(topic string) {
		t.Helper()
		ask[*kmsg.ProduceResponse](alice, 9, produceTo(topic, 0, -1, batchOf(t, "x")))
	}
	for range 3 {
		produce("orders")
	}
	wantEvents(t, r, "allowed data.write topic orders") // once a connection
	produce("hidden")
	produce("unknown")
	wantEvents(t, r, "denied topic.write topic hidden", "denied topic.write topic unknown")
	for range 3 {
		ask[*kmsg.FetchResponse](alice, 11, fetchFrom("orders", 0, 0, 0))
	}
	ask[*kmsg.FetchResponse](alice, 11, fetchFrom("hidden", 0, 0, 0))
	wantEvents(t, r, "denied topic.read topic hidden")

	all := kmsg.NewPtrMetadataRequest()
	all.Topics = nil
	ask[*kmsg.MetadataResponse](alice, 9, all)
	wantEvents(t, r) // what is only left out is nothing that was asked for
	named := "hidden"
	all.Topics = []kmsg.MetadataRequestTopic{{Topic: &named}}
	ask[*kmsg.MetadataResponse](alice, 9, all)
	wantEvents(t, r, "denied topic.describe topic hidden")

	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: "new", NumPartitions: 1, ReplicationFactor: 1}}
	ask[*kmsg.CreateTopicsResponse](alice, 5, create)
	wantEvents(t, r, "denied topic.create topic new")
	ask[*kmsg.CreateACLsResponse](alice, 3, kmsg.NewPtrCreateACLsRequest())
	wantEvents(t, r, "denied cluster.alter cluster kafka-cluster")

	const want = "# HELP rustmq_broker_authorization_denied_total What clients asked for and may not, by operation and type of resource; of fetches, each decision once.\n" +
		"# TYPE rustmq_broker_authorization_denied_total counter\n" +
		"rustmq_broker_authorization_denied_total{operation=\"alter\",resource_type=\"cluster\"} 1\n" +
		"rustmq_broker_authorization_denied_total{operation=\"create\",resource_type=\"topic\"} 1\n" +
		"rustmq_broker_authorization_denied_total{operation=\"describe\",resource_type=\"topic\"} 1\n" +
		"rustmq_broker_authorization_denied_total{operation=\"read\",resource_type=\"topic\"} 1\n" +
		"rustmq_broker_authorization_denied_total{operation=\"write\",resource_type=\"topic\"} 2\n"
	if err := testutil.CollectAndCompare(n.Metrics(), strings.NewReader(want), "rustmq_broker_authorization_denied_total"); err != nil {
		t.Error(err)
	}
}

// While nothing can be recorded, and the policy is to block, nobody acts; who produces and
// consumes goes on.
func TestNobodyActsUnrecorded(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...func(*Options)) *node{"where ACLs decide": startAuthorising, "where all may": startNode} {
		t.Run(name, func(t *testing.T) {
			r := &recorded{}
			n := start(t, func(o *Options) { o.Audit = r })
			n.controller.createTopic("orders", 1)
			n.settle(t.Context())
			root := n.as("root")
			r.mu.Lock()
			r.err = errors.New("full")
			r.mu.Unlock()
			create := kmsg.NewPtrCreateTopicsRequest()
			create.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: "new", NumPartitions: 1, ReplicationFactor: 1}}
			if p := ask[*kmsg.CreateTopicsResponse](root, 5, create); p.Topics[0].ErrorCode != topicDenied {
				t.Errorf("%+v", p)
			}
			gone := kmsg.NewPtrDeleteTopicsRequest()
			gone.TopicNames = []string{"orders"}
			if p := ask[*kmsg.DeleteTopicsResponse](root, 5, gone); p.Topics[0].ErrorCode != topicDenied {
				t.Errorf("%+v", p)
			}
			if p := ask[*kmsg.ProduceResponse](root, 9, produceTo("orders", 0, -1, batchOf(t, "x"))); p.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Errorf("%+v", p)
			}
			use := kmsg.NewPtrMetadataRequest()
			use.AllowAutoTopicCreation, use.Topics = true, []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("new")}}
			if p := ask[*kmsg.MetadataResponse](root, 9, use); p.Topics[0].ErrorCode == 0 {
				t.Errorf("%+v", p)
			}
			image := n.controller.Image()
			if _, there := image.Topic("new"); there {
				t.Error("it was created")
			}
			if _, there := image.Topic("orders"); !there {
				t.Error("it was deleted")
			}
		})
	}
}

// account is a node that writes what it records to the topic.
func account(t testing.TB, b *Broker, before *audit.Head, change ...func(*audit.Options)) *audit.Log {
	t.Helper()
	o := audit.Options{Node: b.opt.NodeID, Before: before, Policy: audit.NewPolicy(audit.ClassDenied, audit.ClassLogin, audit.ClassAdmin)}
	for _, c := range change {
		c(&o)
	}
	l := audit.New(o)
	l.Start(b.AuditSink(AuditRetention{Time: time.Hour, Bytes: 1 << 20}))
	t.Cleanup(func() { closeAccount(t, l) })
	return l
}

func closeAccount(t testing.TB, l *audit.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func done(node int32, what string) audit.Event {
	return audit.Event{Principal: fmt.Sprint("User:", node), Action: "topic.create", ResourceType: "topic", Resource: what, Outcome: audit.Allowed}
}

// readAll reads the audit log of a broker, and verifies it.
func readAll(t testing.TB, b *Broker, live ...audit.Head) (records []*audit.Record, report audit.Report) {
	t.Helper()
	page, err := b.ReadAudit(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	v := audit.NewVerifier(page.Start, audit.Expected{Live: live})
	for {
		for _, r := range page.Records {
			v.Add(r.Offset, r.Value)
			is, err := audit.Parse(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, is)
		}
		if page.Next >= page.End {
			return records, v.Report()
		}
		if page, err = b.ReadAudit(t.Context(), page.Next); err != nil {
			t.Fatal(err)
		}
	}
}

func written(t testing.TB, l *audit.Log, seq int64) audit.Head {
	t.Helper()
	var head audit.Head
	eventually(t, fmt.Sprintf("record %d is written", seq), func() bool {
		head, _ = l.Head()
		return head.Seq >= seq
	})
	return head
}

func TestAuditTopicIsNobodysToChange(t *testing.T) { synctest.Test(t, auditTopicIsNobodysToChange) }

func auditTopicIsNobodysToChange(t *testing.T) {
	n := startAuthorising(t)
	l := account(t, n.Broker, nil)
	l.Record(done(1, "orders"))
	head := written(t, l, 1)
	topic, _ := n.controller.Image().Topic(AuditTopic)
	if !topic.Internal || topic.Partitions.Len() != 1 || topic.Configs["cleanup.policy"] != "delete" || topic.Configs["retention.ms"] != "3600000" || topic.Configs["retention.bytes"] != "1048576" {
		t.Errorf("%+v", topic)
	}
	n.alter(false, allow("alice", acl.All, acl.Topic, "*"), allow("alice", acl.All, acl.Cluster, ""), allow("bob", acl.Read, acl.Topic, AuditTopic))
	alice := n.as("alice")
	for _, acks := range []int16{-1, 1} {
		if p := ask[*kmsg.ProduceResponse](alice, 9, produceTo(AuditTopic, 0, acks, batchOf(t, "x"))); p.Topics[0].Partitions[0].ErrorCode != kerr.InvalidTopicException.Code {
			t.Errorf("%+v", p)
		}
	}
	drop := kmsg.NewPtrDeleteRecordsRequest()
	drop.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: AuditTopic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}}}
	if p := ask[*kmsg.DeleteRecordsResponse](alice, 2, drop); p.Topics[0].Partitions[0].ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("%+v", p)
	}
	value := "1"
	incremental := kmsg.NewPtrIncrementalAlterConfigsRequest()
	incremental.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: AuditTopic,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}}}}
	if p := ask[*kmsg.IncrementalAlterConfigsResponse](alice, 1, incremental); p.Resources[0].ErrorCode != kerr.PolicyViolation.Code {
		t.Errorf("%+v", p)
	}
	whole := kmsg.NewPtrAlterConfigsRequest()
	whole.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: AuditTopic}}
	if p := ask[*kmsg.AlterConfigsResponse](alice, 2, whole); p.Resources[0].ErrorCode != kerr.PolicyViolation.Code {
		t.Errorf("%+v", p)
	}
	mark := kmsg.NewPtrWriteTxnMarkersRequest()
	mark.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 1 << 40, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: AuditTopic, Partitions: []int32{0}}}}}
	if p := ask[*kmsg.WriteTxnMarkersResponse](alice, 1, mark); p.Markers[0].Topics[0].Partitions[0].ErrorCode != kerr.InvalidTopicException.Code {
		t.Errorf("%+v", p)
	}
	p := ask[*kmsg.FetchResponse](n.as("bob"), 11, fetchFrom(AuditTopic, 0, 0, 0))
	if got := values(t, p.Topics[0].Partitions[0].RecordBatches); len(got) != 2 || !strings.Contains(got[1], `"resource":"orders"`) {
		t.Errorf("a consumer reads %q", got)
	}
	if p := ask[*kmsg.FetchResponse](n.as("carol"), 11, fetchFrom(AuditTopic, 0, 0, 0)); p.Topics[0].Partitions[0].ErrorCode != topicDenied {
		t.Errorf("carol, whom nobody lets: %+v", p)
	}
	if _, report := readAll(t, n.Broker, head); !report.Whole || report.Records != 2 {
		t.Errorf("%+v", report)
	}
}

// What writes the account is not in it.
func TestAuditWritesMakeNoEvents(t *testing.T) { synctest.Test(t, auditWritesMakeNoEvents) }

func auditWritesMakeNoEvents(t *testing.T) {
	var l *audit.Log
	r := &recorded{}
	n := auditedNode(t, r)
	l = account(t, n.Broker, nil)
	l.Record(done(1, "orders"))
	written(t, l, 1)
	readAll(t, n.Broker)
	wantEvents(t, r)
}

// Each broker writes to the one partition, by its leader, also while that moves, and when
// answers are lost.
func TestEveryBrokerWritesToTheAuditTopic(t *testing.T) {
	synctest.Test(t, everyBrokerWritesToTheAuditTopic)
}

func everyBrokerWritesToTheAuditTopic(t *testing.T) {
	c := newCluster(t, 3, false, func(topic string, _ int32) int32 {
		if topic == AuditTopic {
			return 2
		}
		return 0
	})
	logs := map[int32]*audit.Log{}
	for id, n := range c.nodes {
		logs[id] = account(t, n.Broker, nil)
	}
	for i := range 20 {
		for id, l := range logs {
			l.Record(done(id, fmt.Sprint(i)))
		}
		if i == 5 {
			c.sever(2, true)
		}
		if i == 10 {
			c.sever(2, false)
		}
	}
	var live []audit.Head
	for _, l := range logs {
		live = append(live, written(t, l, 20))
	}
	for id, n := range c.nodes {
		if _, report := readAll(t, n.Broker, live...); !report.Whole || report.Records != 63 || report.Lives != 3 {
			t.Errorf("by broker %d: %+v", id, report)
		}
	}
}

// The leader of the topic dies with answers under way, and lives again: no record is there
// twice, and none is missing.
func TestAuditOutlivesItsLeader(t *testing.T) { synctest.Test(t, auditOutlivesItsLeader) }

func auditOutlivesItsLeader(t *testing.T) {
	c := newCluster(t, 2, false, func(topic string, _ int32) int32 {
		if topic == AuditTopic {
			return 2
		}
		return 0
	})
	l := account(t, c.nodes[1].Broker, nil)
	for i := range 40 {
		l.Record(done(1, fmt.Sprint(i)))
		if i == 20 {
			c.close(2)
		}
	}
	c.reopen(2)
	head := written(t, l, 40)
	c.settle()
	if _, report := readAll(t, c.nodes[1].Broker, head); !report.Whole || report.Records != 41 {
		t.Errorf("%+v", report)
	}
}

// An answer that was lost has the group sent again; the log knows it.
func TestAGroupIsAppendedOnce(t *testing.T) {
	n := startNode(t)
	s := n.AuditSink(AuditRetention{}).(*auditSink)
	group := [][]byte{[]byte("a"), []byte("b")}
	if err := s.prepare(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	if _, err := n.appendAudit(t.Context(), slices.Clone(s.under)); err != nil {
		t.Fatal(err)
	}
	for i, group := range [][][]byte{group, {[]byte("c")}} {
		first, err := s.Append(t.Context(), group)
		if err != nil || first != int64(2*i) {
			t.Errorf("group %d is at %d: %v", i, first, err)
		}
	}
	page, err := n.ReadAudit(t.Context(), 0)
	if err != nil || len(page.Records) != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	// A topic that has not heard of the producer is told from its first on.
	s.producer.BaseSequence += 5
	if _, err := s.Append(t.Context(), [][]byte{[]byte("d")}); !forgottenProducer(err) {
		t.Errorf("%v", err)
	}
	if first, err := s.Append(t.Context(), [][]byte{[]byte("d")}); err != nil || first != 3 {
		t.Errorf("%d, %v", first, err)
	}
}

// When producers are refused, and groups cannot commit, what happens is recorded still.
func TestAuditHasRoomWhenTheLogIsFull(t *testing.T) { synctest.Test(t, auditHasRoomWhenTheLogIsFull) }

func auditHasRoomWhenTheLogIsFull(t *testing.T) {
	store, err := log.Open(t.Context(), log.Options{FS: disk.NewMem(disk.MemOptions{}), Dir: "wal", WAL: wal.Options{
		Capacity: 16 << 20, SegmentSize: 1 << 20, ChunkSize: 256 << 10, Memory: 8 << 20, Reserve: 4 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	n := startNode(t, func(o *Options) { o.Store = store })
	l := account(t, n.Broker, nil)
	l.Record(done(1, "before")) // there is room to make the topic
	written(t, l, 1)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.connect()
	large := strings.Repeat("0123456789", 20_000)
	refused := func() bool {
		return ask[*kmsg.ProduceResponse](c, 9, produceTo("events", 0, -1, batchOf(t, large))).Topics[0].Partitions[0].ErrorCode != 0
	}
	for !refused() {
	}
	held := 0
	for ctx, n := t.Context(), 100<<10; ; held += n {
		if err := store.AdmitCoordinator(ctx, n); err != nil {
			if !errors.Is(err, log.ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if held == 0 {
		t.Fatal("coordinators have no reserve")
	}
	for i := range 100 {
		l.Record(done(1, fmt.Sprint(i)))
	}
	head := written(t, l, 101)
	if _, report := readAll(t, n.Broker, head); !report.Whole || report.Records != 102 {
		t.Errorf("%+v", report)
	}
}

// Without a leader of the topic a chain goes on where it was, once there is one.
func TestAuditChainGoesOnAfterARestart(t *testing.T) { synctest.Test(t, auditChainGoesOnAfterARestart) }

func auditChainGoesOnAfterARestart(t *testing.T) {
	n := startNode(t)
	var before *audit.Head
	for life := range 3 {
		l := audit.New(audit.Options{Node: 1, Before: before, Policy: audit.NewPolicy(audit.ClassAdmin)})
		l.Start(n.AuditSink(AuditRetention{}))
		l.Record(done(1, fmt.Sprint(life)))
		head := written(t, l, 1)
		closeAccount(t, l)
		before = &head
		n.server.Close()
		if err := errors.Join(n.Broker.Close(), n.store.Close()); err != nil {
			t.Fatal(err)
		}
		n.store = openStore(t, n.fs)
		n.options.Store = n.store
		n.open()
	}
	records, report := readAll(t, n.Broker, *before)
	if !report.Whole || report.Lives != 3 || len(records) != 6 {
		t.Errorf("%+v", report)
	}
}

// Who is turned away before it is anybody is recorded too.
func TestStrangersAreRecorded(t *testing.T) { synctest.Test(t, strangersAreRecorded) }

func strangersAreRecorded(t *testing.T) {
	r := &recorded{}
	n := startNode(t, func(o *Options) { o.Audit = r })
	n.server.Close()
	n.server = kafka.New(kafka.Options{Handler: n.Broker, RequireAuth: true, Watcher: n.Broker})
	t.Cleanup(func() { n.server.Close() })
	c := n.connect()
	c.send(kmsg.NewPtrMetadataRequest())
	if !c.closed() {
		t.Error("it is served")
	}
	eventually(t, "it is recorded", func() bool { return slices.Equal(r.take(), []string{"denied login"}) })
	n.HandshakeRefused(&net.UDPAddr{}, "quic", errors.New("revoked"))
	wantEvents(t, r, "denied handshake")
}
