package rpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
	"rustmq.dev/rustmq/transport/rpc"
	"rustmq.dev/rustmq/transport/rpc/rpcpb"
)

// TestRevokedServersAreGone from both sides of a connection: whoever calls with a certificate
// that is revoked meanwhile, and whoever is called, is cut off, and not taken again.
// It is one story, and as long as that.
func TestRevokedServersAreGone(t *testing.T) {
	g := newGuarded(t, pki.RoleBroker, pki.RoleController)
	g.ca.Sign("caller", pkitest.Server(identity(2, pki.RoleBroker)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	line, err := grpc.NewClient("passthrough:///node-1", g.dialer(), grpc.WithTransportCredentials(credentials.NewTLS(g.ca.Client("caller"))))
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	call := func() error {
		_, err := rpcpb.NewControllerClient(line).Call(ctx, &rpcpb.CallRequest{ClusterId: "id", Broker: 2})
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	if n := g.is.Judge(); n != 0 {
		t.Errorf("%d connections are cut off, and nobody is revoked", n)
	}
	g.ca.Revoke("caller")
	if err := g.is.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := g.is.Judge(); n != 1 {
		t.Errorf("%d connections of a revoked caller are cut off", n)
	}
	if !line.WaitForStateChange(ctx, connectivity.Ready) {
		t.Error("its connection goes on")
	}
	if err := call(); status.Code(err) != codes.Unavailable {
		t.Errorf("a revoked caller comes again: %v", err)
	}

	mutual := g.ca.Mutual("another", identity(3, pki.RoleBroker), "node-3")
	peers := rpc.NewPeers(rpc.PeersOptions{Cluster: func() string { return "id" }, Mutual: mutual, Dial: []grpc.DialOption{g.dialer()}})
	defer peers.Close()
	ask := func() error {
		_, err := peers.Call(ctx, "node-1", &rpc.PeerCall{From: rpc.PeerBroker{ID: 3}, To: rpc.PeerBroker{ID: 1}})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	g.ca.Revoke("server")
	if err := mutual.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := mutual.Judge(); n != 1 {
		t.Errorf("%d connections to a revoked server are cut off", n)
	}
	for err = ask(); err == nil || !strings.Contains(err.Error(), "was revoked"); err = ask() {
		if ctx.Err() != nil {
			break // the line may take a moment to break, and what is said first may be that it did
		}
	}
	if err == nil || ctx.Err() != nil {
		t.Errorf("a revoked server is asked again: %v", err)
	}
	if err := mutual.Stands(); err != nil {
		t.Errorf("a server whose certificate is good: %v", err)
	}
	g.ca.Revoke("another")
	if err := mutual.Trust().Reload(); err != nil {
		t.Fatal(err)
	}
	if err := mutual.Stands(); err == nil || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("a server is not told that it is revoked: %v", err)
	}
	if err := mutual.Reload(); err == nil || !strings.Contains(err.Error(), "would be refused by the other servers") {
		t.Errorf("a server whose own certificate is revoked is not told: %v", err)
	}
}
