package roles

import (
	"fmt"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/disk"
)

// A start compiles nothing anew of what is active, however much that is, and what is not does
// not stay for ever.
func TestCompiledCodeOfAllThatCanBeActiveIsKept(t *testing.T) {
	fs := disk.NewMem(disk.MemOptions{})
	c := codeFiles{fs, "cache"}
	for _, generation := range []string{"before", "now"} {
		for i := range metadata.MaxTransforms {
			if err := c.Put(fmt.Sprint(generation, i), []byte(generation)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range metadata.MaxTransforms {
		if _, there := c.Get(fmt.Sprint("now", i)); !there {
			t.Fatalf("of module %d there is no code", i)
		}
	}
	if names, err := fs.List("cache"); err != nil || len(names) != metadata.MaxTransforms {
		t.Errorf("%d files are kept, %v", len(names), err)
	}
}
