package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/object"
	"rustmq.dev/rustmq/test/seeded"
	"rustmq.dev/rustmq/transport/rpc"
)

func TestErrorsComeOutAsTheyWentIn(t *testing.T) {
	coded := metadata.Errorf(metadata.TopicAlreadyExists, "topic %q", "t")
	for _, err := range []error{
		nil, coded, errors.New("plain"), fmt.Errorf("create: %w", coded), errors.New(""), metadata.Errorf(metadata.Conflict, ""),
		errors.Join(errors.New("first"), coded),
	} {
		body, failed := encode(list[fault]{faultsOf([]error{nil, err})})
		if failed != nil {
			t.Fatal(failed)
		}
		var l list[fault]
		if failed := decode(body, &l); failed != nil {
			t.Fatalf("%v: %v", err, failed)
		}
		got := errorsOf(l.Entries)
		if len(got) != 2 || got[0] != nil || (got[1] == nil) != (err == nil) {
			t.Fatalf("%v came out as %v", err, got)
		}
		if err == nil {
			continue
		}
		if got[1].Error() != err.Error() || metadata.CodeOf(got[1]) != metadata.CodeOf(err) {
			t.Errorf("%v came out as %v", err, got[1])
		}
		want, is := errors.AsType[*metadata.Error](err)
		if e, ok := errors.AsType[*metadata.Error](got[1]); ok != is || is && *e != *want {
			t.Errorf("in %v was %v, and is %v", err, want, e)
		}
	}
}

// recorder is a controller that notes what it is asked for.
type recorder struct {
	Controller // for the image
	mu         sync.Mutex
	args       []any
}

func (r *recorder) note(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.args = args
}

var (
	errOne  = metadata.Errorf(metadata.InvalidUpdateVersion, "one")
	outcome = []error{nil, errOne}
)

func (r *recorder) NodeID() int32 { return 1 }
func (r *recorder) Leads() bool   { return true }
func (r *recorder) RegisterBroker(_ context.Context, g controller.Registration) (int64, error) {
	r.note(g)
	return 5, nil
}

func (r *recorder) Members(context.Context) (*controller.Group, error) {
	r.note()
	return &controller.Group{Leader: 1, Term: 2, Committed: 3, Snapshot: 4, Members: []controller.Member{
		{ID: 1, Directory: [16]byte{2}, Role: controller.Learner, Leads: true, Raft: "r:1", Controller: "c:1", Match: 5, Active: true}, {},
	}}, errOne
}

func (r *recorder) AddController(_ context.Context, id uint64) error {
	r.note(id)
	return errOne
}

func (r *recorder) RemoveController(_ context.Context, id uint64) error {
	r.note(id)
	return errOne
}

func (r *recorder) FenceBroker(_ context.Context, id int32, epoch int64) error {
	r.note(id, epoch)
	return errOne
}

func (r *recorder) ReportLoad(_ context.Context, id int32, epoch int64, syncs time.Duration, loads []controller.PartitionLoad) error {
	r.note(id, epoch, syncs, loads)
	return errOne
}

func (r *recorder) ReportTroubles(_ context.Context, node int32, found []controller.Trouble) error {
	r.note(node, found)
	return errOne
}

func (r *recorder) ReportEnds(_ context.Context, id int32, epoch int64, ends []metadata.PartitionEnd) error {
	r.note(id, epoch, ends)
	return errOne
}

func (r *recorder) GiveUpReplicas(_ context.Context, id int32, epoch int64, partitions []storage.PartitionID) []error {
	r.note(id, epoch, partitions)
	return outcome
}

func (r *recorder) PlanRebalance(context.Context) (controller.RebalancePlan, error) {
	r.note("PlanRebalance")
	return controller.RebalancePlan{
		Moves:   []controller.PlannedMove{{Topic: "t", Partition: storage.PartitionID{Index: 3}, From: []int32{1}, To: []int32{2}, Tail: 4, InBucket: 5}},
		Brokers: []controller.PlannedBroker{{ID: 1, Before: 2, After: 3}},
	}, nil
}

