package group

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinAs returns a join of a new member with so many protocols.
func joinAs(n int, name func(i int) string) *kmsg.JoinGroupRequest {
	q := kmsg.NewPtrJoinGroupRequest()
	q.Version, q.Group, q.ProtocolType = 3, "g", "consumer"
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 30_000, 60_000
	for i := range n {
		q.Protocols = append(q.Protocols, kmsg.JoinGroupRequestProtocol{Name: name(i)})
	}
	return q
}

// A protocol costs memory, and is matched with those of others, also if it has no bytes:
// of one member there are not many, and each has a name.
func TestProtocolsOfAMemberAreBounded(t *testing.T) {
	for what, c := range map[string]struct {
		q    *kmsg.JoinGroupRequest
		want int16
	}{
		"many":        {joinAs(100_000, func(int) string { return "x" }), kerr.GroupMaxSizeReached.Code},
		"one more":    {joinAs(maxProtocols+1, strconv.Itoa), kerr.GroupMaxSizeReached.Code},
		"no names":    {joinAs(100_000, func(int) string { return "" }), kerr.InvalidRequest.Code},
		"one no name": {joinAs(2, func(i int) string { return []string{"range", ""}[i] }), kerr.InvalidRequest.Code},
	} {
		core := coreOf(t)
		fx := core.Step(time.Now(), Request{Call: 1, Body: c.q})
		if len(fx.Answers) != 1 || fx.Answers[0].Body.(*kmsg.JoinGroupResponse).ErrorCode != c.want {
			t.Errorf("%s: %+v", what, fx.Answers)
		}
		if groups, bytes := core.Size(); groups != 0 || bytes != 0 {
			t.Errorf("%s: %d groups of %d bytes are left", what, groups, bytes)
		}
	}
}

// What is counted of a member grows with its protocols, and is all taken off with it.
func TestProtocolsAreCounted(t *testing.T) {
	size := func(n int) int64 {
		core := coreOf(t)
		core.Step(time.Now(), Request{Call: 1, Body: joinAs(n, func(i int) string { return string(rune('A' + i)) })})
		_, bytes := core.Size()
		core.drop(core.groups["g"])
		if _, left := core.Size(); left != 0 {
			t.Errorf("%d protocols: %d bytes are left", n, left)
		}
		return bytes
	}
	if one, many := size(1), size(51); many-one < 50*protocolBytes {
		t.Errorf("50 more protocols are %d bytes", many-one)
	}
}

// All members support a protocol also where some name one twice, join again with others
// or go; a new one has to support one of those.
func TestProtocolsInCommon(t *testing.T) {
	core := coreOf(t)
	now, call := time.Now(), Call(0)
	join := func(names ...string) (id string, code int16) {
		call++
		fx := core.Step(now, Request{Call: call, Body: joinAs(len(names), func(i int) string { return names[i] })})
		if len(fx.Answers) > 0 {
			if resp := fx.Answers[len(fx.Answers)-1]; resp.Call == call {
				return "", resp.Body.(*kmsg.JoinGroupResponse).ErrorCode
			}
		}
		for _, m := range core.groups["g"].ordered() {
			id = m.id
		}
		return id, 0
	}
	join("a", "b", "a")
	second, code := join("b", "b", "c")
	if code != 0 {
		t.Fatalf("b is of both: %d", code)
	}
	if _, code := join("a", "c"); code != kerr.InconsistentGroupProtocol.Code {
		t.Errorf("neither is of all: %d", code)
	}
	g := core.groups["g"]
	if got := g.selectProtocol(); got != "b" {
		t.Errorf("chosen: %q", got)
	}
	again := joinAs(1, func(int) string { return "b" })
	again.MemberID = second
	core.Step(now, Request{Call: 100, Body: again})
	if fmt.Sprint(g.support) != "map[a:1 b:2]" {
		t.Errorf("support: %v", g.support)
	}
	g.remove(g.members[second])
	if fmt.Sprint(g.support) != "map[a:1 b:1]" {
		t.Errorf("support: %v", g.support)
	}
}

// Each name that a member subscribes counts, however short, and has letters.
func TestSubscribedNamesAreCounted(t *testing.T) {
	beat := func(names ...string) int16 {
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Version, q.Group, q.MemberID, q.RebalanceTimeoutMillis = 1, "g", "m", 20_000
		q.SubscribedTopicNames, q.Topics = names, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		fx := coreOf(t).Step(time.Now(), Request{Call: 1, Body: q})
		if len(fx.Answers) == 0 {
			return 0 // it is being written
		}
		return fx.Answers[0].Body.(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode
	}
	many := make([]string, 20_000)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	if code := beat(many...); code != kerr.GroupMaxSizeReached.Code {
		t.Errorf("%d names: %d", len(many), code)
	}
	if code := beat("t", ""); code != kerr.InvalidRequest.Code {
		t.Errorf("an empty name: %d", code)
	}
	if code := beat(many[:5000]...); code != 0 {
		t.Errorf("5,000 names: %d", code)
	}
}

func coreOf(t *testing.T) *Core {
	t.Helper()
	opt := Options{Log: new(memoryLog)}
	if err := opt.setDefaults(); err != nil {
		t.Fatal(err)
	}
	return NewCore(opt)
}
