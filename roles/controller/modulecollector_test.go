package controller

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"reflect"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// namedOnes is an image of names alone.
type namedOnes struct {
	offset  uint64
	named   string          // of one byte each
	unnamed map[string]bool // condemned
}

func (n namedOnes) Offset() uint64               { return n.offset }
func (n namedOnes) NamesModule(hash string) bool { return n.named == hash }
func (n namedOnes) UnnamedModules() iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		for h, c := range n.unnamed {
			if !yield(h, c) {
				return
			}
		}
	}
}

// What nothing names is condemned a grace after that is first seen, and deleted once the
// bucket has the word of it.
func TestWhenModulesAreDeleted(t *testing.T) {
	now := time.Unix(0, 0)
	c := newModuleCollector(time.Minute)
	step := func(image namedOnes, shipped uint64, want moduleCollection) {
		t.Helper()
		if got := c.step(now, image, shipped); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, not %+v", got, want)
		}
	}
	waits := namedOnes{offset: 5, named: "a", unnamed: map[string]bool{"b": false}}
	step(waits, 5, moduleCollection{})
	c.listed([]string{"a", "b", "x"})
	now = now.Add(59 * time.Second)
	step(waits, 5, moduleCollection{})
	now = now.Add(time.Second)
	step(waits, 5, moduleCollection{Condemn: []string{"b"}})
	now = now.Add(time.Minute) // x was seen later
	goes := namedOnes{offset: 9, named: "a", unnamed: map[string]bool{"b": true}}
	step(goes, 8, moduleCollection{Condemn: []string{"x"}, Ship: 9})
	goes.offset = 12
	step(goes, 9, moduleCollection{Condemn: []string{"x"}, Delete: []string{"b"}})
	// It has come to be named meanwhile: from then on it waits anew.
	c.listed([]string{"a", "x"})
	step(namedOnes{offset: 13, named: "x"}, 13, moduleCollection{})
	c.listed([]string{"x"})
	step(namedOnes{offset: 14}, 14, moduleCollection{})
}

func deployed(k *kept, name string, number uint32, content string) string {
	k.t.Helper()
	sum := sha256.Sum256([]byte(content))
	hash := string(sum[:])
	key := object.ModuleKey("p", k.c.Image().ClusterID(), hash)
	seen := k.c.Image().Offset()
	if err := k.memory.Put(k.t.Context(), key, bucket.Bytes(content)); err != nil {
		k.t.Fatal(err)
	}
	v := metadata.TransformVersion{Number: number, SHA256: hash, Size: int64(len(content)), Spec: "{}", Created: time.Now(), By: "User:u"}
	if err := k.c.DeployTransform(k.t.Context(), name, v, true, seen); err != nil {
		k.t.Fatal(err)
	}
	return key
}

// Modules that nothing names leave the bucket in the end, also such as never were; others stay,
// whatever checks and audits of the objects run beside.
func TestModulesLeaveTheBucket(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		there := func(key string) bool {
			t.Helper()
			_, err := k.memory.Stat(t.Context(), key)
			if err != nil && !errors.Is(err, bucket.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		stays, goes := deployed(k, "stays", 1, "a"), deployed(k, "goes", 1, "b")
		orphan := object.ModuleKey("p", k.c.Image().ClusterID(), string(make([]byte, 32)))
		k.put(orphan)
		pass(2 * keptAudit)
		if there(orphan) {
			t.Error("a module that nothing ever named is there after two audits")
		}
		if err := k.c.DeleteTransform(t.Context(), "goes", metadata.TransformChange{At: time.Now(), By: "User:u", Action: metadata.TransformVersionDeleted}, true); err != nil {
			t.Fatal(err)
		}
		pass(keptGrace / 2)
		if !there(goes) {
			t.Error("a module is deleted before its grace is over")
		}
		pass(2 * keptGrace)
		if there(goes) || !there(stays) {
			t.Errorf("what nothing names is there: %v; what is named: %v", there(goes), there(stays))
		}
		for hash, condemned := range k.c.Image().UnnamedModules() {
			t.Errorf("module %x waits for being deleted: %v", hash, condemned)
		}
		report, err := k.c.CheckBucket(t.Context(), CheckRequest{})
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("a check finds %+v: %v", report, err)
		}
		deployed(k, "goes", 1, "b")
	})
}

func TestBudgetOfATransformIsSpentOnce(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		deployed(k, "m", 1, "a")
		deployed(k, "m", 2, "b")
		if err := k.c.SpendTransformBudget(t.Context(), "m", 1, "broker 7", "late"); metadata.CodeOf(err) != metadata.Conflict {
			t.Errorf("version 1 is not active, and was disabled: %v", err)
		}
		for range 2 {
			if err := k.c.SpendTransformBudget(t.Context(), "m", 2, "broker 7", "20 failures"); err != nil {
				t.Error(err)
			}
		}
		is, _ := k.c.Image().Transform("m")
		spent, was := is.BudgetSpent()
		if !was || spent.By != "broker 7" || spent.Reason != "20 failures" || spent.Version != 2 || len(is.History) != 5 {
			t.Errorf("%+v", is)
		}
		for _, change := range []metadata.TransformAction{metadata.TransformRolledBack, metadata.TransformDisabled} {
			if err := k.c.SetTransform(t.Context(), "m", metadata.TransformChange{At: time.Now(), By: "User:u", Action: change, Version: 1}); err != nil {
				t.Error(err)
			}
		}
	})
}

// Who is fenced while modules are deleted deletes no more.
func TestFencedControllersDeleteNoModules(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		keys := []string{deployed(k, "a", 1, "a"), deployed(k, "b", 1, "b")}
		for _, name := range []string{"a", "b"} {
			if err := k.c.DeleteTransform(t.Context(), name, metadata.TransformChange{At: time.Now(), Action: metadata.TransformVersionDeleted}, true); err != nil {
				t.Fatal(err)
			}
		}
		k.bucket.Set(bucket.Rule{Op: bucket.OpDelete, Limit: 1, Hook: func(context.Context, bucket.Op, string) error {
			_ = k.c.keeper().shipper.fence(&FencedError{Reason: "found meanwhile"})
			return nil
		}})
		pass(30 * time.Minute)
		left := 0
		for _, key := range keys {
			if _, err := k.memory.Stat(t.Context(), key); err == nil {
				left++
			}
		}
		if left != 1 {
			t.Errorf("%d of 2 modules are left, and the first deletion was the last", left)
		}
	})
}
