package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Features are announced with their range and level; to clients that take a least
// level of 0 for an error, only the level.
func TestFeaturesAreAnnounced(t *testing.T) {
	table := newVersionTable(nil, []Feature{{Name: "group.version", Min: 0, Max: 1, InUse: 1}, {Name: "other", Min: 1, Max: 3, InUse: 2}}, nil)
	for version, supported := range map[int16]int{0: 0, 2: 0, 3: 1, 4: 2} {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.SetVersion(version)
		if err := resp.ReadFrom(table.bodies[version]); err != nil {
			t.Fatal(err)
		}
		if len(resp.SupportedFeatures) != supported {
			t.Errorf("v%d: supported %+v", version, resp.SupportedFeatures)
		}
		if version < 3 {
			continue
		}
		if f := resp.FinalizedFeatures; len(f) != 2 || f[0].Name != "group.version" || f[0].MaxVersionLevel != 1 || f[1].MaxVersionLevel != 2 || resp.FinalizedFeaturesEpoch != 0 {
			t.Errorf("v%d: final %+v, epoch %d", version, f, resp.FinalizedFeaturesEpoch)
		}
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(3)
	if err := resp.ReadFrom(newVersionTable(nil, nil, nil).bodies[3]); err != nil || resp.FinalizedFeaturesEpoch != -1 {
		t.Errorf("without features: %v, epoch %d", err, resp.FinalizedFeaturesEpoch)
	}
}
