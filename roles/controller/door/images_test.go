package door

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/transport/rpc"
)

// shown records the images that a door is given.
type shown struct {
	mu      sync.Mutex
	offsets []uint64
	leaders []int32
}

func watch(t *testing.T, d *Door) *shown {
	s := new(shown)
	t.Cleanup(d.Subscribe(func(image *metadata.Image) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.offsets = append(s.offsets, image.Offset())
		s.leaders = append(s.leaders, image.ControllerID())
	}))
	return s
}

// inOrder says whether none is older than one before, and how many there are.
func (s *shown) inOrder(t *testing.T) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.offsets); i++ {
		if s.offsets[i] < s.offsets[i-1] {
			t.Errorf("the image went back from %d to %d", s.offsets[i-1], s.offsets[i])
		}
	}
	return len(s.offsets)
}

func TestImageNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		d := h.door(h.options(1, 2))
		seen := watch(t, d)
		h.broker(d, 7)
		create(t, d, "old")
		h.member(2).lag(true)
		create(t, d, "new")
		offset := d.Image().Offset()
		h.kill(1) // what is left has less
		<-time.After(5 * time.Second)
		if d.Image().Offset() != offset {
			t.Errorf("the image is at %d, and was at %d", d.Image().Offset(), offset)
		}
		h.elect(2)
		h.member(2).lag(false)
		create(t, d, "newer")
		if n := seen.inOrder(t); n < 4 {
			t.Errorf("%d images were shown", n)
		}
	})
}

// Where deltas come from is changed without anything being sent anew.
func TestImagesGoOnElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2, 3)
		d := h.door(h.options(1, 2, 3))
		seen := watch(t, d)
		h.broker(d, 7)
		for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
			id := int32(1 + i%3)
			h.kill(id)
			h.start(id)
			h.elect(1 + id%3)
			create(t, d, name)
		}
		<-time.After(time.Second)
		seen.inOrder(t)
		if is, want := d.Image(), h.real.Image(); is.Offset() != want.Offset() || is.NumTopics() != want.NumTopics() {
			t.Errorf("the image is at %d with %d topics, want %d with %d", is.Offset(), is.NumTopics(), want.Offset(), want.NumTopics())
		}
	})
}

// A controller that has lost touch with the others is left for one that has not.
func TestControllerWithoutALeaderIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		o := h.options(1, 2)
		o.Broker = 6 // begins with the first
		d := h.door(o)
		h.broker(d, 7)
		cut := h.member(1)
		cut.lag(true)
		cut.alone.Store(true)
		h.elect(2)
		create(t, d, "t") // not before the image has it
		if image := d.Image(); image.ControllerID() != 2 {
			t.Errorf("controller %d leads by the image", image.ControllerID())
		}
	})
}

func TestImageTellsWhoLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1, 2)
		d := h.door(h.options(1, 2))
		seen := watch(t, d)
		for _, id := range []int32{2, 1, 0, 2} {
			h.elect(id)
			<-time.After(2 * rpc.ImagesBeat)
			want := id
			if id == 0 {
				want = metadata.NoLeader
			}
			if is := d.Image().ControllerID(); is != want {
				t.Errorf("controller %d leads by the image, want %d", is, want)
			}
		}
		if n := seen.inOrder(t); n < 5 {
			t.Errorf("%d images were shown", n)
		}
	})
}

var errEnough = errors.New("enough")

