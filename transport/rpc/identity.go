package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/storage/guard"
)

// AnyNode is expected where the roles of a server decide, and not which one it is. It is no
// id that anybody could send: those are of 32 bits.
const AnyNode int64 = math.MinInt64

// serviceRoles says who may call a service at all: any of these. Which node it has to be
// is judged by what it says. A service that is not named is nobody's.
var serviceRoles = map[string][]string{
	"rustmq.rpc.Raft":        {pki.RoleController},
	"rustmq.rpc.Controller":  {pki.RoleBroker, pki.RoleController, pki.RoleAdmin},
	"rustmq.rpc.Peers":       {pki.RoleBroker, pki.RoleController, pki.RoleAdmin}, // the latter as operators
	"rustmq.rpc.Replication": {pki.RoleBroker},
}

// caller is who the other side of a call has proved to be.
type caller struct {
	pki.Identity
	address string
	gate    *Gate
}

type callerKey struct{}

// Gate lets callers of a server in as their certificates allow, and tells the log of others.
type Gate struct {
	mutual *pki.Mutual
	log    *slog.Logger

	mu     sync.Mutex
	told   time.Time // when a refusal was logged; guarded by mu, as is untold
	untold int       // refusals since
}

// NewGate returns the gate of one or several servers; nil, which lets all in, without
// mutual. Log nil: none.
func NewGate(mutual *pki.Mutual, log *slog.Logger) *Gate {
	if mutual == nil {
		return nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Gate{mutual: mutual, log: log}
}

// unary and stream are gRPC's interceptors.
func (g *Gate) unary(ctx context.Context, q any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := g.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, q)
}

func (g *Gate) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := g.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(service, &provenStream{stream, ctx})
}

// provenStream is a stream whose context knows the caller.
type provenStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *provenStream) Context() context.Context { return s.ctx }

// admit returns the context of a call, which knows the caller from then on.
func (g *Gate) admit(ctx context.Context, method string) (context.Context, error) {
	c := &caller{gate: g}
	p, known := grpcpeer.FromContext(ctx)
	if known {
		c.address = p.Addr.String()
	}
	info, secure := tls.ConnectionState{}, false
	if known {
		if t, is := p.AuthInfo.(credentials.TLSInfo); is {
			info, secure = t.State, true
		}
	}
	var err error
	if c.Identity, err = g.mutual.Peer(info); !guard.Check("rpc.caller-proves", secure && err == nil) {
		return nil, g.refuse(c, fmt.Sprintf("%s: the caller is no server of this cluster: %v", method, err))
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	ctx = context.WithValue(ctx, callerKey{}, c)
	if roles := serviceRoles[service]; !guard.Check("rpc.service-role", c.Has(roles...)) {
		return nil, g.refuse(c, wrongCaller(method, c.Identity, AnyNode, roles))
	}
	return ctx, nil
}

// refuse tells the log, once a second at most, and returns what the caller is told.
func (g *Gate) refuse(c *caller, why string) error {
	g.mu.Lock()
	now := time.Now()
	tell, untold := now.Sub(g.told) >= refusalPause, g.untold
	if tell {
		g.told, g.untold = now, 0
	} else {
		g.untold++
	}
	g.mu.Unlock()
	if tell {
		g.log.Warn("a call of another server is refused, for its certificate does not allow it", "from", c.address, "reason", why, "refused_untold", untold)
	}
	return status.Error(codes.PermissionDenied, why)
}

// refusalPause is between two lines of the log about calls that are refused.
const refusalPause = time.Second

func wrongCaller(what string, is pki.Identity, node int64, roles []string) string {
	return fmt.Sprintf("%s: by its certificate the caller is %s; expected is %s", what, is, expectation(node, roles))
}

func expectation(node int64, roles []string) string {
	who := "a node"
	if node != AnyNode {
		who = fmt.Sprintf("node %d", node)
	}
	return who + " with the role " + strings.Join(roles, " or ")
}

// Admit refuses what a caller says or asks for, unless its certificate is that of the node
// in one of the roles; AnyNode: of any. Where servers do not prove who they are it refuses
// nothing. The error has the code PermissionDenied, and the log of the server has it too.
func Admit(ctx context.Context, what string, node int64, roles ...string) error {
	c, proven := ctx.Value(callerKey{}).(*caller)
	if !proven {
		if p, ok := grpcpeer.FromContext(ctx); ok && p.AuthInfo != nil && p.AuthInfo.AuthType() == "tls" {
			return status.Errorf(codes.PermissionDenied, "%s: this server does not look at certificates, and takes no connection that has any", what)
		}
		return nil
	}
	allowed := c.Has(roles...) && (node == AnyNode || int64(c.Node) == node)
	if !guard.Check("rpc.caller-is", allowed) {
		return c.gate.refuse(c, wrongCaller(what, c.Identity, node, roles))
	}
	return nil
}
