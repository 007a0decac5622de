package metadata

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// credential is one whose salt and keys are of one byte each.
func credential(mechanism ScramMechanism, of byte) ScramCredential {
	key := bytes.Repeat([]byte{of}, mechanism.keySize())
	return ScramCredential{Mechanism: mechanism, Iterations: minScramIterations, Salt: bytes.Repeat([]byte{of}, minSaltBytes), StoredKey: key, ServerKey: key}
}

// drawUsers draws changes of users, some of which cannot be.
func drawUsers(t *rapid.T) proto.Message {
	var changes []UserChange
	for range rapid.IntRange(0, 3).Draw(t, "users") {
		c := UserChange{User: rapid.SampledFrom([]string{"a", "b", "c", ""}).Draw(t, "user")}
		for range rapid.IntRange(0, 2).Draw(t, "sets") {
			is := credential(rapid.SampledFrom(ScramMechanisms()).Draw(t, "mechanism"), rapid.Byte().Draw(t, "of"))
			is.Iterations += rapid.Int32Range(-1, 1).Draw(t, "iterations")
			c.Set = append(c.Set, is)
		}
		if rapid.Bool().Draw(t, "removes") {
			c.Remove = append(c.Remove, rapid.SampledFrom(ScramMechanisms()).Draw(t, "removed"))
		}
		changes = append(changes, c)
	}
	return NewAlterUsers(changes, bytes.Repeat([]byte{rapid.Byte().Draw(t, "secret")}, fakeSecretSize))
}

func userLog(t testing.TB) *testLog {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: SecurityFeatureLevel})
	return l
}

// alter applies one command, and returns the codes of its changes.
func (l *testLog) alterUsers(secret byte, changes ...UserChange) []Code {
	l.t.Helper()
	var codes []Code
	for _, err := range l.accepted(NewAlterUsers(changes, bytes.Repeat([]byte{secret}, fakeSecretSize))).(UserResults) {
		code := Code(0)
		if err != nil {
			code = CodeOf(err)
		}
		codes = append(codes, code)
	}
	return codes
}

// shownUsers writes down who is there, with the first byte of their keys.
func shownUsers(m *Image) string {
	var all []string
	for u := range m.Users() {
		one := u.Name
		for _, c := range u.Credentials {
			one += " " + c.Mechanism.String() + "/" + strconv.Itoa(int(c.Iterations)) + "/"
			if !c.Lost() {
				one += strconv.Itoa(int(c.StoredKey[0]))
			}
		}
		all = append(all, one)
	}
	return strings.Join(all, "; ")
}

