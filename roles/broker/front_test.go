package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/transport/rpc"
)

// Who asks for an operator may ask what operators may, of the broker that it means, and
// nothing of what brokers ask each other.
func TestOperatorsAskOnlyWhatIsTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, false, nil)
		self, _ := c.controller.Image().Broker(1)
		operator := rpc.PeerBroker{ID: rpc.OperatorID}
		admit := func(from, to rpc.PeerBroker, key int16) error {
			return c.nodes[1].AdmitPeer(t.Context(), &rpc.PeerCall{From: from, To: to, Key: key})
		}
		for key := peerHoldings; key < peerEnd; key++ {
			if err := admit(operator, rpc.PeerBroker{ID: 1, Epoch: self.Epoch}, key); err != nil {
				t.Errorf("request %d: %v", key, err)
			}
		}
		for _, key := range []int16{
			0, kmsg.WriteTxnMarkers.Int16(), kmsg.AddPartitionsToTxn.Int16(), peerListGroups, peerDescribeGroup, peerDeleteGroup, peerResetOffsets, peerGroupPartitions, peerOffsetMoves,
			peerLifeBegan, peerAuditAppend, peerAuditRead, peerAuditHead, peerAppendSent, peerEnd, peerEnd + 1, 32_767,
		} {
			if err := admit(operator, rpc.PeerBroker{ID: 1, Epoch: self.Epoch}, key); !errors.Is(err, rpc.ErrPeerRefused) {
				t.Errorf("request %d: %v", key, err)
			}
		}
		for _, to := range []rpc.PeerBroker{{ID: 2}, {ID: 1, Epoch: self.Epoch + 1}} {
			if err := admit(operator, to, peerOperatorGroups); !errors.Is(err, rpc.ErrPeerRefused) {
				t.Errorf("%+v was meant: %v", to, err)
			}
		}
	})
}

// wayIn is the way to brokers of a front in a test; those of silent do not answer.
type wayIn struct {
	nodes  map[string]rpc.PeerHandler
	silent map[string]error

	mu    sync.Mutex
	asked []string // guarded by mu
}

func (w *wayIn) Call(ctx context.Context, address string, c *rpc.PeerCall) ([]byte, error) {
	w.mu.Lock()
	w.asked = append(w.asked, address)
	w.mu.Unlock()
	if err := w.silent[address]; err != nil {
		return nil, err
	}
	if err := w.nodes[address].AdmitPeer(ctx, c); err != nil {
		return nil, err
	}
	return w.nodes[address].ServePeer(ctx, c)
}

// A front asks one broker after the other what changes nothing, and what changes something
// again only where it was certainly not done.
func TestAFrontAsksUntilOneAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, false, nil)
		w := &wayIn{nodes: map[string]rpc.PeerHandler{}, silent: map[string]error{}}
		addressOf := map[int32]string{}
		for b := range c.controller.Image().Brokers() {
			address, ok := peerAddress(b)
			if !ok {
				t.Fatalf("broker %d has no address", b.ID)
			}
			addressOf[b.ID] = address
			w.nodes[address] = c.nodes[b.ID]
		}
		f := NewFront(c.controller.Image, w)
		if groups, err := f.ListGroups(t.Context()); err != nil || len(groups) != 0 {
			t.Fatalf("%v, %v", groups, err)
		}
		var notFound *GroupError
		if _, err := f.DescribeGroup(t.Context(), "nobody"); !errors.As(err, &notFound) || notFound.Code != kerr.GroupIDNotFound {
			t.Errorf("a group that is not there: %v", err)
		}
		gone, refused := errors.Join(rpc.ErrPeerUnreachable), errors.Join(rpc.ErrPeerRefused)
		w.silent[addressOf[1]], w.silent[addressOf[2]] = gone, gone
		for range 3 {
			if _, err := f.ListGroups(t.Context()); err != nil {
				t.Errorf("one of three answers: %v", err)
			}
		}
		w.silent[addressOf[3]] = gone
		if _, err := f.ListGroups(t.Context()); err == nil || !strings.Contains(err.Error(), "no broker that was asked has answered") {
			t.Errorf("none answers: %v", err)
		}
		w.asked = nil
		if err := f.DeleteGroup(t.Context(), "g"); err == nil || len(w.asked) != 1 || !strings.Contains(err.Error(), "may be done all the same") {
			t.Errorf("a deletion that has no answer was asked of %v: %v", w.asked, err)
		}
		w.silent, w.asked = map[string]error{addressOf[1]: refused, addressOf[2]: refused}, nil
		if err := f.DeleteGroup(t.Context(), "g"); !errors.As(err, &notFound) || notFound.Code != kerr.GroupIDNotFound {
			t.Errorf("a deletion that two refuse: %v", err)
		}
		if heads, unasked := f.AuditHeads(t.Context()); len(heads) != 0 || len(unasked) != 0 {
			t.Errorf("%v, %v", heads, unasked)
		}
		w.silent = map[string]error{addressOf[1]: gone, addressOf[2]: gone, addressOf[3]: gone}
		if _, unasked := f.AuditHeads(t.Context()); !slices.Equal(unasked, []int32{1, 2, 3}) {
			t.Errorf("%v", unasked)
		}
	})
}

