package door

import (
	"context"
	"net"
	"reflect"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
	"rustmq.dev/rustmq/transport/rpc"
)

// TestCallersAskOnlyForWhatTheirCertificatesAllow asks for every method, on behalf of broker
// 7 and controller 1, by the certificates of several nodes.
func TestCallersAskOnlyForWhatTheirCertificatesAllow(t *testing.T) {
	ca := pkitest.New(t, "ours")
	is := func(id int32, roles ...string) *pki.Mutual {
		return ca.Mutual("node", pki.Identity{Cluster: "prod", Node: id, Roles: roles}, "controller-1")
	}
	server := is(1, pki.RoleController)
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		r := &recorder{Controller: h.member(1)}
		s, door := rpc.NewServer(rpc.NewGate(server, nil), rpc.MaxMessage), bufconn.Listen(1<<20)
		service := Serve(s, r)
		go func() { _ = s.Serve(door) }()
		defer s.Stop()
		defer service.Close()

		brokers := []string{
			"RegisterBroker", "Heartbeat", "FenceBroker", "ReportLoad", "ReportTroubles", "ReportEnds", "GiveUpReplicas", "AlterPartitions", "AdvanceLogStart", "PrepareObjects", "CommitObject",
			"ReplaceRanges", "FileRanges", "RecordCleaning", "AllocateProducerIDs",
		}
		operators := []string{
			"PlanRebalance", "DrainBroker", "UnregisterBroker", "UnregisterController", "Members", "AddController", "RemoveController", "ConfirmClock", "CheckBucket",
			"CreateAPIToken", "DeleteAPIToken", "DeployTransform", "SetTransform", "DeleteTransform", "LeaderState", "TakeSnapshot",
		}
		servers := []string{
			"CreateTopics", "DeleteTopics", "CreatePartitions", "AlterConfigs", "AlterClientQuotas", "AlterACLs", "AlterUsers", "ElectLeaders", "ReassignPartitions", "HurryLog",
			"SpendTransformBudget",
		}
		for name, c := range map[string]struct {
			mutual *pki.Mutual
			may    [][]string
		}{
			"broker 7":     {is(7, pki.RoleBroker), [][]string{brokers, servers}},
			"broker 8":     {is(8, pki.RoleBroker), [][]string{servers}},
			"controller 1": {is(1, pki.RoleController), [][]string{operators, servers, {"RegisterController"}}},
			"controller 7": {is(7, pki.RoleController), [][]string{operators, servers, {"ReportTroubles"}}},
			"admin 1":      {is(1, pki.RoleAdmin), [][]string{operators, servers}},
		} {
			may := map[string]bool{}
			for _, list := range c.may {
				for _, method := range list {
					may[method] = true
				}
			}
			d := New(Options{
				Broker: metadata.NoBroker, Addresses: func() []string { return []string{addressFor(1)} }, Mutual: c.mutual,
				Dial: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return door.DialContext(ctx) })},
			})
			if err := d.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			all := asks(t.Context())
			for method := range handlers() {
				ask := all[method]
				switch method {
				case heartbeat.name: // which the recorder does not note
					ask = func(d *Door) []any {
						err := d.Heartbeat(t.Context(), 7, 8)
						if metadata.CodeOf(err) != metadata.ClusterAuthorizationFailed {
							r.note("heartbeat")
						}
						return []any{err}
					}
				case tellState.name: // likewise
					ask = func(d *Door) []any {
						_, err := call(t.Context(), d, tellState, leaderStateQ{true})
						if metadata.CodeOf(err) != metadata.ClusterAuthorizationFailed {
							r.note("state")
						}
						return []any{err}
					}
				case checkBucket.name:
					ask = func(d *Door) []any {
						_, err := d.CheckBucket(t.Context(), controller.CheckRequest{})
						return []any{err}
					}
				}
				if ask == nil {
					t.Errorf("%s is not tried", method)
					continue
				}
				r.note("nothing")
				said := ask(d)
				synctest.Wait()
				r.mu.Lock()
				asked := !reflect.DeepEqual(r.args, []any{"nothing"})
				r.mu.Unlock()
				if asked != may[method] {
					t.Errorf("%s asks for %s: done is %v, should be %v: %v", name, method, asked, may[method], said)
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRefusalOfAMethodSaysWhoAskedAndWhoMay is of the text that an operator sees.
func TestRefusalOfAMethodSaysWhoAskedAndWhoMay(t *testing.T) {
	body, err := encode(drainBrokerQ{ID: 7, Draining: true})
	if err != nil {
		t.Fatal(err)
	}
	denied := claimOf("NewMethod", reflect.TypeFor[drainBrokerQ]())(drainBrokerQ{})
	if len(denied.roles) > 0 {
		t.Errorf("a method of which nobody said who may call it: %+v", denied)
	}
	ca := pkitest.New(t, "ours")
	mutual := func(id int32, role string) *pki.Mutual {
		return ca.Mutual(role, pki.Identity{Cluster: "prod", Node: id, Roles: []string{role}}, "controller-1")
	}
	h := newHouse(t, 1)
	s, door := rpc.NewServer(rpc.NewGate(mutual(1, pki.RoleController), nil), rpc.MaxMessage), bufconn.Listen(1<<20)
	service := Serve(s, h.member(1))
	go func() { _ = s.Serve(door) }()
	defer s.Stop()
	defer service.Close()
	calls := rpc.NewControllers(rpc.ControllersOptions{
		Cluster: service.Cluster, Mutual: mutual(2, pki.RoleBroker),
		Dial: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return door.DialContext(ctx) })},
	})
	defer calls.Close()
	a, err := calls.Call(t.Context(), addressFor(1), rpc.Call{Broker: 2, Method: drainBroker.name, Body: body})
	const want = "controller 1: not allowed: DrainBroker: by its certificate the caller is node 2 (broker) of cluster prod; expected is a node with the role controller or admin"
	if err != nil || a.Refused == nil || metadata.Code(a.Refused.Code) != metadata.ClusterAuthorizationFailed || a.Refused.Message != want {
		t.Errorf("%+v, %v; want %q", a.Refused, err, want)
	}
	if body, err = encode(heartbeatQ{broker{-1, 1}}); err != nil {
		t.Fatal(err)
	}
	a, err = calls.Call(t.Context(), addressFor(1), rpc.Call{Broker: 2, Method: heartbeat.name, Body: body})
	if err != nil || a.Refused == nil || metadata.Code(a.Refused.Code) != metadata.ClusterAuthorizationFailed {
		t.Errorf("a heartbeat of nobody: %+v, %v", a.Refused, err)
	}
}