func (r *recorder) DrainBroker(_ context.Context, id int32, draining bool) error {
	r.note(id, draining)
	return errOne
}

func (r *recorder) UnregisterBroker(_ context.Context, id int32) error {
	r.note(id)
	return errOne
}

func (r *recorder) RegisterController(_ context.Context, n metadata.ControllerNode) error {
	r.note(n)
	return errOne
}

func (r *recorder) UnregisterController(_ context.Context, id uint64) error {
	r.note(id)
	return errOne
}

func (r *recorder) CreateTopics(_ context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult {
	r.note(topics, validateOnly)
	return []controller.TopicResult{{Name: "a", ID: storage.TopicID{1}, Partitions: 2, ReplicationFactor: 3, Configs: map[string]string{"k": "v"}}, {Name: "b", Err: errOne}}
}

func (r *recorder) DeleteTopics(_ context.Context, topics []controller.TopicRef) []controller.TopicResult {
	r.note(topics)
	return []controller.TopicResult{{Name: "a", ID: storage.TopicID{1}}, {Name: "b", Err: errOne}}
}

func (r *recorder) CreatePartitions(_ context.Context, name string, total int32, assignments [][]int32, validateOnly bool) error {
	r.note(name, total, assignments, validateOnly)
	return errOne
}

func (r *recorder) AlterConfigs(_ context.Context, changes []controller.ConfigChange, validateOnly bool) []error {
	r.note(changes, validateOnly)
	return outcome
}

func (r *recorder) AlterClientQuotas(_ context.Context, changes []controller.QuotaChange, validateOnly bool) []error {
	r.note(changes, validateOnly)
	return outcome
}

func (r *recorder) AlterACLs(_ context.Context, changes []controller.ACLChange) []error {
	r.note(changes)
	return outcome
}

func (r *recorder) AlterUsers(_ context.Context, changes []metadata.UserChange) []error {
	r.note(changes)
	return outcome
}

func (r *recorder) CreateAPIToken(_ context.Context, t metadata.APIToken) error {
	r.note(t)
	return errOne
}

func (r *recorder) DeleteAPIToken(_ context.Context, name string) error {
	r.note(name)
	return errOne
}

func (r *recorder) DeployTransform(_ context.Context, name string, v metadata.TransformVersion, activate bool, seen uint64) error {
	r.note(name, v, activate, seen)
	return errOne
}

func (r *recorder) SetTransform(_ context.Context, name string, change metadata.TransformChange) error {
	r.note(name, change)
	return errOne
}

func (r *recorder) DeleteTransform(_ context.Context, name string, change metadata.TransformChange, force bool) error {
	r.note(name, change, force)
	return errOne
}

func (r *recorder) SpendTransformBudget(_ context.Context, name string, version uint32, by, reason string) error {
	r.note(name, version, by, reason)
	return errOne
}

func (r *recorder) AlterPartitions(_ context.Context, id int32, epoch int64, changes []metadata.PartitionChange) []error {
	r.note(id, epoch, changes)
	return outcome
}

func (r *recorder) ElectLeaders(_ context.Context, elections []controller.LeaderElection) []error {
	r.note(elections)
	return outcome
}

func (r *recorder) ReassignPartitions(_ context.Context, moves []controller.Reassignment) []error {
	r.note(moves)
	return outcome
}

func (r *recorder) AdvanceLogStart(_ context.Context, id int32, epoch int64, starts []controller.LogStart) []error {
	r.note(id, epoch, starts)
	return outcome
}

func (r *recorder) PrepareObjects(_ context.Context, id int32, epoch int64, count int) (storage.ObjectID, error) {
	r.note(id, epoch, count)
	return 11, nil
}

func (r *recorder) CommitObject(_ context.Context, id int32, epoch int64, o storage.ObjectID, size int64, ranges []metadata.PartitionRange) ([]error, error) {
	r.note(id, epoch, o, size, ranges)
	return outcome, nil
}

func (r *recorder) ReplaceRanges(_ context.Context, id int32, epoch int64, o storage.ObjectID, size int64, replacements []metadata.Replacement) ([]error, error) {
	r.note(id, epoch, o, size, replacements)
	return nil, errOne
}

func (r *recorder) FileRanges(_ context.Context, id int32, epoch int64, o storage.ObjectID, ref object.ManifestRef, f *metadata.Filing) error {
	r.note(id, epoch, o, ref, *f)
	return errOne
}

func (r *recorder) RecordCleaning(_ context.Context, id int32, epoch int64, p storage.PartitionID, e storage.Epoch, is metadata.Cleaning) error {
	r.note(id, epoch, p, e, is)
	return errOne
}

func (r *recorder) AllocateProducerIDs(_ context.Context, id int32, epoch int64) (int64, int32, error) {
	r.note(id, epoch)
	return 1000, 10, nil
}

func (r *recorder) ConfirmClock() error {
	r.note()
	return errors.New("it had jumped")
}

func (r *recorder) CheckBucket(_ context.Context, q controller.CheckRequest) (*controller.CheckReport, error) {
	r.note(q)
	return &controller.CheckReport{Next: "n", Findings: []controller.Finding{{Kind: "orphan", Size: 3, Range: &controller.FindingRange{Topic: "t", End: 4}}}, Compared: controller.Compared{Orphans: controller.Tally{Objects: 1, Bytes: 3}}}, nil
}

func (r *recorder) TakeSnapshot(context.Context) (uint64, error) {
	r.note()
	return 77, errors.New("it is taken already")
}

func (r *recorder) HurryLog() { r.note("hurried") }

// asks are one call of each method of a door, with values in every field.
func asks(ctx context.Context) map[string]func(*Door) (returned []any) {
	p := storage.PartitionID{Topic: storage.TopicID{1, 2}, Index: 3}
	is := metadata.Range{Base: 1, End: 9, Object: 4, Bytes: 5, MaxTimestamp: 6, IndexPosition: 7, IndexLength: 8, IndexCRC: 9, Epoch: 2, HasAborts: true, OpenTransactions: true}
	filed := object.Filed{Object: 1, Size: 2, Base: 3, End: 4, Bytes: 5, MaxTimestamp: 6, Epoch: 7, HasAborts: true}
	configs := []controller.ConfigChange{{Type: metadata.TopicResource, Name: "t", Ops: []controller.ConfigOp{{Key: "k", Op: controller.AppendConfig, Value: "v"}}}, {Name: "u", By: "User:a"}}
	quotas := []controller.QuotaChange{{Entity: metadata.QuotaEntity{User: metadata.QuotaName{Scope: metadata.QuotaNamed, Name: "u"}}, Set: map[string]float64{"k": 1.5}, Remove: []string{"r"}}, {}}
	return map[string]func(*Door) []any{
		"RegisterBroker": func(d *Door) []any {
			epoch, err := d.RegisterBroker(ctx, controller.Registration{
				BrokerID: 7, ClusterID: "c", Incarnation: [16]byte{1}, Directory: [16]byte{2}, Rack: "r", BucketNonce: [16]byte{3}, MaxFeatureLevel: 9,
				UncleanEnd: true, AcksBeforeSync: true, CutTail: true, Listeners: []metadata.Listener{{Name: "kafka", Host: "h", Port: 9, Protocol: "SSL"}},
			})
			return []any{epoch, err}
		},
		"Members": func(d *Door) []any {
			g, err := d.Members(ctx)
			return []any{g, err}
		},
		"AddController":    func(d *Door) []any { return []any{d.AddController(ctx, 4)} },
		"RemoveController": func(d *Door) []any { return []any{d.RemoveController(ctx, 4)} },
		"FenceBroker":      func(d *Door) []any { return []any{d.FenceBroker(ctx, 7, 8)} },
		"ReportLoad": func(d *Door) []any {
			return []any{d.ReportLoad(ctx, 7, 8, time.Second, []controller.PartitionLoad{{Partition: storage.PartitionID{Index: 3}, Rate: 4, Tail: 5}})}
		},
		"ReportTroubles": func(d *Door) []any {
			return []any{d.ReportTroubles(ctx, 7, []controller.Trouble{{Kind: "disk", What: "x"}})}
		},
		"ReportEnds": func(d *Door) []any {
			return []any{d.ReportEnds(ctx, 7, 8, []metadata.PartitionEnd{{Partition: storage.PartitionID{Index: 3}, Epoch: 4, End: 5}})}
		},
		"PlanRebalance": func(d *Door) []any {
			plan, err := d.PlanRebalance(ctx)
			return []any{plan, err}
		},
		"DrainBroker":      func(d *Door) []any { return []any{d.DrainBroker(ctx, 7, true)} },
		"UnregisterBroker": func(d *Door) []any { return []any{d.UnregisterBroker(ctx, 7)} },
		"RegisterController": func(d *Door) []any {
			return []any{d.RegisterController(ctx, metadata.ControllerNode{ID: 1, Directory: [16]byte{2}, Raft: "r:1", Controller: "c:1", MaxFeatureLevel: 9})}
		},
		"UnregisterController": func(d *Door) []any { return []any{d.UnregisterController(ctx, 3)} },
		"CreateTopics": func(d *Door) []any {
			return []any{d.CreateTopics(ctx, []controller.NewTopic{
				{Name: "a", Partitions: -1, ReplicationFactor: -1, Assignments: []controller.Assignment{{Partition: 1, Replicas: []int32{2}}}, Configs: map[string]string{"k": "v"}, Internal: true},
				{Name: "b"},
			}, true)}
		},
		"DeleteTopics": func(d *Door) []any {
			return []any{d.DeleteTopics(ctx, []controller.TopicRef{{Name: "a"}, {ID: storage.TopicID{1}}})}
		},
		"CreatePartitions": func(d *Door) []any {
			return []any{d.CreatePartitions(ctx, "t", 4, [][]int32{{1, 2}, {3}}, true)}
		},
		"AlterConfigs":      func(d *Door) []any { return []any{d.AlterConfigs(ctx, configs, true)} },
		"AlterClientQuotas": func(d *Door) []any { return []any{d.AlterClientQuotas(ctx, quotas, true)} },
		"AlterACLs": func(d *Door) []any {
			return []any{d.AlterACLs(ctx, []controller.ACLChange{{Rule: acl.Rule{Resource: 2, Pattern: 3, Name: "t", Principal: "User:u", Host: "*", Operation: 4, Permission: 3}, Delete: true}, {}})}
		},
		"AlterUsers": func(d *Door) []any {
			return []any{d.AlterUsers(ctx, []metadata.UserChange{
				{User: "u", Set: []metadata.ScramCredential{{Mechanism: 1, Iterations: 4096, Salt: []byte("s"), StoredKey: []byte("k"), ServerKey: []byte("K")}}},
				{User: "v", Remove: []metadata.ScramMechanism{2}},
			})}
		},
		"CreateAPIToken": func(d *Door) []any {
			return []any{d.CreateAPIToken(ctx, metadata.APIToken{Name: "t", Principal: "User:u", Hash: "h", Created: time.UnixMilli(5).UTC(), Expires: time.UnixMilli(9).UTC(), ReadOnly: true})}
		},
		"DeleteAPIToken": func(d *Door) []any { return []any{d.DeleteAPIToken(ctx, "t")} },
		"DeployTransform": func(d *Door) []any {
			return []any{d.DeployTransform(ctx, "m", metadata.TransformVersion{Number: 1, SHA256: "h", Size: 2, Spec: "{}", Created: time.UnixMilli(5).UTC(), By: "User:u"}, true, 7)}
		},
		"SetTransform": func(d *Door) []any {
			return []any{d.SetTransform(ctx, "m", metadata.TransformChange{At: time.UnixMilli(5).UTC(), By: "User:u", Action: 2, Version: 1, Reason: "r"})}
		},
		"DeleteTransform": func(d *Door) []any {
			return []any{d.DeleteTransform(ctx, "m", metadata.TransformChange{At: time.UnixMilli(5).UTC(), By: "User:u", Action: 5, Version: 1, Reason: "r"}, true)}
		},
		"SpendTransformBudget": func(d *Door) []any { return []any{d.SpendTransformBudget(ctx, "m", 1, "broker 7", "r")} },
		"GiveUpReplicas": func(d *Door) []any {
			return []any{d.GiveUpReplicas(ctx, 7, 8, []storage.PartitionID{p, {Index: 9}})}
		},
		"AlterPartitions": func(d *Door) []any {
			return []any{d.AlterPartitions(ctx, 7, 8, []metadata.PartitionChange{{Partition: p, LeaderEpoch: 4, PartitionEpoch: 5, ISR: []metadata.ReplicaEpoch{{Broker: 1, Epoch: 2}}}, {}})}
		},
		"ElectLeaders": func(d *Door) []any {
			return []any{d.ElectLeaders(ctx, []controller.LeaderElection{{Partition: p, Leader: -1, Unclean: true}, {}})}
		},
		"ReassignPartitions": func(d *Door) []any {
			return []any{d.ReassignPartitions(ctx, []controller.Reassignment{{Partition: p, Replicas: []int32{1, 2}}, {Partition: p}})}
		},
		"AdvanceLogStart": func(d *Door) []any {
			return []any{d.AdvanceLogStart(ctx, 7, 8, []controller.LogStart{{Partition: p, LeaderEpoch: 1, Offset: 2}, {}})}
		},
		"PrepareObjects": func(d *Door) []any {
			first, err := d.PrepareObjects(ctx, 7, 8, 9)
			return []any{first, err}
		},
		"CommitObject": func(d *Door) []any {
			results, err := d.CommitObject(ctx, 7, 8, 9, 10, []metadata.PartitionRange{{Partition: p, Range: is}, {}})
			return []any{results, err}
		},
		"ReplaceRanges": func(d *Door) []any {
			results, err := d.ReplaceRanges(ctx, 7, 8, 9, 10, []metadata.Replacement{{PartitionRange: metadata.PartitionRange{Partition: p, Range: is}, Removed: []metadata.RemovedRange{{Object: 1, Base: 2, End: 3}}}})
			return []any{results, err}
		},
		"FileRanges": func(d *Door) []any {
			return []any{d.FileRanges(ctx, 7, 8, 9, object.ManifestRef{Base: 1, End: 2, Ranges: 3, Bytes: 4, CRC: 5}, &metadata.Filing{
				Partition: p, LeaderEpoch: 1, Replaced: 2, Dropped: []object.Filed{filed}, Moved: []object.Filed{filed, filed},
			})}
		},
		"RecordCleaning": func(d *Door) []any {
			return []any{d.RecordCleaning(ctx, 7, 8, p, 1, metadata.Cleaning{To: 1, Round: 2, Next: 3, Due: 4, NextDue: 5})}
		},
		"AllocateProducerIDs": func(d *Door) []any {
			first, count, err := d.AllocateProducerIDs(ctx, 7, 8)
			return []any{first, count, err}
		},
		"ConfirmClock": func(d *Door) []any {
			was, err := d.ConfirmClock(ctx)
			return []any{was, err}
		},
		"CheckBucket": func(d *Door) []any {
			report, err := d.CheckBucket(ctx, controller.CheckRequest{After: "a", Verify: true, Repair: true, Findings: 7, Budget: time.Second})
			return []any{*report, err}
		},
		"TakeSnapshot": func(d *Door) []any {
			index, err := d.TakeSnapshot(ctx)
			return []any{index, err}
		},
		"HurryLog": func(d *Door) []any {
			d.HurryLog()
			synctest.Wait()
			return nil
		},
	}
}

// What is asked for and answered is the same, here and elsewhere.
func TestEveryMethodIsCarriedWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		r := &recorder{Controller: h.member(1)}
		local := h.options()
		local.Local = r
		here, there := h.door(local), h.door(h.options(1))
		h.member(1).server.c = r
		all := asks(t.Context())
		for name, ask := range all {
			want := ask(here)
			asked := r.args
			r.note("nothing")
			if got := ask(there); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: answered %+v, here %+v", name, got, want)
			}
			if !reflect.DeepEqual(r.args, asked) {
				t.Errorf("%s: asked %+v, here %+v", name, r.args, asked)
			}
		}
		for name := range handlers() {
			if all[name] == nil && name != heartbeat.name && name != tellState.name { // whose answer is tested apart
				t.Errorf("%s is not tried", name)
			}
		}
	})
}

