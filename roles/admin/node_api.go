package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"rustmq.dev/rustmq/roles/controller"
)

// Node is what the process that answers knows of itself.
type Node interface {
	ID() int32
	// Troubles is what is wrong with it.
	Troubles() []controller.Trouble
	// Certificates are those that it shows, and the authorities that it trusts.
	Certificates() []NodeCertificate
}

// NodeCertificate is a certificate that a process shows, or trusts.
type NodeCertificate struct {
	Use       string    `json:"use" enum:"tls,client-ca,cluster,cluster-ca" doc:"tls: shown to clients; client-ca: of an authority of theirs; cluster: shown to the other servers; cluster-ca: of an authority of those"`
	File      string    `json:"file,omitempty" doc:"left out: it is in no file that a key names"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial" doc:"hexadecimal"`
	SHA256    string    `json:"sha256" doc:"of the certificate, hexadecimal"`
	Names     []string  `json:"names" doc:"hosts, addresses and URIs that it is for"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

type nodeCertificatesOutput struct {
	Body struct {
		Certificates []NodeCertificate `json:"certificates"`
	}
}

// CertificatesOfNode are those of one process, or why they are not known.
type CertificatesOfNode struct {
	Node         int32             `json:"node"`
	Unknown      string            `json:"unknown,omitempty" doc:"why it does not say: the certificates are left out"`
	Certificates []NodeCertificate `json:"certificates"`
}

type certificatesOutput struct {
	Body struct {
		Nodes []CertificatesOfNode `json:"nodes" doc:"the process that answers and the brokers in service, in order of their ids"`
	}
}

// nodeAPI is /api/v1/node: what is of the process that answers, whichever that is.
type nodeAPI struct {
	node Node
	told Tellers // nil: brokers cannot be asked
}

func registerNode(h *routes, a nodeAPI) {
	route(h, http.MethodGet, "/api/v1/node/certificates", onCluster[struct{}](describesCluster).noting("of the process that answers"), a.certificates)
	route(h, http.MethodGet, "/api/v1/certificates", onCluster[struct{}](describesCluster).noting("of the process that answers, and of all brokers in service"), a.everyones)
}

// everyones are the certificates of the process that answers, and of the brokers. A controller
// that is neither tells of its own when it is asked itself; that one ends is in the health of
// the cluster for all.
func (a nodeAPI) everyones(ctx context.Context, _ *struct{}) (*certificatesOutput, error) {
	out := &certificatesOutput{}
	here := a.node.ID()
	out.Body.Nodes = []CertificatesOfNode{{Node: here, Certificates: append([]NodeCertificate{}, a.node.Certificates()...)}}
	if a.told != nil {
		for _, is := range a.told.Told(ctx, TellCertificates) {
			if is.Broker == here {
				continue
			}
			of := CertificatesOfNode{Node: is.Broker, Certificates: []NodeCertificate{}}
			var said *[]NodeCertificate
			if said, of.Unknown = answered[[]NodeCertificate](is); said != nil && *said != nil {
				of.Certificates = *said
			}
			out.Body.Nodes = append(out.Body.Nodes, of)
		}
	}
	slices.SortFunc(out.Body.Nodes, func(a, b CertificatesOfNode) int { return cmp.Compare(a.Node, b.Node) })
	return out, nil
}

func (a nodeAPI) certificates(context.Context, *struct{}) (*nodeCertificatesOutput, error) {
	out := &nodeCertificatesOutput{}
	out.Body.Certificates = append([]NodeCertificate{}, a.node.Certificates()...)
	return out, nil
}