// What is held by partitions whose leaders do not answer is not known, and that of others is.
func TestHoldingsOfLeadersThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, nil)
		if made := c.controller.CreateTopics(t.Context(), []controller.NewTopic{{Name: "t", Partitions: 4, ReplicationFactor: 1}}, false)[0]; made.Err != nil {
			t.Fatal(made.Err)
		}
		c.settle()
		topic := c.topic("t")
		var wanted []PartitionNamed
		for i := range 4 {
			wanted = append(wanted, PartitionNamed{"t", storage.PartitionID{Topic: topic.ID, Index: int32(i)}})
		}
		wanted = append(wanted, PartitionNamed{"t", storage.PartitionID{Topic: topic.ID, Index: 9}})
		is := c.nodes[1].Holdings(t.Context(), wanted)
		for i := range 4 {
			if is[i].Unknown != "" || is[i].Leader != topic.Partition(int32(i)).Leader {
				t.Errorf("%d: %+v", i, is[i])
			}
		}
		if is[4].Unknown == "" {
			t.Errorf("%+v", is[4])
		}
		is = NewFront(c.controller.Image, &wayIn{silent: silence(c.controller.Image())}).Holdings(t.Context(), wanted)
		for i := range is {
			if is[i].Unknown == "" {
				t.Errorf("%d: %+v", i, is[i])
			}
		}
	})
}

// silence is all brokers, of which none answers.
func silence(image *metadata.Image) map[string]error {
	all := map[string]error{}
	for b := range image.Brokers() {
		for _, l := range b.Listeners {
			all[net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))] = rpc.ErrPeerUnreachable
		}
	}
	return all
}

// What a process that is no broker records goes to the topic like all else, once, though an
// answer is lost; and what is no batch of records does not.
func TestWhatAFrontRecordsIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, false, nil)
		w := &wayIn{nodes: map[string]rpc.PeerHandler{}, silent: map[string]error{}}
		for b := range c.controller.Image().Brokers() {
			address, _ := peerAddress(b)
			w.nodes[address] = c.nodes[b.ID]
		}
		f := NewFront(c.controller.Image, w)
		sink := f.AuditSink(AuditRetention{Time: time.Hour}, c.controller, slog.New(slog.DiscardHandler)).(*auditSink)
		if first, err := sink.Append(t.Context(), [][]byte{[]byte("a"), []byte("b")}); err != nil || first != 0 {
			t.Fatalf("%d, %v", first, err)
		}
		if err := sink.prepare(t.Context(), [][]byte{[]byte("c")}); err != nil {
			t.Fatal(err)
		}
		if _, err := sink.by.append(t.Context(), slices.Clone(sink.under)); err != nil { // whose answer is lost
			t.Fatal(err)
		}
		if first, err := sink.Append(t.Context(), [][]byte{[]byte("c")}); err != nil || first != 2 {
			t.Fatalf("%d, %v", first, err)
		}
		page, err := f.ReadAudit(t.Context(), 0)
		if err != nil || page.End != 3 || len(page.Records) != 3 || string(page.Records[2].Value) != "c" {
			t.Errorf("%+v, %v", page, err)
		}
		torn := slices.Clone(wholeBatch(t))
		torn[len(torn)-1]++
		for what, b := range map[string][]byte{"nothing": {}, "zeros": make([]byte, 100), "a damaged batch": torn, "two batches": append(wholeBatch(t), wholeBatch(t)...), "a transaction's": transactional(t, 1, 0, 0, "x")} {
			if _, err := sink.by.append(t.Context(), b); err == nil {
				t.Errorf("%s: it is taken", what)
			}
		}
		if page, err := f.ReadAudit(t.Context(), 0); err != nil || page.End != 3 {
			t.Errorf("%+v, %v", page, err)
		}
	})
}

