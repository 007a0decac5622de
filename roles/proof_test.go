package roles_test

import (
	"crypto/x509"
	"fmt"
	"maps"
	"syscall"
	"testing"

	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
)

// TestServersProveTheirRole begins a cluster of three nodes, each of which has a certificate
// that names it, and adds a broker. Neither another node's certificate, nor one of another
// cluster of the same authority, nor one that says no role, joins it.
func TestServersProveTheirRole(t *testing.T) {
	t.Parallel()
	c := &processes{
		T: t, first: 3, dir: t.TempDir(), nodes: map[int]*clusterNode{}, client: newHTTP(),
		net: newNet(),
	}
	t.Cleanup(func() {
		for id := range maps.Clone(c.nodes) {
			c.end(id, syscall.SIGKILL)
		}
		c.client.CloseIdleConnections()
	})
	ca := pkitest.New(t, "ours")
	by := func(name string) []string {
		return []string{
			"--set", "security.cluster.ca_file=" + ca.CAFile(), "--set", "security.cluster.cert_file=" + ca.CertFile(name), "--set", "security.cluster.key_file=" + ca.KeyFile(name),
		}
	}
	sign := func(name, cluster string, id int, roles ...string) []string {
		ca.Sign(name, pkitest.Server(pki.Identity{Cluster: cluster, Node: int32(id), Roles: roles}, c.host(id)))
		return by(name)
	}
	for id := 1; id <= 3; id++ {
		c.start(id, sign(fmt.Sprint("node-", id), "prod", id, pki.RoleBroker, pki.RoleController)...)
	}
	for id := 1; id <= 3; id++ {
		c.await(id)
	}
	c.admin(1, "topics", "create", "orders", "--partitions", "3")
	c.roundTrip("orders", 3, 1, 2)

	c.refused(4, "it is that of node 2 (broker, controller) of cluster prod, and this is node 4 with the roles broker", append(by("node-2"), "--roles", "broker")...)
	ca.Sign("client", &x509.Certificate{ExtKeyUsage: pkitest.Both()})
	c.refused(4, "it names no server", append(by("client"), "--roles", "broker")...)

	c.start(4, append(sign("node-4", "prod", 4, pki.RoleBroker), "--roles", "broker")...)
	c.await(4)
	c.brokers(1, "broker 4 serving", func(all map[int32]admin.Broker) bool { return all[4].State == "serving" })
	c.roundTrip("orders", 3, 4, 4)
}