func TestUsers(t *testing.T) {
	l := userLog(t)
	a, b := credential(ScramSHA256, 1), credential(ScramSHA512, 2)
	for _, step := range []struct {
		name    string
		changes []UserChange
		codes   []Code
		users   string
	}{
		{"two at once, the stronger first", []UserChange{{User: "alice", Set: []ScramCredential{b, a}}, {User: "bob", Set: []ScramCredential{a}}}, []Code{0, 0},
			"alice SCRAM-SHA-256/4096/1 SCRAM-SHA-512/4096/2; bob SCRAM-SHA-256/4096/1"},
		{"another password", []UserChange{{User: "bob", Set: []ScramCredential{credential(ScramSHA256, 9)}}}, []Code{0},
			"alice SCRAM-SHA-256/4096/1 SCRAM-SHA-512/4096/2; bob SCRAM-SHA-256/4096/9"},
		{"one that cannot be, beside one that can", []UserChange{{User: "alice", Remove: []ScramMechanism{ScramSHA512}, Set: []ScramCredential{{Mechanism: ScramSHA256, Iterations: 1}}}, {User: "carol", Set: []ScramCredential{b}}},
			[]Code{UnacceptableCredential, 0}, "alice SCRAM-SHA-256/4096/1 SCRAM-SHA-512/4096/2; bob SCRAM-SHA-256/4096/9; carol SCRAM-SHA-512/4096/2"},
		{"removed", []UserChange{{User: "alice", Remove: []ScramMechanism{ScramSHA512}}, {User: "bob", Remove: []ScramMechanism{ScramSHA256}}}, []Code{0, 0},
			"alice SCRAM-SHA-256/4096/1; carol SCRAM-SHA-512/4096/2"},
		{"removed again", []UserChange{{User: "alice", Remove: []ScramMechanism{ScramSHA512}}, {User: "bob", Remove: []ScramMechanism{ScramSHA256}}}, []Code{ResourceNotFound, ResourceNotFound},
			"alice SCRAM-SHA-256/4096/1; carol SCRAM-SHA-512/4096/2"},
		{"nobody", []UserChange{{Set: []ScramCredential{a}}, {User: strings.Repeat("x", MaxUserBytes+1), Set: []ScramCredential{a}}}, []Code{UnacceptableCredential, UnacceptableCredential},
			"alice SCRAM-SHA-256/4096/1; carol SCRAM-SHA-512/4096/2"},
	} {
		if codes := l.alterUsers(7, step.changes...); !slices.Equal(codes, step.codes) {
			t.Errorf("%s: %v", step.name, codes)
		}
		if got := shownUsers(l.state.Image()); got != step.users {
			t.Errorf("%s: %s", step.name, got)
		}
	}
	for name, bad := range map[string]ScramCredential{
		"no mechanism": {Mechanism: 3, Iterations: minScramIterations},
		"iterations":   func() ScramCredential { c := a; c.Iterations = maxScramIterations + 1; return c }(),
		"salt":         func() ScramCredential { c := a; c.Salt = c.Salt[1:]; return c }(),
		"keys":         func() ScramCredential { c := a; c.ServerKey = c.ServerKey[1:]; return c }(),
		"keys of 512":  func() ScramCredential { c := b; c.Mechanism = ScramSHA256; return c }(),
	} {
		if codes := l.alterUsers(7, UserChange{User: "alice", Set: []ScramCredential{bad}}); codes[0] != UnacceptableCredential {
			t.Errorf("%s: %v", name, codes)
		}
	}
}

// The secret stays: salts of who is not there must not change.
func TestFakeSecretStays(t *testing.T) {
	l := userLog(t)
	l.alterUsers(1, UserChange{User: "a", Set: []ScramCredential{credential(ScramSHA256, 1)}})
	l.alterUsers(2, UserChange{User: "b", Set: []ScramCredential{credential(ScramSHA256, 1)}})
	if got := l.state.Image().FakeSecret(); !bytes.Equal(got, bytes.Repeat([]byte{1}, fakeSecretSize)) {
		t.Errorf("%v", got)
	}
}

func TestUsersAreBounded(t *testing.T) {
	l := userLog(t)
	m := *l.state.Image()
	name := func(i int) string { return "u" + strconv.Itoa(i) }
	for i := range maxUsers {
		m.users = m.users.put(name(i), &User{Name: name(i), Credentials: []ScramCredential{credential(ScramSHA256, 1)}})
	}
	l.state.image.Store(&m)
	set := []ScramCredential{credential(ScramSHA512, 2)}
	if codes := l.alterUsers(1, UserChange{User: name(maxUsers), Set: set}, UserChange{User: name(7), Set: set}); codes[0] != PolicyViolation || codes[1] != 0 {
		t.Errorf("one more, and one of them: %v", codes)
	}
	if _, err := Encode(l.state.Image(), NewAlterUsers(make([]UserChange, MaxUserChanges+1), nil)); err != nil {
		t.Fatal(err)
	}
	if refused := l.refusedCode(NewAlterUsers(make([]UserChange, MaxUserChanges+1), nil)); refused != InvalidRequest {
		t.Errorf("too many changes: %v", refused)
	}
}

func (l *testLog) refusedCode(body proto.Message) Code {
	l.t.Helper()
	m := *l.state.Image()
	c, err := Encode(&m, body)
	if err != nil {
		return CodeOf(err)
	}
	return CodeOf(m.Check(c))
}