// wholeBatch is one that would be taken.
func wholeBatch(t *testing.T) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(batch.BuilderOptions{})
	w.Add(1, nil, []byte("d"))
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// older is a broker of a version before, of which an answer says what it knew.
type older struct{ answer string }

func (older) AdmitPeer(context.Context, *rpc.PeerCall) error { return nil }
func (o older) ServePeer(context.Context, *rpc.PeerCall) ([]byte, error) {
	return []byte(o.answer), nil
}

// A leader of a version before knows no filter, and shows all that it has: the asker takes out what
// is not looked for.
func TestALookAtALeaderThatKnowsNoFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, false, nil)
		if made := c.controller.CreateTopics(t.Context(), []controller.NewTopic{{Name: "events", Partitions: 1, ReplicationFactor: 1}}, false)[0]; made.Err != nil {
			t.Fatal(made.Err)
		}
		c.settle()
		w := &wayIn{nodes: map[string]rpc.PeerHandler{}}
		for b := range c.controller.Image().Brokers() {
			address, _ := peerAddress(b)
			w.nodes[address] = older{`{"answer":{"log_start":0,"high_watermark":3,"next":3,"records":[
				{"offset":0,"value":"YQ==","headers":[]},{"offset":1,"value":"Yg==","headers":[{"key":"aA==","value":"YQ=="}]},{"offset":2,"value":null,"headers":[]}]}}`}
		}
		f := NewFront(c.controller.Image, w)
		for want, match := range map[string]PeekMatch{
			"[0 1 2]": {}, "[0]": {Value: []byte("a")}, "[1]": {Value: []byte("b"), Header: []byte("h"), With: []byte("a")}, "[]": {Key: []byte("a")},
		} {
			is, err := f.Peek(t.Context(), PeekRequest{Topic: "events", From: "start", Limit: 10, Bytes: 1000, Match: match})
			if err != nil {
				t.Fatal(err)
			}
			offsets := []int64{}
			for _, r := range is.Records {
				offsets = append(offsets, r.Offset)
			}
			if got := fmt.Sprint(offsets); got != want || is.Looked != 3 || is.Next != 3 {
				t.Errorf("%+v: %s, want %s; it looked at %d", match, got, want, is.Looked)
			}
		}
	})
}

// Of a record that has no answer in time it is not known whether it is there.
func TestARecordByHandThatHasNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, false, nil)
		if made := c.controller.CreateTopics(t.Context(), []controller.NewTopic{{Name: "events", Partitions: 1, ReplicationFactor: 1}}, false)[0]; made.Err != nil {
			t.Fatal(made.Err)
		}
		c.settle()
		c.nodes[1].ServeInside(func(conn net.Conn) {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		})
		var late *GroupError
		if _, err := c.nodes[1].SendRecord(t.Context(), NewRecord{Topic: "events"}); !errors.As(err, &late) || late.Code != kerr.RequestTimedOut || !strings.Contains(late.Detail, "may be there all the same") {
			t.Errorf("%v", err)
		}
	})
}

// Tails that look without end leave a place for who looks once.
func TestTailsLeaveAPlaceForALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, false, nil)
		if made := c.controller.CreateTopics(t.Context(), []controller.NewTopic{{Name: "events", Partitions: 1, ReplicationFactor: 1}}, false)[0]; made.Err != nil {
			t.Fatal(made.Err)
		}
		c.settle()
		b := c.nodes[1].Broker
		for range tailsAtOnce { // each has both places, as peekHere takes them
			b.tails <- struct{}{}
			b.peeks <- struct{}{}
		}
		look := PeekRequest{Topic: "events", From: "start", Limit: 10, Bytes: 1000}
		if _, err := b.Peek(t.Context(), look); err != nil {
			t.Errorf("one look beside %d tails: %v", tailsAtOnce, err)
		}
		look.Skips = true
		var refused *GroupError
		if _, err := b.Peek(t.Context(), look); !errors.As(err, &refused) || refused.Code != kerr.BrokerNotAvailable {
			t.Errorf("another tail: %v", err)
		}
		<-b.tails
		if _, err := b.Peek(t.Context(), look); err != nil {
			t.Errorf("once there is a place: %v", err)
		}
	})
}
