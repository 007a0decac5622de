package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rustmq.dev/rustmq/storage/guard"
)

// Roles that a certificate proves.
const (
	RoleBroker     = "broker"
	RoleController = "controller"
	RoleAdmin      = "admin"
)

// identityScheme is that of the URI by which a certificate names a server.
const identityScheme = "rustmq"

var (
	clusterName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	roleName    = regexp.MustCompile(`^[a-z]{1,32}$`)
)

// ErrNoIdentity says that a certificate names no server: it is a client's, or of before.
var ErrNoIdentity = errors.New("it names no server: it has no URI rustmq://<cluster>/node/<id>?roles=<roles> among its subject alternative names")

// Identity is what a certificate says of a server: which node of which cluster it is, and
// what it may be there. In the certificate it is the one URI of the scheme rustmq among the
// subject alternative names, rustmq://<cluster>/node/<id>?roles=<role>,<role>.
type Identity struct {
	// Cluster is a name that the operator has chosen for all certificates of a cluster, of
	// lower-case letters, digits and hyphens, at most 63. It is not the cluster id, which
	// nobody knows before the first start.
	Cluster string
	Node    int32
	Roles   []string // RoleBroker, RoleController, RoleAdmin, and what later versions know
}

// IdentityOf reads the identity of a certificate. ErrNoIdentity: it has none.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	var found []*url.URL
	for _, u := range cert.URIs {
		if u.Scheme == identityScheme && strings.HasPrefix(u.Path, "/node/") {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 0:
		return Identity{}, ErrNoIdentity
	case 1:
		return parseIdentity(found[0])
	}
	return Identity{}, fmt.Errorf("it names %d servers: %v", len(found), found)
}

func parseIdentity(u *url.URL) (Identity, error) {
	bad := func(why string) (Identity, error) {
		return Identity{}, fmt.Errorf("its URI %.200q is none of a server, rustmq://<cluster>/node/<id>?roles=<roles>: %s", u.String(), why)
	}
	if !clusterName.MatchString(u.Host) || u.User != nil || u.Fragment != "" || u.RawPath != "" {
		return bad("the cluster is a name of lower-case letters, digits and hyphens")
	}
	text := strings.TrimPrefix(u.Path, "/node/")
	node, err := strconv.ParseInt(text, 10, 32)
	if err != nil || node < 0 || strconv.FormatInt(node, 10) != text {
		return bad("the id is a whole number of 0 or more")
	}
	list, only := strings.CutPrefix(u.RawQuery, "roles=")
	roles := strings.Split(list, ",")
	if !only || slices.ContainsFunc(roles, func(r string) bool { return !roleName.MatchString(r) }) {
		return bad("the roles are names with commas between")
	}
	return Identity{Cluster: u.Host, Node: int32(node), Roles: roles}, nil
}

// URI is how a certificate says it.
func (id Identity) URI() *url.URL {
	return &url.URL{
		Scheme: identityScheme, Host: id.Cluster, Path: "/node/" + strconv.Itoa(int(id.Node)), RawQuery: "roles=" + strings.Join(id.Roles, ","),
	}
}

// Has reports whether the server may be any of these.
func (id Identity) Has(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(id.Roles, r) })
}

// String says it to a person.
func (id Identity) String() string {
	return fmt.Sprintf("node %d (%s) of cluster %s", id.Node, strings.Join(id.Roles, ", "), id.Cluster)
}

// Peer is who the other side of a connection is, whose certificate TLS has verified: a
// server of the same cluster, or an error that says why not.
func (m *Mutual) Peer(state tls.ConnectionState) (Identity, error) {
	if len(state.PeerCertificates) == 0 {
		return Identity{}, errors.New("it shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	id, err := IdentityOf(leaf)
	if err == nil {
		err = forBothSides(leaf)
	}
	if ours := m.Self().Cluster; err == nil && !guard.Check("pki.same-cluster", id.Cluster == ours) {
		err = fmt.Errorf("it is of %s, and this server's of cluster %s", id, ours)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("the certificate of %q, serial %x: %w", leaf.Subject, leaf.SerialNumber, err)
	}
	return id, nil
}

// forBothSides refuses a certificate that a server could not serve and call with: a
// client's.
func forBothSides(leaf *x509.Certificate) error {
	has := func(usage x509.ExtKeyUsage) bool {
		return slices.Contains(leaf.ExtKeyUsage, usage) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
	}
	if !guard.Check("pki.both-sides", has(x509.ExtKeyUsageServerAuth) && has(x509.ExtKeyUsageClientAuth)) {
		return errors.New("it is for one side of a connection alone, and that of a server is for both (server and client authentication)")
	}
	return nil
}
