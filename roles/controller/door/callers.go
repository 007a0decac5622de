package door

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"

	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/transport/rpc"
)

// errDenied says that the certificate of a caller does not allow what it asks for.
var errDenied = errors.New("not allowed")

// claim is who has to call, by its certificate: a node, or rpc.AnyNode, in one of the roles.
type claim struct {
	node  int64
	roles []string
}

// broker is a claim too: where a body has a field Broker of this type, that is who asks.
func (b broker) claim() claim { return claim{int64(b.ID), []string{pki.RoleBroker}} }

// ofOperators is what people ask for: the REST API is served by controllers and admins.
func ofOperators(any) claim {
	return claim{rpc.AnyNode, []string{pki.RoleController, pki.RoleAdmin}}
}

// ofServers is what Kafka's clients ask brokers for, and brokers may do unasked.
func ofServers(any) claim {
	return claim{rpc.AnyNode, []string{pki.RoleBroker, pki.RoleController, pki.RoleAdmin}}
}

// callers says who may call the methods whose bodies have no Broker. A method that is
// neither is nobody's.
var callers = map[string]func(body any) claim{
	registerBroker.name: func(body any) claim {
		return claim{int64(body.(registerBrokerQ).Registration.BrokerID), []string{pki.RoleBroker}}
	},
	registerController.name: func(body any) claim {
		id := body.(registerControllerQ).Node.ID
		if id > math.MaxInt32 { // which no node has
			return claim{node: rpc.AnyNode}
		}
		return claim{int64(id), []string{pki.RoleController}}
	},
	reportTroubles.name: func(body any) claim {
		return claim{int64(body.(reportTroublesQ).Node), []string{pki.RoleBroker, pki.RoleController}}
	},
	planRebalance.name: ofOperators, drainBroker.name: ofOperators, unregisterController.name: ofOperators,
	members.name: ofOperators, addController.name: ofOperators, removeController.name: ofOperators,
	confirmClock.name: ofOperators, checkBucket.name: ofOperators,
	createTopics.name: ofServers, deleteTopics.name: ofServers, createPartitions.name: ofServers,
	alterConfigs.name: ofServers, alterClientQuotas.name: ofServers, alterACLs.name: ofServers, alterUsers.name: ofServers, electLeaders.name: ofServers,
	createAPIToken.name: ofOperators, deleteAPIToken.name: ofOperators,
	deployTransform.name: ofOperators, setTransform.name: ofOperators, deleteTransform.name: ofOperators, spendTransformBudget.name: ofServers,
	reassignPartitions.name: ofServers, hurryLog.name: ofServers,
	unregisterBroker.name: ofOperators, tellState.name: ofOperators, takeSnapshot.name: ofOperators,
}

// claimOf says how to find who has to call a method with a body.
func claimOf(method string, body reflect.Type) func(body any) claim {
	if f := callers[method]; f != nil {
		return f
	}
	field, has := body.FieldByName("Broker")
	if !has || field.Type != reflect.TypeFor[broker]() {
		return func(any) claim { return claim{node: rpc.AnyNode} }
	}
	return func(body any) claim {
		return reflect.ValueOf(body).FieldByIndex(field.Index).Interface().(broker).claim()
	}
}

// admit refuses a call of a method by somebody else than its body says.
func admit(ctx context.Context, method string, c claim) error {
	what := method
	if c.node != rpc.AnyNode {
		what = fmt.Sprintf("%s for node %d", method, c.node)
	}
	if err := rpc.Admit(ctx, what, c.node, c.roles...); err != nil {
		return errors.New(status.Convert(err).Message())
	}
	return nil
}