// bodies are one of each method, as a door sends it.
func bodies(t testing.TB) map[string][]byte {
	t.Helper()
	sent := map[string][]byte{}
	for name, q := range map[string]any{
		"RegisterBroker": registerBrokerQ{controller.Registration{BrokerID: 7, Rack: "r", Listeners: []metadata.Listener{{Name: "kafka"}}}}, "Heartbeat": heartbeatQ{broker{7, 8}},
		"CreateTopics": createTopicsQ{Topics: []newTopic{{Name: "t", Configs: []pair[string]{{"k", "v"}}}}},
		"AlterConfigs": alterConfigsQ{Changes: []controller.ConfigChange{{Name: "t"}}}, "CommitObject": commitObjectQ{Ranges: make([]metadata.PartitionRange, 3)},
		"FileRanges": fileRangesQ{Filing: metadata.Filing{Moved: make([]object.Filed, 2)}}, "ReplaceRanges": replaceRangesQ{Replacements: make([]metadata.Replacement, 2)},
		"DeleteTopics": deleteTopicsQ{Topics: []controller.TopicRef{{Name: "t"}}}, "ElectLeaders": electLeadersQ{[]controller.LeaderElection{{Leader: -5}}},
		"AlterPartitions": alterPartitionsQ{Changes: []metadata.PartitionChange{{}}}, "CheckBucket": checkBucketQ{controller.CheckRequest{After: "x"}},
		"AlterClientQuotas": alterClientQuotasQ{Changes: []quotaChange{{}}}, "AlterACLs": alterACLsQ{[]controller.ACLChange{{Delete: true}}}, "CreatePartitions": createPartitionsQ{Name: "t", Total: -1},
		"AlterUsers":     alterUsersQ{[]metadata.UserChange{{}}},
		"CreateAPIToken": createAPITokenQ{metadata.APIToken{Name: "t"}}, "DeleteAPIToken": deleteAPITokenQ{"t"},
		"DeployTransform": deployTransformQ{Name: "m"}, "SetTransform": setTransformQ{Name: "m"}, "DeleteTransform": deleteTransformQ{Name: "m"}, "SpendTransformBudget": spendTransformBudgetQ{Name: "m"},
		"PrepareObjects": prepareObjectsQ{Count: -1}, "ReportTroubles": reportTroublesQ{Troubles: make([]controller.Trouble, 2)}, "ReportEnds": reportEndsQ{Ends: make([]metadata.PartitionEnd, 2)}, "GiveUpReplicas": giveUpReplicasQ{Partitions: make([]storage.PartitionID, 2)}, "ReportLoad": reportLoadQ{Loads: make([]controller.PartitionLoad, 2)}, "RecordCleaning": recordCleaningQ{}, "AdvanceLogStart": advanceLogStartQ{Starts: make([]controller.LogStart, 1)},
	} {
		body, err := encode(q)
		if err != nil {
			t.Fatal(err)
		}
		sent[name] = body
	}
	return sent
}

