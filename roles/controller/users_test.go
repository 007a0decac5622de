package controller

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage/bucket"
)

func scramOf(of byte) metadata.ScramCredential {
	key := bytes.Repeat([]byte{of}, 32)
	return metadata.ScramCredential{Mechanism: metadata.ScramSHA256, Iterations: 4096, Salt: key[:16], StoredKey: key, ServerKey: key}
}

// holds reports whether any object of the bucket has some bytes in it.
func (k *kept) holds(what []byte) (found bool) {
	k.t.Helper()
	var keys []string
	if err := k.memory.List(k.t.Context(), "", "", func(i bucket.Info) bool { keys = append(keys, i.Key); return true }); err != nil {
		k.t.Fatal(err)
	}
	for _, key := range keys {
		raw, err := bucket.ReadAll(k.t.Context(), k.memory, key, 1<<30)
		if err != nil {
			k.t.Fatal(err)
		}
		found = found || bytes.Contains(raw, what)
	}
	return found
}

// Neither the commands nor the snapshots that are put into the bucket have in them what
// somebody could log in by, or guess with; the controllers keep it.
func TestSecretsOfUsersStayOutOfTheBucket(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		pass(2 * time.Minute) // the first entry is a snapshot
		for _, name := range []string{"in-a-command", "in-a-snapshot"} {
			if errs := k.c.AlterUsers(t.Context(), []metadata.UserChange{{User: name, Set: []metadata.ScramCredential{scramOf(0x5a)}}}); errs[0] != nil {
				t.Fatal(errs[0])
			}
			if name == "in-a-snapshot" {
				k.close()
				k.open()
			}
			pass(2 * time.Minute)
			image := k.c.Image()
			if u, known := image.User(name); !known || u.Credential(metadata.ScramSHA256) == nil || len(image.FakeSecret()) == 0 {
				t.Fatalf("%s: %v", name, u)
			}
			if !k.holds([]byte(name)) {
				t.Errorf("%s: nothing of the user is in the bucket yet", name)
			}
			if k.holds(bytes.Repeat([]byte{0x5a}, 16)) || k.holds(image.FakeSecret()) {
				t.Errorf("%s: secrets are in the bucket", name)
			}
		}
	})
}

// Changes stand alone, in order of the request; what no command may have is refused before.
func TestAlterUsers(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		many := make([]metadata.UserChange, metadata.MaxUserChanges+1)
		for i := range many {
			many[i] = metadata.UserChange{User: "nobody", Remove: []metadata.ScramMechanism{metadata.ScramSHA512}}
		}
		many[len(many)-1] = metadata.UserChange{User: "somebody", Set: []metadata.ScramCredential{scramOf(1)}}
		errs := k.c.AlterUsers(t.Context(), many)
		if len(errs) != len(many) || errs[len(errs)-1] != nil || slices.ContainsFunc(errs[:len(errs)-1], func(err error) bool { return metadata.CodeOf(err) != metadata.ResourceNotFound }) {
			t.Errorf("%d errors, the last is %v", len(errs), errs[len(errs)-1])
		}
		lost := metadata.ScramCredential{Mechanism: metadata.ScramSHA256, Iterations: 4096}
		if errs := k.c.AlterUsers(t.Context(), []metadata.UserChange{{User: "x", Set: []metadata.ScramCredential{lost}}}); metadata.CodeOf(errs[0]) != metadata.UnacceptableCredential {
			t.Errorf("a password without keys: %v", errs)
		}
		if errs := k.c.AlterUsers(t.Context(), nil); len(errs) != 0 {
			t.Errorf("nothing: %v", errs)
		}
	})
}

// Neither does what proves API tokens get into the bucket; whoever brings a hash that is none
// is refused.
func TestHashesOfAPITokensStayOutOfTheBucket(t *testing.T) {
	inBucket(t, func(t *testing.T, k *kept) {
		pass(2 * time.Minute)
		hash := string(bytes.Repeat([]byte{0x6b}, metadata.APITokenHashSize))
		for _, name := range []string{"in-a-command", "in-a-snapshot"} {
			of := name[5:6] + hash[1:]
			if err := k.c.CreateAPIToken(t.Context(), metadata.APIToken{Name: name, Principal: "User:" + name, Hash: of, Created: time.UnixMilli(1)}); err != nil {
				t.Fatal(err)
			}
			if name == "in-a-snapshot" {
				k.close()
				k.open()
			}
			pass(2 * time.Minute)
			if is, known := k.c.Image().APITokenOf(of); !known || is.Name != name {
				t.Fatalf("%s: %v", name, is)
			}
			if !k.holds([]byte(name)) {
				t.Errorf("%s: nothing of the token is in the bucket yet", name)
			}
			if k.holds([]byte(hash[1:])) {
				t.Errorf("%s: its hash is in the bucket", name)
			}
		}
		if err := k.c.CreateAPIToken(t.Context(), metadata.APIToken{Name: "x", Principal: "User:x"}); metadata.CodeOf(err) != metadata.InvalidRequest {
			t.Errorf("without a hash: %v", err)
		}
		if err := k.c.DeleteAPIToken(t.Context(), "in-a-command"); err != nil || k.c.Image().NumAPITokens() != 1 {
			t.Errorf("deleted: %v, %d left", err, k.c.Image().NumAPITokens())
		}
	})
}