// What goes to the bucket has no secret in it, be it a command or a snapshot, and both come
// to the same: users are there, and their passwords lost.
func TestSecretsStayOutOfTheBucket(t *testing.T) {
	l, bare := userLog(t), userLog(t)
	secret := bytes.Repeat([]byte{0xa5}, minSaltBytes)
	command := mustCommandAt(t, l.state.Image(), NewAlterUsers([]UserChange{
		{User: "alice", Set: []ScramCredential{credential(ScramSHA256, 0xa5), credential(ScramSHA512, 0xa5)}},
	}, bytes.Repeat([]byte{0xa5}, fakeSecretSize)))
	stripped := WithoutSecrets(command)
	if !bytes.Contains(command, secret) || bytes.Contains(stripped, secret) {
		t.Error("the command has secrets in it")
	}
	for state, of := range map[*State][]byte{l.state: command, bare.state: stripped} {
		if result, err := state.Apply(2, of); err != nil || Refused(result) != nil {
			t.Fatal(result, err)
		}
	}
	image := l.state.Image()
	snapshot := image.WithoutSecrets().Snapshot()
	if !bytes.Contains(image.Snapshot(), secret) || bytes.Contains(snapshot, secret) {
		t.Error("the snapshot has secrets in it")
	}
	if !bytes.Equal(snapshot, bare.state.Image().Snapshot()) {
		t.Error("commands without secrets come to another state than that without them")
	}
	restored := NewState()
	if err := restored.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	u, known := restored.Image().User("alice")
	if !known || shownUsers(restored.Image()) != "alice SCRAM-SHA-256/4096/ SCRAM-SHA-512/4096/" || u.Credential(ScramSHA256) != nil || restored.Image().FakeSecret() != nil {
		t.Errorf("%s, %v", shownUsers(restored.Image()), u)
	}
	other := mustCommandAt(t, image, &pb.SetFeatureLevel{Level: SecurityFeatureLevel})
	if got := WithoutSecrets(other); !bytes.Equal(got, other) {
		t.Error("another command is changed")
	}
	if got := NewState().Image(); got.WithoutSecrets() != got {
		t.Error("an image without users is copied")
	}
}

func mustCommandAt(t *testing.T, image *Image, body proto.Message) []byte {
	t.Helper()
	command, err := Encode(image, body)
	if err != nil {
		t.Fatal(err)
	}
	return command
}

// What a bucket does not have comes back from a backup: of users and tokens that are still
// there, and are the same; what was not lost stays.
func TestSecretsComeBackFromABackup(t *testing.T) {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: LatestFeatureLevel})
	set := func(user string, of byte) {
		t.Helper()
		l.accepted(NewAlterUsers([]UserChange{{User: user, Set: []ScramCredential{credential(ScramSHA256, of)}}}, bytes.Repeat([]byte{7}, fakeSecretSize)))
	}
	set("alice", 1)
	set("bob", 2)
	l.accepted(NewCreateAPIToken(apiToken("a", "alice", 1)))
	l.accepted(NewCreateAPIToken(apiToken("b", "bob", 2)))
	kept := l.state.Image()
	set("carol", 3)
	l.accepted(NewDeleteAPIToken("b"))
	again := apiToken("b", "eve", 3)
	l.accepted(NewCreateAPIToken(again))
	m, passwords, tokens := l.state.Image().WithoutSecrets().WithSecretsOf(kept)
	if passwords != 2 || tokens != 1 {
		t.Errorf("%d passwords and %d tokens came back, want 2 and 1", passwords, tokens)
	}
	for name, lost := range map[string]bool{"alice": false, "bob": false, "carol": true} {
		u, known := m.User(name)
		if !known || u.Credentials[0].Lost() != lost {
			t.Errorf("%s: %+v", name, u)
		}
	}
	if a, _ := m.APIToken("a"); a.Lost() || m.FakeSecret() == nil {
		t.Errorf("%+v", a)
	}
	if b, _ := m.APIToken("b"); !b.Lost() || b.Principal != "User:eve" {
		t.Errorf("a token of somebody else came back: %+v", b)
	}
	if whole, passwords, tokens := l.state.Image().WithSecretsOf(kept); passwords+tokens != 0 {
		t.Errorf("of what is not lost %d and %d came back: %v", passwords, tokens, whole)
	}
}
