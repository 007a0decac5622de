package group

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/storage"
)

// atlas is which topics there are, by name.
type atlas struct {
	version    uint64
	partitions map[string]int32
	ids        map[string]storage.TopicID
}

func (a atlas) Version() uint64 { return a.version }

func (a atlas) Names() iter.Seq[string] { return maps.Keys(a.partitions) }

func (a atlas) Partitions(name string) int32 { return a.partitions[name] }

func (a atlas) TopicID(name string) storage.TopicID { return a.ids[name] }

func (a atlas) TopicName(id storage.TopicID) string {
	for name, is := range a.ids {
		if is == id {
			return name
		}
	}
	return ""
}

func (a atlas) Changed(earlier Catalogue) (names []string, known bool) {
	before, ok := earlier.(atlas)
	for name, id := range a.ids {
		if before.ids[name] != id {
			names = append(names, name)
		}
	}
	for name := range before.ids {
		if a.partitions[name] == 0 {
			names = append(names, name)
		}
	}
	return names, ok
}

// with returns another atlas, with n partitions of a topic: none, if n is 0. A
// topic that is made again has another id.
func (a atlas) with(name string, n int32) atlas {
	next := atlas{a.version + 1, maps.Clone(a.partitions), maps.Clone(a.ids)}
	switch {
	case n == 0:
		delete(next.partitions, name)
		delete(next.ids, name)
	case a.partitions[name] == 0:
		next.ids[name] = storage.TopicID{byte(next.version), byte(next.version >> 8), name[0]}
		fallthrough
	default:
		next.partitions[name] = n
	}
	return next
}

// spoken is a request or an answer, as far as it shows what went wrong.
func spoken(body any) string {
	switch b := body.(type) {
	case *kmsg.ConsumerGroupHeartbeatRequest:
		return fmt.Sprintf("beat of %s at %d, owns %v %v", b.MemberID, b.MemberEpoch, b.Topics != nil, ownedBy(b.Topics))
	case *kmsg.ConsumerGroupHeartbeatResponse:
		return fmt.Sprintf("%s epoch %d %v", code(b.ErrorCode), b.MemberEpoch, b.Assignment)
	case *kmsg.JoinGroupRequest:
		return fmt.Sprintf("join of %q", b.MemberID)
	case *kmsg.JoinGroupResponse:
		return fmt.Sprintf("%s %s generation %d", code(b.ErrorCode), b.MemberID, b.Generation)
	case *kmsg.SyncGroupRequest:
		return fmt.Sprintf("sync of %s at %d", b.MemberID, b.Generation)
	case *kmsg.SyncGroupResponse:
		return fmt.Sprintf("%s %q", code(b.ErrorCode), b.MemberAssignment)
	case *kmsg.HeartbeatRequest:
		return fmt.Sprintf("classic beat of %s at %d", b.MemberID, b.Generation)
	case *kmsg.HeartbeatResponse:
		return code(b.ErrorCode)
	}
	return fmt.Sprintf("%T", body)
}

// dump is what a group is, in one line each for itself and its members.
func dump(g *group) string {
	var b strings.Builder
	if g.consumer == nil {
		fmt.Fprintf(&b, "classic %v generation %d %d members\n", g.state, g.generation, len(g.members))
		return b.String()
	}
	cg := g.consumer
	fmt.Fprintf(&b, "epoch %d hash %d assignor %s\n", cg.epoch, cg.hash, cg.preferred())
	for _, source := range slices.Sorted(maps.Keys(cg.patterns)) {
		fmt.Fprintf(&b, "%s: %v\n", source, cg.patterns[source].topics)
	}
	for _, m := range cg.sorted() {
		instance := ""
		if m.instance != nil {
			instance = *m.instance
		}
		fmt.Fprintf(&b, "%s %s %v %q %s epoch %d/%d state %d %v %v target %v classic %v\n", m.id, instance, m.topics, m.pattern, m.assignor,
			m.epoch, m.previous, m.state, m.assigned, m.revoking, m.target, m.classic != nil)
	}
	return b.String()
}
