package broker

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/transport/kafka"
)

// startAuthorising opens a broker where ACLs decide, and User:root is a super user.
func startAuthorising(t testing.TB, change ...func(*Options)) *node {
	t.Helper()
	return startNode(t, append(change, func(o *Options) { o.Authorization = &Authorization{SuperUsers: []string{"User:root"}} })...)
}

// as returns a client that has proved to be a user.
func (n *node) as(user string) *client {
	n.t.Helper()
	return n.connectBy(kafka.Info{Listener: "kafka", Transport: "tcp", Principal: "User:" + user})
}

// allow returns a rule that allows a user an operation on resources of a name, "*" for
// all.
func allow(user string, op acl.Operation, t acl.ResourceType, name string) acl.Rule {
	if t == acl.Cluster {
		name = acl.ClusterName
	}
	return acl.Rule{Resource: t, Pattern: acl.Literal, Name: name, Principal: "User:" + user, Host: "*", Operation: op, Permission: acl.Allow}
}

// alter has rules made or deleted, and waits until that is in force.
func (n *node) alter(remove bool, rules ...acl.Rule) {
	n.t.Helper()
	var changes []controller.ACLChange
	for _, r := range rules {
		changes = append(changes, controller.ACLChange{Rule: r, Delete: remove})
	}
	for i, err := range n.alterACLs(n.t.Context(), changes) {
		if err != nil {
			n.t.Fatalf("%v: %v", rules[i], err)
		}
	}
}

var authorisationCodes = []int16{topicDenied, groupDenied, clusterDenied, idDenied}

