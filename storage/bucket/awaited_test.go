package bucket

import (
	"errors"
	"testing"
)

// TestAwaitedBucketIsAwayUntilItOpens, whatever is asked of it, and never empty.
func TestAwaitedBucketIsAwayUntilItOpens(t *testing.T) {
	notYet, opened := errors.New("not mounted"), 0
	inner := Bucket(nil)
	a := NewAwaited(func() (Bucket, error) {
		if inner == nil {
			return nil, notYet
		}
		opened++
		return inner, nil
	})
	ctx, p := t.Context(), make([]byte, 1)
	all := func() []error {
		stat := func() error { _, err := a.Stat(ctx, "k"); return err }
		return []error{
			a.PutIfAbsent(ctx, "k", []byte("a")), a.Put(ctx, "k", Bytes("b")), stat(), a.ReadAt(ctx, "k", p, 0),
			a.ReadParts(ctx, "k", [][]byte{p}, 0, func(int) {}), a.List(ctx, "", "", func(Info) bool { return true }), a.Delete(ctx, "k"),
		}
	}
	for i, err := range all() {
		if !errors.Is(err, notYet) || !IsTemporary(err) || errors.Is(err, ErrNotFound) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	inner = NewMemory()
	for i, err := range all() {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	never := NewAwaited(func() (Bucket, error) { t.Error("opened after it was closed"); return nil, notYet })
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	if err := never.Delete(ctx, "k"); err == nil {
		t.Error("a closed bucket took a call")
	}
}
