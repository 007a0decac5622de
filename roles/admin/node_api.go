package admin

import (
	"context"
	"net/http"
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

// nodeAPI is /api/v1/node: what is of the process that answers, whichever that is.
type nodeAPI struct{ node Node }

func registerNode(h *routes, a nodeAPI) {
	route(h, http.MethodGet, "/api/v1/node/certificates", onCluster[struct{}](describesCluster).noting("of the process that answers"), a.certificates)
}

func (a nodeAPI) certificates(context.Context, *struct{}) (*nodeCertificatesOutput, error) {
	out := &nodeCertificatesOutput{}
	out.Body.Certificates = append([]NodeCertificate{}, a.node.Certificates()...)
	return out, nil
}