// denials returns the codes of an answer that say that something is not authorised.
func denials(p kmsg.Response) (codes []int16) {
	for _, code := range errorCodes(reflect.ValueOf(p)) {
		if slices.Contains(authorisationCodes, code) && !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// Each API is refused to who may do nothing, and served to who may do what its row says:
// if any of that is lacking, it is refused.
func TestEveryAPIAsksForWhatItsRowSays(t *testing.T) {
	n := startAuthorising(t)
	id := n.controller.createTopic("events", 2)
	n.settle(t.Context())
	root := n.as("root")
	for kind := range int8(2) {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKey, find.CoordinatorType = "driven", kind
		if p := ask[*kmsg.FindCoordinatorResponse](root, 3, find); p.ErrorCode != 0 {
			t.Fatal(kerr.ErrorForCode(p.ErrorCode))
		}
	}
	driven := drives(t, "events", id, 1)
	var rules []acl.Rule
	for _, a := range servedAPIs() {
		for _, need := range a.needs.List {
			rules = append(rules, allow(fmt.Sprint("full-", a.key), need.Operation, need.Resource, "*"))
		}
		for i := range a.needs.List {
			for j, need := range a.needs.List {
				if i != j && need.When == "" {
					rules = append(rules, allow(fmt.Sprint("lacks-", a.key, "-", i), need.Operation, need.Resource, "*"))
				}
			}
		}
	}
	n.alter(false, rules...)
	put := func(user string, a *api, version int16) []int16 {
		c := n.as(user)
		defer c.conn.Close()
		q := driven[a.key].ask(version)
		q.SetVersion(version)
		p, _, err := c.exchange(q)
		if err != nil {
			t.Fatalf("%s v%d as %s: %v", kmsg.NameForKey(a.key.Int16()), version, user, err)
		}
		return denials(p)
	}
	for _, a := range servedAPIs() {
		if _, ok := driven[a.key]; !ok {
			t.Errorf("nothing drives %s", kmsg.NameForKey(a.key.Int16()))
			continue
		}
		for _, version := range slices.Compact([]int16{a.min, a.max}) {
			silent := a.key == kmsg.DescribeLogDirs && version < 3 // has no place for an error
			got := put("nobody", &a, version)
			if (len(got) == 0) != (a.needs.Refused == nil || silent) {
				t.Errorf("%s v%d as nobody: %v", kmsg.NameForKey(a.key.Int16()), version, got)
			}
			if version == a.min && !silent && a.needs.Refused != nil && !slices.Equal(got, []int16{a.needs.Refused.Code}) {
				t.Errorf("%s v%d as nobody: %v, not %v", kmsg.NameForKey(a.key.Int16()), version, got, a.needs.Refused)
			}
			for _, user := range []string{fmt.Sprint("full-", a.key), "root"} {
				if got := put(user, &a, version); len(got) > 0 {
					t.Errorf("%s v%d as %s: %v", kmsg.NameForKey(a.key.Int16()), version, user, got)
				}
			}
		}
		for i, need := range a.needs.List {
			if got := put(fmt.Sprint("lacks-", a.key, "-", i), &a, a.max); need.When == "" && len(got) == 0 && a.key != kmsg.AddPartitionsToTxn {
				t.Errorf("%s is served without %s of a %s", kmsg.NameForKey(a.key.Int16()), need.Operation, need.Resource)
			}
		}
	}
}

func (n *node) produceAs(c *client, topic string) int16 {
	q := produceTo(topic, 0, acksAll, batchOf(n.t, "v"))
	return ask[*kmsg.ProduceResponse](c, 9, q).Topics[0].Partitions[0].ErrorCode
}

// A change of rules takes effect on connections that are open, on fetch sessions, and on
// fetches that wait.
func TestChangeOfACLsIsInForceAtOnce(t *testing.T) {
	n := startAuthorising(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	write, read := allow("alice", acl.Write, acl.Topic, "events"), allow("alice", acl.Read, acl.Topic, "events")
	producer, consumer := n.as("alice"), n.as("alice")
	begin := fetchFrom("events", 0, 0, 0)
	session := int32(0)
	for i := range int32(4) {
		allowed := i%2 == 1
		if allowed {
			n.alter(false, write, read)
		} else if i > 0 {
			n.alter(true, write, read)
		}
		want := int16(0)
		if !allowed {
			want = topicDenied
		}
		for range 3 {
			if got := n.produceAs(producer, "events"); got != want {
				t.Fatalf("change %d: produce: %d", i, got)
			}
		}
		if i == 0 {
			continue
		}
		p := ask[*kmsg.FetchResponse](consumer, 12, fetchAgain(begin, session, i-1))
		session = p.SessionID
		if p.ErrorCode != 0 || len(p.Topics) != 1 || p.Topics[0].Partitions[0].ErrorCode != want || (len(p.Topics[0].Partitions[0].RecordBatches) > 0) != allowed {
			t.Fatalf("change %d: fetch: %+v", i, p)
		}
	}

	waits := fetchFrom("events", 0, 6, 30*time.Second)
	waits.Version = 12
	last := n.as("alice")
	last.send(waits)
	n.await("the fetch waits", func() bool { return n.waitingFetches() == 1 })
	n.alter(true, read)
	if got := n.produceAs(producer, "events"); got != 0 { // wakes the fetch
		t.Fatal(got)
	}
	p := last.receive().(*kmsg.FetchResponse)
	if got := p.Topics[0].Partitions[0]; got.ErrorCode != topicDenied || len(got.RecordBatches) > 0 {
		t.Errorf("a fetch that had begun: %+v", got)
	}
}

func (n *node) waitingFetches() (waiting int) {
	n.connections.mu.RLock()
	defer n.connections.mu.RUnlock()
	for _, c := range n.connections.all {
		c.mu.Lock()
		waiting += len(c.waiting)
		c.mu.Unlock()
	}
	return waiting
}

func fetchAgain(begin *kmsg.FetchRequest, session, epoch int32) *kmsg.FetchRequest {
	q := *begin
	q.SessionID, q.SessionEpoch = session, epoch
	return &q
}

// Nobody learns from an answer whether a topic is there that it may not describe.
func TestTopicsThatAreHidden(t *testing.T) {
	n := startAuthorising(t)
	for _, name := range []string{"a-secret", "events", "events.x", "z-secret"} {
		n.controller.createTopic(name, 2)
	}
	n.settle(t.Context())
	n.alter(false, allow("alice", acl.Describe, acl.Topic, "events"),
		acl.Rule{Resource: acl.Topic, Pattern: acl.Prefixed, Name: "events.", Principal: "User:alice", Host: "*", Operation: acl.Read, Permission: acl.Allow})
	c := n.as("alice")
	all := kmsg.NewPtrMetadataRequest()
	all.IncludeTopicAuthorizedOperations, all.IncludeClusterAuthorizedOperations = true, true
	p := ask[*kmsg.MetadataResponse](c, 10, all)
	if len(p.Topics) != 2 || *p.Topics[0].Topic != "events" || *p.Topics[1].Topic != "events.x" || p.AuthorizedOperations != 0 {
		t.Errorf("%+v", p)
	} else if a, b := p.Topics[0].AuthorizedOperations, p.Topics[1].AuthorizedOperations; a != 1<<acl.Describe || b != 1<<acl.Describe|1<<acl.Read {
		t.Errorf("authorised operations %b, %b", a, b)
	}
	named := ask[*kmsg.MetadataResponse](c, 10, metadataOf("a-secret", "not-there", "events"))
	for i, want := range []int16{topicDenied, topicDenied, 0} {
		if got := named.Topics[i]; got.ErrorCode != want || want != 0 && (got.TopicID != [16]byte{} || len(got.Partitions) > 0) {
			t.Errorf("%s: %+v", *got.Topic, got)
		}
	}
	if _, made := n.controller.Image().Topic("not-there"); made {
		t.Error("a topic was made on first use")
	}

	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.ResponsePartitionLimit = 2 // a cursor follows
	d := ask[*kmsg.DescribeTopicPartitionsResponse](c, 0, q)
	if len(d.Topics) != 1 || *d.Topics[0].Topic != "events" || d.NextCursor == nil || d.NextCursor.Topic != "events.x" {
		t.Errorf("%+v", d)
	}
	q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "events.x"}
	if d = ask[*kmsg.DescribeTopicPartitionsResponse](c, 0, q); len(d.Topics) != 1 || d.NextCursor != nil {
		t.Errorf("%+v", d)
	}

	for _, name := range []string{"a-secret", "not-there"} {
		list := &kmsg.ListOffsetsRequest{ReplicaID: -1, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: -1}}}}}
		if got := ask[*kmsg.ListOffsetsResponse](c, 7, list).Topics[0].Partitions[0]; got.ErrorCode != topicDenied || got.Offset != -1 {
			t.Errorf("ListOffsets of %s: %+v", name, got)
		}
		if got := n.produceAs(c, name); got != topicDenied {
			t.Errorf("produce to %s: %d", name, got)
		}
		if got := ask[*kmsg.FetchResponse](c, 12, fetchFrom(name, 0, 0, 0)).Topics[0].Partitions[0]; got.ErrorCode != topicDenied || got.HighWatermark != -1 {
			t.Errorf("fetch of %s: %+v", name, got)
		}
	}
}

