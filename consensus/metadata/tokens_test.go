package metadata

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// apiToken is one whose hash is of one byte.
func apiToken(name, user string, of byte) *APIToken {
	return &APIToken{Name: name, Principal: "User:" + user, Hash: strings.Repeat(string([]byte{of}), APITokenHashSize), Created: time.UnixMilli(5).UTC()}
}

// drawAPITokens draws a change of API tokens, which may not be possible.
func drawAPITokens(t *rapid.T) proto.Message {
	name := rapid.SampledFrom([]string{"t", "u", "v", ""}).Draw(t, "token")
	if rapid.Bool().Draw(t, "deletes") {
		return NewDeleteAPIToken(name)
	}
	is := apiToken(name, rapid.SampledFrom([]string{"a", "b", "*"}).Draw(t, "principal"), rapid.ByteRange(1, 4).Draw(t, "hash"))
	is.ReadOnly = rapid.Bool().Draw(t, "read-only")
	if rapid.Bool().Draw(t, "ends") {
		is.Expires = time.UnixMilli(rapid.Int64Range(1, 9).Draw(t, "expires"))
	}
	return NewCreateAPIToken(is)
}

func tokenLog(t testing.TB) *testLog {
	l := &testLog{t: t, state: NewState()}
	l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: OperationsFeatureLevel})
	return l
}

func shownTokens(m *Image) string {
	var all []string
	for t := range m.APITokens() {
		one := fmt.Sprint(t.Name, " of ", t.Principal)
		if found, known := m.APITokenOf(t.Hash); t.Lost() || !known || found != t {
			one += " lost"
		}
		all = append(all, one)
	}
	return strings.Join(all, "; ")
}

