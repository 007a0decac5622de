package metadata

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// transformVersion is one whose hash is of one byte.
func transformVersion(number uint32, of byte) TransformVersion {
	return TransformVersion{Number: number, SHA256: moduleHash(of), Size: 8, Spec: `{"topics":["t"]}`, Created: time.UnixMilli(int64(number)).UTC(), By: "User:u"}
}

func moduleHash(of byte) string { return strings.Repeat(string([]byte{of}), ModuleHashSize) }

func transformChange(action TransformAction, version uint32) TransformChange {
	return TransformChange{At: time.UnixMilli(9).UTC(), By: "User:v", Action: action, Version: version, Reason: "why"}
}

// drawTransforms draws a change of modules, which may not be possible.
func drawTransforms(t *rapid.T, m *Image) proto.Message {
	name := rapid.SampledFrom([]string{"m", "n", "a", ""}).Draw(t, "module")
	number := rapid.Uint32Range(0, 3).Draw(t, "number")
	hash := rapid.ByteRange(1, 3).Draw(t, "bytes")
	switch rapid.IntRange(0, 6).Draw(t, "change of modules") {
	case 0, 1, 2:
		if is, known := m.Transform(name); known {
			number = is.Issued + 1
		}
		return NewDeployTransform(name, transformVersion(max(number, 1), hash), rapid.Bool().Draw(t, "activates"), m.Offset()-uint64(rapid.IntRange(0, 1).Draw(t, "behind")))
	case 3, 4:
		return NewSetTransform(name, transformChange(TransformAction(rapid.IntRange(1, 6).Draw(t, "action")), number), nil)
	case 5:
		return NewCollectModules([]string{moduleHash(hash)}, rapid.Bool().Draw(t, "done"))
	}
	return NewDeleteTransform(name, transformChange(TransformVersionDeleted, number), rapid.Bool().Draw(t, "force"))
}

func transformLog(t testing.TB) *testLog {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: TransformsFeatureLevel})
	return l
}

func (l *testLog) deploy(name string, number uint32, of byte, activate bool) {
	l.t.Helper()
	l.accepted(NewDeployTransform(name, transformVersion(number, of), activate, l.state.Image().Offset()))
}

func shownTransform(m *Image, name string) string {
	is, known := m.Transform(name)
	if !known {
		return "none"
	}
	var versions []uint32
	for _, v := range is.Versions {
		versions = append(versions, v.Number)
	}
	return fmt.Sprint(versions, " active ", is.Active, " last ", is.Last, " previous ", is.Previous)
}

