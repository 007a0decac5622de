package kafka

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersion is the versions of one API that are served.
type ApiVersion struct{ Key, Min, Max int16 }

// maxApiVersions is the newest ApiVersions request that is understood.
const maxApiVersions = 4

// versionTable knows what is served, and what is announced of it.
type versionTable struct {
	served    map[int16]ApiVersion
	announced []kmsg.ApiVersionsResponseApiKey
}

func newVersionTable(served []ApiVersion) *versionTable {
	t := &versionTable{served: map[int16]ApiVersion{}}
	announce := func(key, first, last int16) {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = key, first, last
		t.announced = append(t.announced, k)
	}
	for _, v := range served {
		t.served[v.Key] = v
		if v.Key == produceKey {
			// librdkafka before 2.8 sends every codec uncompressed to a broker
			// that announces Produce from v3 on (KAFKA-18659).
			announce(v.Key, 0, v.Max)
			continue
		}
		announce(v.Key, v.Min, v.Max)
	}
	announce(apiVersionsKey, 0, maxApiVersions)
	return t
}

func (t *versionTable) serves(key, version int16) bool {
	v, ok := t.served[key]
	return ok && version >= v.Min && version <= v.Max
}

// answer answers ApiVersions; an unknown version gets a v0 body with error 35
// and what is announced (KIP-511).
func (t *versionTable) answer(r *Request) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ApiKeys = t.announced
	if r.Version < 0 || r.Version > maxApiVersions {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		r.Version = 0
	} else if _, err := r.Decode(); err != nil {
		resp.ErrorCode = kerr.InvalidRequest.Code
	}
	r.Respond(resp)
}