// Whose group, and whose transactional id, it is not its own to use.
func TestGroupsAndTransactionsOfOthers(t *testing.T) {
	n := startAuthorising(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	n.alter(false, allow("alice", acl.Read, acl.Group, "mine"), allow("alice", acl.Write, acl.TransactionalID, "mine"), allow("alice", acl.Write, acl.Topic, "events"))
	c := n.as("alice")
	for name, want := range map[string]int16{"mine": 0, "theirs": groupDenied, "mine2": groupDenied, "min": groupDenied} {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{name}
		if got := ask[*kmsg.FindCoordinatorResponse](c, 4, find).Coordinators[0].ErrorCode; got != want {
			t.Errorf("coordinator of group %s: %d", name, got)
		}
	}
	for name, want := range map[string]int16{"mine": 0, "theirs": idDenied} {
		q := produceTo("events", 0, acksAll, transactional(t, 1, 0, 0, "v"))
		q.TransactionID = &name
		got := ask[*kmsg.ProduceResponse](c, 9, q).Topics[0].Partitions[0].ErrorCode
		if (got == idDenied) != (want == idDenied) {
			t.Errorf("produce under %s: %d", name, got)
		}
		begin := kmsg.NewPtrInitProducerIDRequest()
		begin.TransactionalID, begin.TransactionTimeoutMillis = &name, 1000
		if got := ask[*kmsg.InitProducerIDResponse](c, 4, begin).ErrorCode; (got == idDenied) != (want == idDenied) {
			t.Errorf("InitProducerId of %s: %d", name, got)
		}
	}
	if got := ask[*kmsg.InitProducerIDResponse](c, 4, kmsg.NewPtrInitProducerIDRequest()).ErrorCode; got != 0 {
		t.Errorf("an idempotent producer of who may write to a topic: %d", got)
	}
	add := &kmsg.AddPartitionsToTxnRequest{TransactionalID: "mine", Topics: []kmsg.AddPartitionsToTxnRequestTopic{
		{Topic: "events", Partitions: []int32{0}}, {Topic: "secret", Partitions: []int32{0}},
	}}
	p := ask[*kmsg.AddPartitionsToTxnResponse](c, 3, add)
	if a, b := p.Topics[0].Partitions[0].ErrorCode, p.Topics[1].Partitions[0].ErrorCode; a != kerr.OperationNotAttempted.Code || b != topicDenied {
		t.Errorf("%+v", p)
	}
}

// Who may use all groups and all transactional ids does not move a module's place, delete it,
// join its group, nor shut its transactions out: that is for who may deploy modules.
func TestPlacesOfModulesAreNobodys(t *testing.T) {
	n := startAuthorising(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	var rules []acl.Rule
	for _, user := range []string{"all", "deployer"} {
		for _, kind := range []acl.ResourceType{acl.Group, acl.TransactionalID, acl.Topic} {
			for _, op := range []acl.Operation{acl.Read, acl.Write, acl.Describe, acl.Delete} {
				if acl.OperationsOf(kind).Has(op) {
					rules = append(rules, allow(user, op, kind, "*"))
				}
			}
		}
	}
	n.alter(false, append(rules, allow("deployer", acl.Alter, acl.Cluster, ""))...)
	for user, refused := range map[string]bool{"all": true, "deployer": false} {
		c := n.as(user)
		for name, own := range map[string]bool{pipeline.ClientPrefix + "m": true, "rustmq-et": false} {
			id := name + "-1"
			begin := kmsg.NewPtrInitProducerIDRequest()
			begin.TransactionalID, begin.TransactionTimeoutMillis = &id, 1000
			offsets := &kmsg.TxnOffsetCommitRequest{Version: 3, TransactionalID: "mine", Group: name, Generation: -1, Topics: []kmsg.TxnOffsetCommitRequestTopic{{Topic: "events", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}}
			commit := &kmsg.OffsetCommitRequest{Version: 8, Group: name, Generation: -1, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: "events", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}}
			join := &kmsg.ConsumerGroupHeartbeatRequest{Group: name, MemberID: "AAAAAAAAAAAAAAAAAAAAAA", RebalanceTimeoutMillis: 1000, SubscribedTopicNames: []string{"events"}, Topics: []kmsg.ConsumerGroupHeartbeatRequestTopic{}}
			produce := produceTo("events", 0, acksAll, transactional(t, 1, 0, 0, "v"))
			produce.TransactionID = &id
			for version, q := range map[int16]kmsg.Request{
				4: begin, 3: offsets, 8: commit, 0: join, 9: produce,
				2: &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{name}},
				5: &kmsg.OffsetFetchRequest{Version: 5, Group: name, Topics: []kmsg.OffsetFetchRequestTopic{}},
			} {
				q.SetVersion(version)
				p, _, err := c.exchange(q)
				if err != nil {
					t.Fatal(err)
				}
				_, reads := q.(*kmsg.OffsetFetchRequest)
				if got := denials(p); (len(got) > 0) != (refused && own && !reads) {
					t.Errorf("%s of %s as %s: %v", kmsg.NameForKey(q.Key()), name, user, got)
				}
			}
		}
	}
}

func TestAuthorisationIsOffUnlessAsked(t *testing.T) {
	n := startNode(t)
	n.controller.createTopic("events", 1)
	n.settle(t.Context())
	c := n.as("anybody")
	if got := n.produceAs(c, "events"); got != 0 {
		t.Error(got)
	}
	all := kmsg.NewPtrMetadataRequest()
	all.IncludeTopicAuthorizedOperations, all.IncludeClusterAuthorizedOperations = true, true
	p := ask[*kmsg.MetadataResponse](c, 10, all)
	if p.AuthorizedOperations != int32(acl.OperationsOf(acl.Cluster)) || p.Topics[0].AuthorizedOperations != int32(acl.OperationsOf(acl.Topic)) {
		t.Errorf("%b, %b", p.AuthorizedOperations, p.Topics[0].AuthorizedOperations)
	}
	if got := ask[*kmsg.DescribeACLsResponse](c, 3, describeACLs()); got.ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("%+v", got)
	}
}

func describeACLs() *kmsg.DescribeACLsRequest {
	return &kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1}
}