func TestTransforms(t *testing.T) {
	l := transformLog(t)
	show := func(want string) {
		t.Helper()
		if got := shownTransform(l.state.Image(), "m"); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	l.deploy("m", 1, 1, true)
	l.deploy("m", 1, 1, true) // again, for nobody knew what became of it
	l.deploy("m", 2, 2, false)
	show("[1 2] active 1 last 1 previous 0")
	l.accepted(NewSetTransform("m", transformChange(TransformEnabled, 2), nil))
	show("[1 2] active 2 last 2 previous 1")
	expected := uint32(1)
	if code := l.refusedCode(NewSetTransform("m", transformChange(TransformBudgetSpent, 1), &expected)); code != Conflict {
		t.Errorf("what is said of version 1 has disabled 2: %v", code)
	}
	expected = 2
	l.accepted(NewSetTransform("m", transformChange(TransformBudgetSpent, 2), &expected))
	show("[1 2] active 0 last 2 previous 1")
	is, _ := l.state.Image().Transform("m")
	if spent, was := is.BudgetSpent(); !was || spent.Version != 2 || spent.Reason != "why" || spent.By != "User:v" {
		t.Errorf("%+v %v", spent, was)
	}
	l.accepted(NewSetTransform("m", transformChange(TransformRolledBack, 1), nil))
	show("[1 2] active 1 last 1 previous 2")
	is, _ = l.state.Image().Transform("m")
	if _, was := is.BudgetSpent(); was {
		t.Error("its budget is spent, and it is active")
	}
	l.accepted(NewSetTransform("m", transformChange(TransformDisabled, 0), nil))
	l.accepted(NewSetTransform("m", transformChange(TransformDisabled, 0), nil)) // it is so already
	l.accepted(NewDeleteTransform("m", transformChange(TransformVersionDeleted, 2), false))
	show("[1] active 0 last 1 previous 0")
	l.deploy("m", 3, 2, false)
	is, _ = l.state.Image().Transform("m")
	var actions []string
	for _, c := range is.History {
		actions = append(actions, fmt.Sprint(c.Action, " ", c.Version))
	}
	want := []string{"deployed 1", "enabled 1", "deployed 2", "enabled 2", "disabled by its error budget 2", "rolled back 1", "disabled 1", "version deleted 2", "deployed 3"}
	if !reflect.DeepEqual(actions, want) {
		t.Errorf("history %q, not %q", actions, want)
	}
	l.accepted(NewDeleteTransform("m", transformChange(TransformVersionDeleted, 0), false))
	show("none")
}

func TestTransformsThatAreRefused(t *testing.T) {
	l := transformLog(t)
	l.deploy("m", 1, 1, true)
	with := func(change func(*TransformVersion)) proto.Message {
		v := transformVersion(2, 2)
		change(&v)
		return NewDeployTransform("m", v, false, l.state.Image().Offset())
	}
	for name, c := range map[string]struct {
		command proto.Message
		want    Code
	}{
		"a name with a point":        {NewDeployTransform("m.1", transformVersion(1, 1), false, 9), InvalidRequest},
		"no name":                    {NewDeployTransform("", transformVersion(1, 1), false, 9), InvalidRequest},
		"a name of 65 bytes":         {NewDeployTransform(strings.Repeat("m", 65), transformVersion(1, 1), false, 9), InvalidRequest},
		"not the next":               {with(func(v *TransformVersion) { v.Number = 3 }), Conflict},
		"a number that another has":  {with(func(v *TransformVersion) { v.Number = 1 }), Conflict},
		"a hash of 31 bytes":         {with(func(v *TransformVersion) { v.SHA256 = v.SHA256[1:] }), InvalidRequest},
		"no bytes":                   {with(func(v *TransformVersion) { v.Size = 0 }), InvalidRequest},
		"too many bytes":             {with(func(v *TransformVersion) { v.Size = MaxModuleBytes + 1 }), InvalidRequest},
		"a specification, not JSON":  {with(func(v *TransformVersion) { v.Spec = "{" }), InvalidRequest},
		"a long specification":       {with(func(v *TransformVersion) { v.Spec = `"` + strings.Repeat("x", MaxTransformSpec) + `"` }), InvalidRequest},
		"enabling none":              {NewSetTransform("n", transformChange(TransformEnabled, 1), nil), ResourceNotFound},
		"enabling no version":        {NewSetTransform("m", transformChange(TransformEnabled, 2), nil), ResourceNotFound},
		"a long reason":              {NewSetTransform("m", TransformChange{At: time.UnixMilli(1), Action: TransformDisabled, Reason: strings.Repeat("x", MaxTransformReason+1)}, nil), InvalidRequest},
		"an action that is none":     {NewSetTransform("m", transformChange(7, 1), nil), InvalidRequest},
		"an action that sets none":   {NewSetTransform("m", transformChange(TransformDeployed, 1), nil), InvalidRequest},
		"deleting none":              {NewDeleteTransform("n", transformChange(TransformVersionDeleted, 0), false), ResourceNotFound},
		"deleting no version":        {NewDeleteTransform("m", transformChange(TransformVersionDeleted, 2), false), ResourceNotFound},
		"deleting what is active":    {NewDeleteTransform("m", transformChange(TransformVersionDeleted, 1), false), PolicyViolation},
		"deleting all that is there": {NewDeleteTransform("m", transformChange(TransformVersionDeleted, 0), false), PolicyViolation},
		"collecting what is named":   {NewCollectModules([]string{moduleHash(1)}, false), Conflict},
		"collecting half a hash":     {NewCollectModules([]string{moduleHash(9)[1:]}, false), InvalidRequest},
		"done, and not condemned":    {NewCollectModules([]string{moduleHash(9)}, true), Conflict},
	} {
		if code := l.refusedCode(c.command); code != c.want {
			t.Errorf("%s: %v, not %v", name, code, c.want)
		}
	}
	l.accepted(NewDeleteTransform("m", transformChange(TransformVersionDeleted, 0), true))
}

// A module whose error budget is spent is what its records meet, until somebody decides: however
// much is deployed meanwhile, and it is not deleted in passing.
func TestSpentBudgetStandsUntilSomebodyDecides(t *testing.T) {
	for name, decide := range map[string]proto.Message{
		"enabled":           NewSetTransform("m", transformChange(TransformEnabled, 2), nil),
		"rolled back":       NewSetTransform("m", transformChange(TransformRolledBack, 1), nil),
		"disabled":          NewSetTransform("m", transformChange(TransformDisabled, 0), nil),
		"deleted by force":  NewDeleteTransform("m", transformChange(TransformVersionDeleted, 2), true),
		"another is active": NewDeployTransform("m", transformVersion(MaxTransformHistory+13, 3), true, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			l := transformLog(t)
			l.deploy("m", 1, 1, true)
			l.deploy("m", 2, 2, true)
			l.accepted(NewSetTransform("m", transformChange(TransformBudgetSpent, 2), nil))
			for number := uint32(3); number < MaxTransformHistory+13; number++ {
				l.deploy("m", number, byte(number), false)
			}
			if is, _ := l.state.Image().Transform("m"); is.Stands() != 2 || is.Active != 0 || len(is.History) != MaxTransformHistory {
				t.Fatalf("version %d stands, %d is active, a history of %d", is.Stands(), is.Active, len(is.History))
			}
			for _, number := range []uint32{0, 2} {
				if code := l.refusedCode(NewDeleteTransform("m", transformChange(TransformVersionDeleted, number), false)); code != PolicyViolation {
					t.Errorf("deleting version %d: %v", number, code)
				}
			}
			l.accepted(NewSetTransform("m", transformChange(TransformBudgetSpent, 2), nil)) // another node, later
			l.accepted(decide)
			is, _ := l.state.Image().Transform("m")
			if _, spent := is.BudgetSpent(); spent || is.Stands() != is.Active {
				t.Errorf("its budget is spent, and version %d stands", is.Stands())
			}
		})
	}
}