func TestAPITokens(t *testing.T) {
	l := tokenLog(t)
	end := apiToken("b", "alice", 2)
	end.Expires, end.ReadOnly = time.UnixMilli(9).UTC(), true
	for _, is := range []*APIToken{apiToken("a", "bob", 1), end, end} { // the same again is no error
		l.accepted(NewCreateAPIToken(is))
	}
	image := l.state.Image()
	if got := shownTokens(image); got != "a of User:bob; b of User:alice" {
		t.Fatal(got)
	}
	if got, known := image.APITokenOf(end.Hash); !known || *got != *end {
		t.Errorf("%+v", got)
	}
	for name, hash := range map[string]string{"none": "", "another": strings.Repeat("\x03", APITokenHashSize), "part of one": end.Hash[1:]} {
		if got, known := image.APITokenOf(hash); known {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, c := range map[string]struct {
		is   *APIToken
		want Code
	}{
		"the name of another":          {apiToken("a", "bob", 3), DuplicateResource},
		"the hash of another":          {apiToken("c", "bob", 1), DuplicateResource},
		"everybody's":                  {apiToken("c", "*", 3), InvalidRequest},
		"nobody's":                     {apiToken("c", "", 3), InvalidRequest},
		"without a name":               {apiToken("", "bob", 3), InvalidRequest},
		"a name that is long":          {apiToken(strings.Repeat("x", MaxAPITokenName+1), "bob", 3), InvalidRequest},
		"a hash of 31 bytes":           {func() *APIToken { is := apiToken("c", "bob", 3); is.Hash = is.Hash[1:]; return is }(), InvalidRequest},
		"an end before there was time": {func() *APIToken { is := apiToken("c", "bob", 3); is.Expires = time.UnixMilli(-1); return is }(), InvalidRequest},
	} {
		if code := l.refusedCode(NewCreateAPIToken(c.is)); code != c.want {
			t.Errorf("%s: %v", name, code)
		}
	}
	if code := l.refusedCode(NewDeleteAPIToken("c")); code != ResourceNotFound {
		t.Errorf("one that is not there: %v", code)
	}
	l.accepted(NewDeleteAPIToken("a"))
	if _, known := l.state.Image().APITokenOf(strings.Repeat("\x01", APITokenHashSize)); known || shownTokens(l.state.Image()) != "b of User:alice" {
		t.Errorf("after one is deleted: %s", shownTokens(l.state.Image()))
	}
}

// Whoever is no user any more has no token either; a change of password is no such thing.
func TestAPITokensGoWithTheirUser(t *testing.T) {
	l := tokenLog(t)
	l.alterUsers(1, UserChange{User: "alice", Set: []ScramCredential{credential(ScramSHA256, 1), credential(ScramSHA512, 1)}})
	for _, is := range []*APIToken{apiToken("a", "alice", 1), apiToken("b", "alice", 2), apiToken("c", "alice2", 3)} {
		l.accepted(NewCreateAPIToken(is))
	}
	l.alterUsers(1, UserChange{User: "alice", Set: []ScramCredential{credential(ScramSHA256, 2)}, Remove: []ScramMechanism{ScramSHA512}})
	if got := shownTokens(l.state.Image()); got != "a of User:alice; b of User:alice; c of User:alice2" {
		t.Errorf("after another password: %s", got)
	}
	l.alterUsers(1, UserChange{User: "alice", Remove: []ScramMechanism{ScramSHA256}})
	if got := shownTokens(l.state.Image()); got != "c of User:alice2" {
		t.Errorf("without the user: %s", got)
	}
	if _, known := l.state.Image().APITokenOf(strings.Repeat("\x02", APITokenHashSize)); known {
		t.Error("a token of nobody is known")
	}
}

func TestAPITokensAreBounded(t *testing.T) {
	l := tokenLog(t)
	m := *l.state.Image()
	for i := range maxAPITokens {
		m.tokens = m.tokens.with(&APIToken{Name: fmt.Sprint(i), Principal: "User:u", Hash: fmt.Sprintf("%032d", i)})
	}
	l.state.image.Store(&m)
	if code := l.refusedCode(NewCreateAPIToken(apiToken("one more", "u", 1))); code != PolicyViolation {
		t.Error(code)
	}
}

// Nobody takes the room of others: a principal has so many tokens, and may have another
// once one is revoked. Below the feature level there may be more, as there were.
func TestAPITokensOfOnePrincipalAreBounded(t *testing.T) {
	for level, bounded := range map[uint32]bool{LimitsFeatureLevel - 1: false, LimitsFeatureLevel: true} {
		l := &testLog{t: t, state: NewState()}
		l.accepted(&pb.InitCluster{ClusterId: "c", FeatureLevel: level})
		m := *l.state.Image()
		for i := range maxAPITokensOf {
			m.tokens = m.tokens.with(&APIToken{Name: fmt.Sprint(i), Principal: "User:u", Hash: fmt.Sprintf("%032d", i)})
		}
		l.state.image.Store(&m)
		if !bounded {
			l.accepted(NewCreateAPIToken(apiToken("one more", "u", 1)))
			continue
		}
		if code := l.refusedCode(NewCreateAPIToken(apiToken("one more", "u", 1))); code != PolicyViolation {
			t.Error(code)
		}
		l.accepted(NewCreateAPIToken(apiToken("another's", "v", 2)))
		l.accepted(NewDeleteAPIToken("7"))
		l.accepted(NewCreateAPIToken(apiToken("one more", "u", 1)))
	}
}

// What goes to the bucket has no hash of a token in it, be it a command or a snapshot, and
// both come to the same.
func TestHashesOfAPITokensStayOutOfTheBucket(t *testing.T) {
	l, bare := tokenLog(t), tokenLog(t)
	is := apiToken("a", "bob", 0xa5)
	command := mustCommandAt(t, l.state.Image(), NewCreateAPIToken(is))
	stripped := WithoutSecrets(command)
	if !bytes.Contains(command, []byte(is.Hash)) || bytes.Contains(stripped, []byte(is.Hash)) {
		t.Error("the command has the hash in it")
	}
	for state, of := range map[*State][]byte{l.state: command, bare.state: stripped} {
		if result, err := state.Apply(2, of); err != nil || Refused(result) != nil {
			t.Fatal(result, err)
		}
	}
	snapshot := l.state.Image().WithoutSecrets().Snapshot()
	if !bytes.Contains(l.state.Image().Snapshot(), []byte(is.Hash)) || bytes.Contains(snapshot, []byte(is.Hash)) {
		t.Error("the snapshot has the hash in it")
	}
	if !bytes.Equal(snapshot, bare.state.Image().Snapshot()) {
		t.Error("commands without hashes come to another state than that without them")
	}
	restored := NewState()
	if err := restored.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if got := shownTokens(restored.Image()); got != "a of User:bob lost" {
		t.Error(got)
	}
	// A name whose token is lost can be given up.
	again := testLog{t: t, state: restored, index: restored.Image().Offset()}
	again.accepted(NewDeleteAPIToken("a"))
	again.accepted(NewCreateAPIToken(is))
	if got := shownTokens(restored.Image()); got != "a of User:bob" {
		t.Error(got)
	}
}
