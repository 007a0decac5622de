package rpc_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus"
	"rustmq.dev/rustmq/transport/rpc"
)

// TestPeerThatHasGoneIsTold holds that the end of a process is told at once, without
// anything to send it; that a line which is made anew is not; nor is one that is cut, for
// nobody can tell that from a slow one.
func TestPeerThatHasGoneIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		taken := rpc.NewRaft(h.options(2))
		taken.Attach(&deaf{})
		server := h.listen(2, taken)
		net, node := rpc.NewRaft(h.options(1)), &deaf{}
		net.Attach(node)
		send := func() {
			m := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(2)}
			net.Send(consensus.Message{From: member(1), To: member(2), Raft: m})
			synctest.Wait()
		}
		end := func() { // every connection, and the port
			h.mu.Lock()
			delete(h.doors, address(2))
			h.mu.Unlock()
			server.Stop()
		}
		told := func(what string, want ...uint64) {
			t.Helper()
			synctest.Wait()
			node.mu.Lock()
			defer node.mu.Unlock()
			if fmt.Sprint(node.gone) != fmt.Sprint(want) {
				t.Errorf("%s: told that %v have gone, want %v", what, node.gone, want)
			}
			node.gone = nil
		}
		send()
		told("while it is there")
		old := server
		server = h.listen(2, taken)
		old.Stop()
		told("its line broke, and stands again")
		send()
		end()
		told("it has gone", 2)
		time.Sleep(time.Minute) // simulated
		send()
		told("it is away still")
		server = h.listen(2, taken)
		time.Sleep(time.Minute) // simulated
		send()
		end()
		told("it came, and went", 2)
		server = h.listen(2, taken)
		time.Sleep(time.Minute) // simulated
		send()
		h.mu.Lock()
		h.cut[address(2)] = true
		h.mu.Unlock()
		send()
		time.Sleep(time.Minute) // simulated
		told("it is cut off")
		server.Stop()
		if err := errors.Join(net.Close(), taken.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestControllersReplaceOneThatHasGone takes the leader away, over the network.
func TestControllersReplaceOneThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2, 3)
		h.start(1, 2, 3)
		defer h.stopAll()
		h.propose(h.leader(), "a")
		h.agree()
		for id, r := range h.rooms {
			if r != h.leader() {
				continue
			}
			h.mu.Lock()
			delete(h.doors, address(id))
			h.mu.Unlock()
			r.server.Stop()
			if err := r.net.Close(); err != nil { // nothing more comes from it, either
				t.Error(err)
			}
			began := time.Now()
			h.leader(id)
			if took := time.Since(began); took >= consensus.DefaultTick*consensus.DefaultElectionTicks {
				t.Errorf("another led after %v", took)
			}
			return
		}
	})
}

// TestPeerThatIsAwayIsWatchedOnce: where a peer may be at one of two addresses, and is at
// none, the tries to reach it leave nothing behind.
func TestPeerThatIsAwayIsWatchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		o, asked := h.options(1), 0
		o.Address = func(uint64) (string, bool) {
			asked++
			return fmt.Sprint("nobody-", asked%2), true
		}
		net := rpc.NewRaft(o)
		net.Attach(&deaf{})
		send := func(times int) int {
			for range times {
				m := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(2)}
				net.Send(consensus.Message{From: member(1), To: member(2), Raft: m})
				time.Sleep(time.Second) // simulated
			}
			synctest.Wait()
			return runtime.NumGoroutine()
		}
		few := send(10)
		if many := send(100); many > few+10 {
			t.Errorf("%d goroutines after 10 tries, %d after 100 more", few, many)
		}
		if err := net.Close(); err != nil {
			t.Error(err)
		}
		if asked < 100 {
			t.Errorf("the peer was tried %d times; the test is of no use", asked)
		}
	})
}
