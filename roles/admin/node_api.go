package admin

import (
	"context"
	"net/http"
	"time"
)

// NodeFacts is what the process that answers says of itself.
type NodeFacts interface {
	// Config is the merged configuration, without what may be secret.
	Config() NodeConfig
	// Certificates are those that it shows, and the authorities that it trusts.
	Certificates() []NodeCertificate
}

// NodeConfig is the configuration of one process.
type NodeConfig struct {
	Node  int32       `json:"node"`
	Roles []string    `json:"roles"`
	Keys  []ConfigKey `json:"keys" doc:"in the order of docs/configuration.md"`
}

// ConfigKey is a key with its value.
type ConfigKey struct {
	Key    string `json:"key"`
	Value  string `json:"value" doc:"without what may be secret in it"`
	Origin string `json:"origin" doc:"where the value came from: default, a file, the environment, a flag"`
	Type   string `json:"type" enum:"size,duration,price,string,bool,int"`
	Doc    string `json:"doc"`
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

type (
	nodeConfigOutput       struct{ Body NodeConfig }
	nodeCertificatesOutput struct {
		Body struct {
			Certificates []NodeCertificate `json:"certificates"`
		}
	}
)

// nodeAPI is /api/v1/node: what is of the process that answers, whichever that is.
type nodeAPI struct{ node NodeFacts }

func registerNode(h *routes, a nodeAPI) {
	route(h, http.MethodGet, "/api/v1/node/config", onCluster[struct{}](describesConfigs).noting("of the process that answers"), a.config)
	route(h, http.MethodGet, "/api/v1/node/certificates", onCluster[struct{}](describesCluster).noting("of the process that answers"), a.certificates)
}

func (a nodeAPI) config(context.Context, *struct{}) (*nodeConfigOutput, error) {
	return &nodeConfigOutput{a.node.Config()}, nil
}

func (a nodeAPI) certificates(context.Context, *struct{}) (*nodeCertificatesOutput, error) {
	out := &nodeCertificatesOutput{}
	out.Body.Certificates = append([]NodeCertificate{}, a.node.Certificates()...)
	return out, nil
}