func TestTransformsNeedTheirFeatureLevel(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: TransformsFeatureLevel - 1})
	if _, err := Encode(l.state.Image(), NewDeployTransform("m", transformVersion(1, 1), true, 1)); CodeOf(err) != UnsupportedVersion {
		t.Error(err)
	}
}

// Ten versions are kept, and among them those that are active or were.
func TestOldVersionsGo(t *testing.T) {
	l := transformLog(t)
	l.deploy("m", 1, 1, true)
	l.deploy("m", 2, 2, true)
	for number := uint32(3); number <= 14; number++ {
		l.deploy("m", number, byte(number), false)
	}
	if got := shownTransform(l.state.Image(), "m"); got != "[1 2 7 8 9 10 11 12 13 14] active 2 last 2 previous 1" {
		t.Error(got)
	}
	if unnamed := l.state.Image().transforms.unnamed.len(); unnamed != 4 {
		t.Errorf("bytes of %d versions have no name", unnamed)
	}
	for range MaxTransformHistory {
		l.accepted(NewSetTransform("m", transformChange(TransformEnabled, 1), nil))
		l.accepted(NewSetTransform("m", transformChange(TransformRolledBack, 2), nil))
	}
	if is, _ := l.state.Image().Transform("m"); len(is.History) != MaxTransformHistory {
		t.Errorf("a history of %d", len(is.History))
	}
}

