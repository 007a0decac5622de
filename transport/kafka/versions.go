package kafka

import (
	"fmt"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage/guard"
)

// ApiVersion is the versions of one API that are served.
type ApiVersion struct{ Key, Min, Max int16 }

// Feature is a feature of the cluster: which levels of it this server knows, and
// which one is in effect.
type Feature struct {
	Name            string
	Min, Max, InUse int16
}

// minZeroFeatures is the first ApiVersions whose clients take a feature that may
// be at level 0.
const minZeroFeatures = 4

// maxApiVersions is the newest ApiVersions request that is understood: v5 asks
// whether this is the node that the client means (KIP-1242), so that it is
// understood only where [Options.Identity] is set.
const (
	maxApiVersions     = 5
	maxWithoutIdentity = 4
)

// OwnVersions are those of ApiVersions that a server answers which knows who it is.
func OwnVersions() ApiVersion { return ApiVersion{Key: apiVersionsKey, Max: maxApiVersions} }

// versionTable knows what is served, and what is announced of it.
type versionTable struct {
	served   []ApiVersion // by key; Max -1: not served
	newest   int16        // of ApiVersions
	identity func() (clusterID string, nodeID int32)
	bodies   [maxApiVersions + 1][]byte // of the answer, by version
	refusal  []byte                     // v0, UNSUPPORTED_VERSION
}

func newVersionTable(served []ApiVersion, features []Feature, identity func() (string, int32)) *versionTable {
	t := &versionTable{newest: maxApiVersions, identity: identity}
	if identity == nil {
		t.newest = maxWithoutIdentity
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	announce := func(key, first, last int16) {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = key, first, last
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	for _, v := range served {
		for int(v.Key) >= len(t.served) {
			t.served = append(t.served, ApiVersion{Max: -1})
		}
		t.served[v.Key] = v
		announce(v.Key, announcedFrom(v), v.Max)
	}
	announce(apiVersionsKey, 0, t.newest)
	for v := range t.newest + 1 {
		announceFeatures(resp, features, v)
		resp.SetVersion(v)
		t.bodies[v] = resp.AppendTo(nil)
	}
	resp.SetVersion(0)
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	t.refusal = resp.AppendTo(nil)
	return t
}

// announcedFrom is the least version that clients are told of an API. Of two it is less than
// what is served, for librdkafka asks for it: before 2.8 it sends every codec uncompressed to
// a broker that announces Produce from v3 on (KAFKA-18659), and no version of it uses SASL
// where SaslHandshake v0 is not announced, though what it sends then is v1.
func announcedFrom(v ApiVersion) int16 {
	if v.Key == produceKey || v.Key == saslHandshakeKey {
		return 0
	}
	return v.Min
}

// announceFeatures tells clients of a version of ApiVersions what features there
// are. Clients take levels in effect only with an epoch that is not negative; these
// do not change while the server runs.
func announceFeatures(resp *kmsg.ApiVersionsResponse, features []Feature, version int16) {
	resp.SupportedFeatures, resp.FinalizedFeatures = nil, nil
	if len(features) > 0 {
		resp.FinalizedFeaturesEpoch = 0
	}
	for _, f := range features {
		if f.Min > 0 || version >= minZeroFeatures {
			known := kmsg.NewApiVersionsResponseSupportedFeature()
			known.Name, known.MinVersion, known.MaxVersion = f.Name, f.Min, f.Max
			resp.SupportedFeatures = append(resp.SupportedFeatures, known)
		}
		used := kmsg.NewApiVersionsResponseFinalizedFeature()
		used.Name, used.MinVersionLevel, used.MaxVersionLevel = f.Name, f.InUse, f.InUse
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, used)
	}
}

func (t *versionTable) serves(key, version int16) bool {
	return key >= 0 && int(key) < len(t.served) && version >= t.served[key].Min && version <= t.served[key].Max
}

// answer answers ApiVersions; an unknown version gets a v0 body with error 35
// and what is announced (KIP-511).
func (t *versionTable) answer(r *Request) {
	if r.Version < 0 || r.Version > t.newest {
		r.RespondRaw(net.Buffers{t.refusal}, nil)
		return
	}
	if err := checkApiVersions(r.Version, r.Body); err != nil {
		r.Close(err)
		return
	}
	decoded, err := r.Decode()
	if err != nil {
		r.Close(err)
		return
	}
	asked := decoded.(*kmsg.ApiVersionsRequest)
	if refused := t.check(asked); refused != nil {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.ErrorCode = refused.Code
		r.Respond(resp)
		return
	}
	if r.Version >= 3 {
		cut := func(s string) string { return strings.Clone(s[:min(len(s), maxSoftware)]) }
		r.Conn.software.Store(&software{cut(asked.ClientSoftwareName), cut(asked.ClientSoftwareVersion)})
	}
	r.RespondRaw(net.Buffers{t.bodies[r.Version]}, nil)
}

// maxApiVersionsBody is what a client may say of itself. Tagged fields take a
// dozen times their bytes once they are decoded.
const maxApiVersionsBody = 4 << 10

// checkApiVersions holds an ApiVersions body to its bytes: kmsg would read as many
// tagged fields as it is told, past their end.
func checkApiVersions(version int16, b []byte) error {
	if !guard.Check("kafka.versions-size", len(b) <= maxApiVersionsBody) {
		return &FrameError{fmt.Sprintf("ApiVersions: %d bytes, at most %d are taken", len(b), maxApiVersionsBody)}
	}
	if version < 3 {
		return nil
	}
	strings, fixed := 2, 0 // name and version of the software
	if version >= 5 {
		strings, fixed = 3, 4 // cluster id, and node id
	}
	for range strings {
		n, rest, err := uvarint(b)
		if err != nil || n > uint64(len(rest))+1 {
			return &FrameError{"ApiVersions: a string is cut off"}
		}
		b = rest[max(n, 1)-1:]
	}
	if len(b) < fixed {
		return &FrameError{"ApiVersions: the node id is cut off"}
	}
	_, err := skipTags(b[fixed:])
	return err
}

// check judges what a client says of itself and of whom it means.
func (t *versionTable) check(q *kmsg.ApiVersionsRequest) *kerr.Error {
	if q.Version >= 3 && !(validSoftware(q.ClientSoftwareName) && validSoftware(q.ClientSoftwareVersion)) {
		return kerr.InvalidRequest
	}
	if q.Version < 5 {
		return nil
	}
	if (q.ClusterID == nil) != (q.NodeID < 0) {
		return kerr.InvalidRequest
	}
	if q.ClusterID == nil {
		return nil
	}
	if clusterID, nodeID := t.identity(); *q.ClusterID != clusterID || q.NodeID != nodeID {
		return kerr.RebootstrapRequired
	}
	return nil
}

// validSoftware holds names to what KIP-511 allows, since they end up in logs:
// letters and digits, and within them also - and dots.
func validSoftware(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '-' || c == '.') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return len(s) > 0
}