func TestHostileBodies(t *testing.T) {
	h := newHouse(t, 1)
	s := h.member(1).server
	seed := seeded.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	for name, body := range bodies(t) {
		for what, b := range map[string][]byte{
			"nothing": nil, "cut": body[:len(body)-1], "more": append(bytes.Clone(body), 0), "a length of 4 GiB": {0xfc, 0xff, 0xff, 0xff, 0xff, 1},
			"another method's": []byte("\x03\x04\x00\x2a"),
		} {
			if a := s.Call(t.Context(), rpc.Call{Method: name, Body: b}); a.Refused == nil || metadata.Code(a.Refused.Code) != metadata.InvalidRequest {
				t.Errorf("%s of %s: %+v", what, name, a)
			}
		}
		for range 200 {
			b := bytes.Clone(body)
			for range 1 + random.IntN(3) {
				b[random.IntN(len(b))] = byte(random.Uint32())
			}
			s.Call(t.Context(), rpc.Call{Method: name, Body: b}) // it must not panic
		}
	}
	if a := s.Call(t.Context(), rpc.Call{Method: "Format"}); a.Refused == nil || metadata.Code(a.Refused.Code) != metadata.UnsupportedVersion {
		t.Errorf("a method that is none: %+v", a)
	}
	if err := decode(make([]byte, rpc.MaxCall+1), new(heartbeatQ)); err == nil || metadata.CodeOf(err) != metadata.UnknownServerError || !bytes.Contains([]byte(err.Error()), []byte("at most")) {
		t.Errorf("a body that is too large: %v", err)
	}
}

func TestLargeBodiesTogetherAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		s := h.member(1).server
		held := make(chan struct{})
		h.member(1).then(func(err error) error { <-held; return err })
		name := string(bytes.Repeat([]byte("n"), rpc.MaxCall/2+1))
		large, err := encode(createTopicsQ{Topics: []newTopic{{Name: name}}})
		if err != nil {
			t.Fatal(err)
		}
		small, err := encode(heartbeatQ{})
		if err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		calls.Go(func() { s.Call(t.Context(), rpc.Call{Method: createTopics.name, Body: large}) })
		synctest.Wait()
		if a := s.Call(t.Context(), rpc.Call{Method: createTopics.name, Body: large}); a.Untried == nil || a.Untried.Leader != 1 {
			t.Errorf("a second one: %+v", a)
		}
		calls.Go(func() {
			if a := s.Call(t.Context(), rpc.Call{Method: heartbeat.name, Body: small}); a.Untried != nil || a.Refused != nil {
				t.Errorf("a small one: %+v", a)
			}
		})
		close(held)
		calls.Wait()
		if a := s.Call(t.Context(), rpc.Call{Method: createTopics.name, Body: large}); a.Untried != nil {
			t.Errorf("one after the first: %+v", a)
		}
	})
}

// What is too large for a controller is not sent to one.
func TestTooLargeACallIsRefusedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		err := d.CreateTopics(t.Context(), topic(string(make([]byte, rpc.MaxCall))), false)[0].Err
		wantCode(t, "a topic with a long name", err, metadata.PolicyViolation)
	})
}

// FuzzBodies runs methods by bodies that may be none: each is refused, or understood.
func FuzzBodies(f *testing.F) {
	for name, body := range bodies(f) {
		f.Add(name, body)
	}
	all := handlers()
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		h, known := all[name]
		if !known || name == heartbeat.name { // whose answer needs a controller
			return
		}
		answer, err := h.run(t.Context(), &recorder{}, body)
		if (answer == nil) == (err == nil) {
			t.Errorf("%d bytes of answer, and %v", len(answer), err)
		}
	})
}
