package metadata

import (
	"bytes"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// ScramMechanism is a mechanism that passwords are kept for, numbered as in Kafka.
type ScramMechanism uint8

const (
	ScramSHA256 ScramMechanism = 1
	ScramSHA512 ScramMechanism = 2
)

// ScramMechanisms lists them all.
func ScramMechanisms() []ScramMechanism { return []ScramMechanism{ScramSHA256, ScramSHA512} }

// String is the name of the mechanism, as IANA has it.
func (s ScramMechanism) String() string {
	switch s {
	case ScramSHA256:
		return "SCRAM-SHA-256"
	case ScramSHA512:
		return "SCRAM-SHA-512"
	}
	return "unknown mechanism"
}

// keySize is how many bytes the keys of a mechanism have; 0: there is no such one.
func (s ScramMechanism) keySize() int {
	switch s {
	case ScramSHA256:
		return 32
	case ScramSHA512:
		return 64
	}
	return 0
}

// Bounds of users.
const (
	// maxUsers bounds the image: 8 MB of names, salts and keys.
	maxUsers = 20_000
	// MaxUserBytes of the name of a user.
	MaxUserBytes = 256
	// MaxUserChanges of one command.
	MaxUserChanges = 1000

	minScramIterations, maxScramIterations = 4096, 16384 // KIP-554
	minSaltBytes, maxSaltBytes             = 8, 128
	fakeSecretSize                         = 32
)

// User is somebody who has a password. It is never changed.
type User struct {
	Name        string
	Credentials []ScramCredential // at least one, in order of mechanism
}

// ScramCredential is what is kept of a password (RFC 5802 §3). Nothing in it is to be
// logged, or shown to anybody, but the mechanism and the iterations.
type ScramCredential struct {
	Mechanism                  ScramMechanism
	Iterations                 int32
	Salt, StoredKey, ServerKey []byte
}

// Lost reports whether nothing is left of the password: the cluster was brought back from
// its bucket, where secrets are not kept. It must be set anew.
func (c *ScramCredential) Lost() bool { return len(c.StoredKey) == 0 }

// Credential returns that for a mechanism, nil when there is none, or it is lost.
func (u *User) Credential(mechanism ScramMechanism) *ScramCredential {
	for i := range u.Credentials {
		if c := &u.Credentials[i]; c.Mechanism == mechanism && !c.Lost() {
			return c
		}
	}
	return nil
}

func (u *User) equal(other *User) bool {
	return u == other || slices.EqualFunc(u.Credentials, other.Credentials, func(a, b ScramCredential) bool {
		return a.Mechanism == b.Mechanism && a.Iterations == b.Iterations &&
			bytes.Equal(a.Salt, b.Salt) && bytes.Equal(a.StoredKey, b.StoredKey) && bytes.Equal(a.ServerKey, b.ServerKey)
	})
}

// Users walks all users, in order of their names.
func (m *Image) Users() iter.Seq[*User] {
	return func(yield func(*User) bool) {
		for _, u := range m.users.all() {
			if !yield(u) {
				return
			}
		}
	}
}

// User returns the user of that name.
func (m *Image) User(name string) (*User, bool) { return m.users.get(name) }

// NumUsers returns how many users there are.
func (m *Image) NumUsers() int { return m.users.len() }

// UsersMark tells images with other users apart.
type UsersMark struct{ root *node[string, *User] }

// UsersMark is equal of two images if they have the very same users, so that what was made
// of those of one need not be made anew. It may miss that they have.
func (m *Image) UsersMark() UsersMark { return UsersMark{m.users.root} }

// FakeSecret is what salts of users who are not there are made of, the same on all
// brokers; nil: there is none, as there was no user yet. It must not be changed, and is
// nobody's to see.
func (m *Image) FakeSecret() []byte { return m.fakeSecret }

// UserChange is what is to change of one user: all of it or nothing.
type UserChange struct {
	User   string
	Set    []ScramCredential
	Remove []ScramMechanism
}

// NewAlterUsers returns the command that carries out changes, each on its own. fakeSecret
// are 32 random bytes.
func NewAlterUsers(changes []UserChange, fakeSecret []byte) *pb.AlterUsers {
	command := &pb.AlterUsers{FakeSecret: fakeSecret}
	for _, change := range changes {
		c := &pb.UserChange{User: change.User}
		for i := range change.Set {
			c.Set = append(c.Set, change.Set[i].encode())
		}
		for _, mechanism := range change.Remove {
			c.Remove = append(c.Remove, uint32(mechanism))
		}
		command.Changes = append(command.Changes, c)
	}
	return command
}

func (m *Image) alterUsers(c *pb.AlterUsers) (UserResults, *Error) {
	if n := len(c.Changes); n > MaxUserChanges {
		return nil, Errorf(InvalidRequest, "%d users in one change, more than %d", n, MaxUserChanges)
	}
	if n := len(c.FakeSecret); n != 0 && n != fakeSecretSize {
		return nil, Errorf(InvalidRequest, "a secret of %d bytes", n)
	}
	if m.fakeSecret == nil && len(c.FakeSecret) > 0 {
		m.fakeSecret = c.FakeSecret
	}
	results := make(UserResults, len(c.Changes))
	for i, change := range c.Changes {
		if refused := m.alterUser(change); refused != nil {
			results[i] = refused
		}
	}
	return results, nil
}

func (m *Image) alterUser(c *pb.UserChange) *Error {
	if c.User == "" || len(c.User) > MaxUserBytes || !utf8.ValidString(c.User) {
		return Errorf(UnacceptableCredential, "the name of a user has 1 to %d bytes", MaxUserBytes)
	}
	was, known := m.users.get(c.User)
	changed := User{Name: c.User}
	if known {
		changed.Credentials = slices.Clone(was.Credentials)
	}
	at := func(mechanism ScramMechanism) (int, bool) {
		return slices.BinarySearchFunc(changed.Credentials, mechanism, func(c ScramCredential, m ScramMechanism) int { return int(c.Mechanism) - int(m) })
	}
	for _, number := range c.Remove {
		i, there := at(ScramMechanism(number))
		if number > uint32(ScramSHA512) || !there {
			return Errorf(ResourceNotFound, "user %s has no password for that mechanism", quoted(c.User))
		}
		changed.Credentials = slices.Delete(changed.Credentials, i, i+1)
	}
	for _, set := range c.Set {
		credential, refused := decodeScramCredential(set)
		if refused != nil {
			return refused
		}
		i, there := at(credential.Mechanism)
		if there {
			changed.Credentials[i] = credential
		} else {
			changed.Credentials = slices.Insert(changed.Credentials, i, credential)
		}
	}
	if len(changed.Credentials) == 0 {
		m.users = m.users.without(c.User)
		m.tokens = m.tokens.withoutThoseOf("User:" + c.User)
		return nil
	}
	if !known && !guard.Check("metadata.users", m.users.len() < maxUsers) {
		return Errorf(PolicyViolation, "there are %d users; there is no room for another", m.users.len())
	}
	m.users = m.users.put(c.User, &changed)
	return nil
}

func (c *ScramCredential) encode() *pb.ScramCredential {
	return &pb.ScramCredential{
		Mechanism: uint32(c.Mechanism), Iterations: uint32(c.Iterations),
		Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey,
	}
}

// decodeScramCredential reads one with its salt and keys, or without all of them.
func decodeScramCredential(c *pb.ScramCredential) (ScramCredential, *Error) {
	if c.GetMechanism() > uint32(ScramSHA512) {
		return ScramCredential{}, Errorf(UnacceptableCredential, "there is no mechanism %d", c.GetMechanism())
	}
	mechanism := ScramMechanism(c.GetMechanism())
	size := mechanism.keySize()
	lost := len(c.GetSalt()) == 0 && len(c.GetStoredKey()) == 0 && len(c.GetServerKey()) == 0
	switch {
	case size == 0:
		return ScramCredential{}, Errorf(UnacceptableCredential, "there is no mechanism %d", c.GetMechanism())
	case !guard.Check("metadata.scram-iterations", c.Iterations >= minScramIterations && c.Iterations <= maxScramIterations):
		return ScramCredential{}, Errorf(UnacceptableCredential, "%d iterations: there are %d to %d", c.Iterations, minScramIterations, maxScramIterations)
	case !lost && (len(c.Salt) < minSaltBytes || len(c.Salt) > maxSaltBytes):
		return ScramCredential{}, Errorf(UnacceptableCredential, "a salt of %d bytes: it has %d to %d", len(c.Salt), minSaltBytes, maxSaltBytes)
	case !lost && !guard.Check("metadata.scram-keys", len(c.StoredKey) == size && len(c.ServerKey) == size):
		return ScramCredential{}, Errorf(UnacceptableCredential, "keys of %d and %d bytes: those of %s have %d", len(c.StoredKey), len(c.ServerKey), mechanism, size)
	}
	return ScramCredential{Mechanism: mechanism, Iterations: int32(c.Iterations), Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey}, nil
}

func encodeUser(u *User) *pb.SnapshotUser {
	encoded := &pb.SnapshotUser{Name: u.Name}
	for i := range u.Credentials {
		encoded.Credentials = append(encoded.Credentials, u.Credentials[i].encode())
	}
	return encoded
}

// decodeUser reads what encodeUser wrote; ok is false for what cannot be a user.
func decodeUser(e *pb.SnapshotUser) (u *User, ok bool) {
	if e.GetName() == "" || len(e.Name) > MaxUserBytes || len(e.Credentials) > len(ScramMechanisms()) {
		return nil, false
	}
	u = &User{Name: e.Name}
	for _, c := range e.Credentials {
		credential, refused := decodeScramCredential(c)
		if n := len(u.Credentials); refused != nil || n > 0 && u.Credentials[n-1].Mechanism >= credential.Mechanism {
			return nil, false
		}
		u.Credentials = append(u.Credentials, credential)
	}
	return u, true
}

// users reads the users of a snapshot.
func (d *decoder) users(m *Image, h *pb.SnapshotHeader) error {
	if n := len(h.FakeSecret); n != 0 && n != fakeSecretSize {
		return d.corrupt("a secret of %d bytes", n)
	}
	if len(h.FakeSecret) > 0 {
		m.fakeSecret = h.FakeSecret
	}
	for range h.Users {
		r, err := d.next()
		if err != nil {
			return err
		}
		u, ok := decodeUser(r.GetUser())
		if !ok || len(u.Credentials) == 0 {
			return d.corrupt("no user where one is due")
		}
		if _, twice := m.users.get(u.Name); twice {
			return d.corrupt("user %s twice", quoted(u.Name))
		}
		m.users = m.users.put(u.Name, u)
	}
	return nil
}

// user puts a user of a delta into the image.
func (e *viewEdit) user(is *pb.SnapshotUser) error {
	u, ok := decodeUser(is)
	switch {
	case !ok:
		return e.d.corrupt("a user out of bounds")
	case len(u.Credentials) == 0:
		e.m.users = e.m.users.without(u.Name)
	default:
		e.m.users = e.m.users.put(u.Name, u)
	}
	return nil
}

// WithoutSecrets returns the image without what is nobody's to have who reads the bucket:
// users and API tokens are there, their passwords and what proves them are lost.
func (m *Image) WithoutSecrets() *Image {
	if m.fakeSecret == nil && m.users.len() == 0 && m.NumAPITokens() == 0 {
		return m
	}
	changed := *m
	changed.fakeSecret = nil
	changed.tokens = m.tokens.withoutHashes()
	for name, u := range m.users.all() {
		bare := &User{Name: name}
		for _, c := range u.Credentials {
			bare.Credentials = append(bare.Credentials, ScramCredential{Mechanism: c.Mechanism, Iterations: c.Iterations})
		}
		changed.users = changed.users.put(name, bare)
	}
	return &changed
}

// Numbers of the commands that have secrets in them: [pb.Command_AlterUsers] and
// [pb.Command_CreateApiToken].
const (
	alterUsersNumber     protowire.Number = 110
	createAPITokenNumber protowire.Number = 125
)

// WithoutSecrets returns an encoded command as [Image.WithoutSecrets] would have it. One
// that has no secrets is returned as it is.
func WithoutSecrets(command []byte) []byte {
	number, _, n := protowire.ConsumeTag(command)
	if n < 0 || guard.Check("metadata.secrets-kept-out", number != alterUsersNumber && number != createAPITokenNumber) {
		return command
	}
	var c pb.Command
	if err := proto.Unmarshal(command, &c); err != nil {
		return nil // it was never applied
	}
	if users := c.GetAlterUsers(); users != nil {
		users.FakeSecret = nil
		for _, change := range users.Changes {
			for _, set := range change.Set {
				set.Salt, set.StoredKey, set.ServerKey = nil, nil, nil
			}
		}
	}
	if token := c.GetCreateApiToken().GetToken(); token != nil {
		token.Hash = nil
	}
	bare, err := proto.Marshal(&c)
	if err != nil {
		return nil
	}
	return bare
}

// ParseScramMechanism returns the mechanism of that name, in any case.
func ParseScramMechanism(name string) (ScramMechanism, bool) {
	for _, mechanism := range ScramMechanisms() {
		if strings.EqualFold(mechanism.String(), name) {
			return mechanism, true
		}
	}
	return 0, false
}

// WithSecretsOf returns the image with passwords and API tokens that it has lost, and an
// image of before has: of users and tokens that are still there as they were then, by
// mechanism and iterations, or by principal and time. What was changed since is as it was
// then, for nobody can tell.
func (m *Image) WithSecretsOf(kept *Image) (is *Image, passwords, tokens int) {
	changed := *m
	if changed.fakeSecret == nil {
		changed.fakeSecret = kept.fakeSecret
	}
	for name, u := range m.users.all() {
		was, known := kept.users.get(name)
		if !known {
			continue
		}
		whole := &User{Name: name}
		for _, c := range u.Credentials {
			i := slices.IndexFunc(was.Credentials, func(o ScramCredential) bool {
				return o.Mechanism == c.Mechanism && o.Iterations == c.Iterations && !o.Lost()
			})
			if c.Lost() && i >= 0 {
				c = was.Credentials[i]
				passwords++
			}
			whole.Credentials = append(whole.Credentials, c)
		}
		changed.users = changed.users.put(name, whole)
	}
	for t := range m.APITokens() {
		was, known := kept.APIToken(t.Name)
		if !known || !t.Lost() || was.Lost() {
			continue
		}
		bare := *was
		bare.Hash = ""
		if guard.Check("metadata.token-is-the-same", bare == *t) {
			changed.tokens = changed.tokens.with(was)
			tokens++
		}
	}
	return &changed, passwords, tokens
}
