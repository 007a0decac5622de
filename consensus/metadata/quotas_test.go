package metadata

import (
	"strconv"
	"testing"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// The image has room for so many entities; those that have quotas can always be
// altered.
func TestEntitiesWithQuotasAreBounded(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: QuotasFeatureLevel})
	m := *l.state.Image()
	user := func(i int) QuotaEntity {
		return QuotaEntity{User: QuotaName{Scope: QuotaNamed, Name: strconv.Itoa(i)}}
	}
	for i := range maxQuotaEntities {
		m.quotas = m.quotas.put(user(i), &ClientQuotas{Entity: user(i), Rates: map[string]float64{ProducerByteRate: 1}})
	}
	l.state.image.Store(&m)
	change := func(i int) error {
		command, err := Encode(l.state.Image(), NewAlterClientQuotas(user(i), map[string]float64{ConsumerByteRate: 1}, nil))
		if err != nil {
			t.Fatal(err)
		}
		return l.state.Image().Check(command)
	}
	if err := change(maxQuotaEntities); CodeOf(err) != PolicyViolation {
		t.Errorf("one more: %v", err)
	}
	if err := change(7); err != nil {
		t.Errorf("one of them: %v", err)
	}
}