// tailOf returns the first n deltas that a server sends.
func tailOf(t *testing.T, s *Server, offset uint64, whole bool, n int, between func(i int)) (deltas [][]byte, states []rpc.ImagesState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Images(ctx, 7, offset, whole, func(state rpc.ImagesState, delta []byte) error {
		states = append(states, state)
		if delta == nil {
			return nil
		}
		deltas = append(deltas, delta)
		if len(deltas) == n {
			return errEnough
		}
		between(len(deltas))
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("%d deltas, then %v", len(deltas), err)
	}
	return deltas, states
}

func TestWhoComesBackIsSentWhatHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		h.broker(d, 7)
		s := h.member(1).server
		view := metadata.NewView()
		whole, _ := tailOf(t, s, 0, true, 1, nil)
		if err := view.Apply(whole[0]); err != nil {
			t.Fatal(err)
		}
		create(t, d, "t")
		rest, _ := tailOf(t, s, view.Image().Offset(), false, 1, nil)
		if err := metadata.NewView().Apply(rest[0]); !errors.Is(err, metadata.ErrUnfit) {
			t.Errorf("a delta by itself: %v; it was whole", err)
		}
		if err := view.Apply(rest[0]); err != nil || view.Image().NumTopics() != 1 {
			t.Errorf("%d topics, %v", view.Image().NumTopics(), err)
		}
		// What it has is not known here, or it asks for all.
		old := view.Image().Offset()
		for i := range ringImages + 1 {
			if err := d.DrainBroker(t.Context(), 7, i%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, ask := range []struct {
			offset uint64
			whole  bool
		}{{old, false}, {h.real.Image().Offset(), true}} {
			again, _ := tailOf(t, s, ask.offset, ask.whole, 1, nil)
			if err := metadata.NewView().Apply(again[0]); err != nil {
				t.Errorf("from %d: %v; it was not whole", ask.offset, err)
			}
		}
	})
}

func TestLaggingControllerShowsNothingOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		h.broker(d, 7)
		offset := h.real.Image().Offset()
		ahead := offset + 2
		time.AfterFunc(10*time.Second, func() {
			for _, draining := range []bool{true, false} {
				if err := h.real.DrainBroker(context.Background(), 7, draining); err != nil {
					t.Error(err)
				}
			}
		})
		deltas, states := tailOf(t, h.member(1).server, ahead, false, 1, nil)
		view := metadata.NewView()
		if err := view.Apply(deltas[0]); err != nil || view.Image().Offset() < ahead {
			t.Errorf("it began at %d, and %d was there; %v", view.Image().Offset(), ahead, err)
		}
		if n := len(states); n < 15 || states[0].Offset != offset || states[0].Leader != 1 {
			t.Errorf("%d states, the first %+v", n, states[0])
		}
	})
}

// Who does not read is not waited for, and is sent the latest in one.
func TestSlowReaderIsSentTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		h.broker(d, 7)
		deltas, _ := tailOf(t, h.member(1).server, 0, true, 2, func(int) {
			for _, name := range []string{"a", "b", "c", "d"} {
				create(t, d, name)
			}
		})
		view := metadata.NewView()
		for _, delta := range deltas {
			if err := view.Apply(delta); err != nil {
				t.Fatal(err)
			}
		}
		if n := view.Image().NumTopics(); n != 4 {
			t.Errorf("%d topics after two deltas", n)
		}
	})
}

// A broker's own slice has the ranges of what it hosts alone.
func TestBrokerIsShownItsSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 1)
		d := h.door(h.options(1))
		o := h.options(1)
		o.Broker = 8
		other := h.door(o)
		epoch := h.broker(d, 7)
		if err := d.CreateTopics(t.Context(), []controller.NewTopic{{
			Name: "t", Partitions: -1, ReplicationFactor: -1, Assignments: []controller.Assignment{{Partition: 0, Replicas: []int32{7}}},
		}}, false)[0].Err; err != nil {
			t.Fatal(err)
		}
		is := mustTopic(t, d, "t")
		id, err := d.PrepareObjects(t.Context(), 7, epoch, 1)
		if err != nil {
			t.Fatal(err)
		}
		at := metadata.PartitionRange{Range: metadata.Range{Base: 0, End: 10, Bytes: 100, MaxTimestamp: 1, IndexPosition: 100, IndexLength: 10, Epoch: is.Partition(0).LeaderEpoch}}
		at.Partition.Topic = is.ID
		results, err := d.CommitObject(t.Context(), 7, epoch, id, 1000, []metadata.PartitionRange{at})
		if err != nil || len(results) != 1 || results[0] != nil {
			t.Fatalf("commit: %v, %v", results, err)
		}
		<-time.After(time.Second)
		if n := mustTopic(t, d, "t").Partition(0).Ranges().Len(); n != 1 {
			t.Errorf("the replica sees %d ranges", n)
		}
		if n := mustTopic(t, other, "t").Partition(0).Ranges().Len(); n != 0 {
			t.Errorf("another broker sees %d ranges", n)
		}
	})
}