func TestTransformsAreBounded(t *testing.T) {
	l := transformLog(t)
	m := *l.state.Image()
	for i := range MaxTransforms {
		m.transforms.names = m.transforms.names.put(fmt.Sprint(i), &Transform{Name: fmt.Sprint(i), Issued: 1, Versions: []TransformVersion{transformVersion(1, 1)}})
	}
	for i := range maxUnnamedModules {
		m.transforms.unnamed = m.transforms.unnamed.put(fmt.Sprintf("%032d", i), false)
	}
	l.state.image.Store(&m)
	if code := l.refusedCode(NewDeployTransform("m", transformVersion(1, 1), false, m.Offset())); code != PolicyViolation {
		t.Errorf("one more: %v", code)
	}
	l.deploy("1", 2, 7, false)
	if code := l.refusedCode(NewDeleteTransform("1", transformChange(TransformVersionDeleted, 2), false)); code != PolicyViolation {
		t.Errorf("one more that nothing names: %v", code)
	}
}

// Bytes are deleted from the bucket only while no version has them, nor can have them soon.
func TestModulesAreCollectedOnlyWhileNothingHasThem(t *testing.T) {
	l := transformLog(t)
	l.deploy("m", 1, 1, true)
	l.deploy("n", 1, 1, false)
	l.accepted(NewDeleteTransform("m", transformChange(TransformVersionDeleted, 0), true))
	if l.state.Image().transforms.unnamed.len() != 0 {
		t.Fatal("what another has is unnamed")
	}
	l.accepted(NewDeleteTransform("n", transformChange(TransformVersionDeleted, 0), false))
	l.deploy("m", 1, 1, false) // before it is condemned
	l.accepted(NewDeleteTransform("m", transformChange(TransformVersionDeleted, 0), false))
	looked := l.state.Image().Offset() // and found them in the bucket
	l.accepted(NewCollectModules([]string{moduleHash(1), moduleHash(2)}, false))
	for _, seen := range []uint64{looked, l.state.Image().Offset()} {
		if code := l.refusedCode(NewDeployTransform("m", transformVersion(1, 1), false, seen)); code != Conflict {
			t.Errorf("bytes that are being deleted are named: %v", code)
		}
	}
	l.accepted(NewCollectModules([]string{moduleHash(1), moduleHash(2)}, true))
	if code := l.refusedCode(NewDeployTransform("m", transformVersion(1, 1), false, looked)); code != Conflict {
		t.Errorf("bytes that were there, and are deleted, are named: %v", code)
	}
	l.deploy("m", 1, 1, false)
}

func TestTransformsInSnapshotAndDelta(t *testing.T) {
	is := sampleWithObjects(t).Image()
	restored := NewState()
	if err := restored.Restore(is.Snapshot()); err != nil {
		t.Fatal(err)
	}
	got := restored.Image()
	if shownTransform(got, "a") != "[1 2] active 1 last 1 previous 0" || shownTransform(got, "b") != "[1] active 0 last 0 previous 0" {
		t.Error(shownTransform(got, "a"), shownTransform(got, "b"))
	}
	want, _ := is.Transform("a")
	if a, _ := got.Transform("a"); !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, not %+v", a, want)
	}
	if condemned, known := got.transforms.unnamed.get(moduleHash(3)); !known || condemned {
		t.Error("what nothing names is named")
	}
	view := NewView()
	if err := view.Apply(EncodeDelta(nil, is, 1)); err != nil {
		t.Fatal(err)
	}
	if a, _ := view.Image().Transform("a"); !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, not %+v", a, want)
	}
}
