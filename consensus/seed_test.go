package consensus

import (
	"context"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage/disk"
)

// TestSeededMemberGoesOn: a directory that was seeded opens as a member alone, with the
// state it was given, behind the index and term; and nothing is seeded over it.
func TestSeededMemberGoesOn(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	was := &register{indexes: []uint64{3}, commands: []string{"before"}}
	const index, term = 1 << 40, 9
	seed := SeedOptions{Member: Member{ID: 1, Directory: [16]byte{1}}, Index: index, Term: term, State: was.Snapshot()(), FS: fs}
	if err := Seed(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	if err := Seed(t.Context(), seed); err == nil || !strings.Contains(err.Error(), "raft/ has a metadata log") {
		t.Errorf("seeded again: %v", err)
	}
	for round := range 2 { // the second starts from what the first left
		sm := &register{}
		opt := options(fs, sm)
		opt.LogCapacity = 0
		opt.Joined, opt.Peers, opt.Network = true, []uint64{2, 3}, deaf{}
		n, err := Open(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Propose(t.Context(), []byte("after")); err != nil {
			t.Fatal(err)
		}
		sm.mu.Lock()
		if len(sm.commands) != 2+round || sm.commands[0] != "before" || sm.indexes[1] <= index {
			t.Errorf("commands %q at %d", sm.commands, sm.indexes)
		}
		sm.mu.Unlock()
		if s := n.Status(); s.Term <= term || s.Leader != 1 || !s.Member {
			t.Errorf("status %+v", s)
		}
		closeNode(t, n)
	}
}

// deaf is a network without anybody.
type deaf struct{}

func (deaf) Attach(Receiver)                              {}
func (deaf) Send(Message)                                 {}
func (deaf) Hello(context.Context, uint64) (Hello, error) { return Hello{}, ErrStarting }
