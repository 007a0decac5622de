package door

import (
	"sync"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
)

// TestStreamsShareADifference: what all brokers are to be told is found once, however
// many ask at the same time, and what nobody is likely to ask for again is let go of.
func TestStreamsShareADifference(t *testing.T) {
	images := make([]*metadata.Image, keptDifferences+2)
	for i := range images {
		images[i] = metadata.NewState().Image()
	}
	var d differences
	got := make([]*metadata.Difference, 50)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i] = d.between(images[0], images[1]) })
	}
	all.Wait()
	for i := range got {
		if got[i] == nil || got[i] != got[0] {
			t.Fatal("two streams were given differences of their own")
		}
	}
	for i := range images[1:] {
		if d.between(images[i], images[i+1]) == nil {
			t.Fatal("none")
		}
	}
	if len(d.kept) != keptDifferences {
		t.Errorf("%d are kept, want %d", len(d.kept), keptDifferences)
	}
	if d.between(images[0], images[1]) == got[0] {
		t.Error("the first is kept still")
	}
}
