package controller

import (
	"maps"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// What brokers were given as the default of retention holds for topics that have
// none of their own.
func TestRetentionByDefaultIsAltered(t *testing.T) {
	state := metadata.NewState()
	index := uint64(0)
	apply := func(body proto.Message) {
		t.Helper()
		command, err := metadata.Encode(state.Image(), body)
		if err != nil {
			t.Fatal(err)
		}
		index++
		if result, err := state.Apply(index, command); err != nil || metadata.Refused(result) != nil {
			t.Fatal(result, err)
		}
	}
	apply(&pb.InitCluster{ClusterId: "c", FeatureLevel: 1})
	apply(&pb.AlterConfigs{ResourceType: int32(metadata.BrokerResource), Set: []*pb.ConfigEntry{{Key: "log.retention.ms", Value: "5"}, {Key: "message.max.bytes", Value: "6"}}})
	for name, tc := range map[string]struct{ set, want map[string]string }{
		"none of its own": {nil, map[string]string{"retention.ms": "5", "max.message.bytes": "6"}},
		"its own":         {map[string]string{"retention.ms": "1"}, map[string]string{"retention.ms": "1", "max.message.bytes": "6"}},
	} {
		before := maps.Clone(tc.set)
		if got := retentionConfigs(state.Image(), &metadata.Topic{Configs: tc.set}); !maps.Equal(got, tc.want) || !maps.Equal(tc.set, before) {
			t.Errorf("%s: %v, want %v; the topic has %v", name, got, tc.want, tc.set)
		}
	}
}

// It comes into force while the cluster runs.
func TestRetentionByDefaultInACluster(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		plain, own := k.topic("plain", nil), k.topic("own", map[string]string{"retention.ms": "-1"})
		k.upload(plain, 0, 10, time.Now())
		k.upload(own, 0, 10, time.Now())
		pass(time.Hour)
		if k.logStart(plain) != 0 {
			t.Fatal("deleted before anything was set")
		}
		change := ConfigChange{Type: metadata.BrokerResource, Ops: []ConfigOp{{Key: "log.retention.ms", Value: "60000"}}}
		if err := k.c.AlterConfigs(t.Context(), []ConfigChange{change}, false)[0]; err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		if k.logStart(plain) != 10 || k.logStart(own) != 0 {
			t.Errorf("log starts %d and %d", k.logStart(plain), k.logStart(own))
		}
	})
}
