package metadata

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// Bounds of modules that transform records.
const (
	// MaxTransforms bounds the image: every broker holds and compiles all that are active.
	MaxTransforms = 200
	// MaxTransformVersions of one module; when there is another, the oldest goes.
	MaxTransformVersions = 10
	// MaxTransformName bytes of the name of a module.
	MaxTransformName = 64
	// MaxTransformSpec bytes of JSON.
	MaxTransformSpec = 64 << 10
	// MaxModuleBytes of one module.
	MaxModuleBytes = 32 << 20
	// MaxTransformHistory entries of one module; when there is another, the oldest goes.
	MaxTransformHistory = 100
	// MaxTransformReason bytes of what is said of a change.
	MaxTransformReason = 1 << 10
	// ModuleHashSize is that of SHA-256.
	ModuleHashSize = 32

	maxTransformBy    = 1 << 10 // bytes of a principal
	maxUnnamedModules = 5000
	// maxTransformBytes bounds a module with all its versions and history, encoded.
	maxTransformBytes = 1 << 20
)

// TransformAction is what was done to a module.
type TransformAction uint8

// What is done to modules.
const (
	TransformDeployed TransformAction = iota + 1
	TransformEnabled
	TransformDisabled
	TransformBudgetSpent // it was disabled, for it had failed too often
	TransformVersionDeleted
	TransformRolledBack
)

// String names the action in a word or few.
func (a TransformAction) String() string {
	if a < TransformDeployed || a > TransformRolledBack {
		return "unknown"
	}
	return [...]string{"deployed", "enabled", "disabled", "disabled by its error budget", "version deleted", "rolled back"}[a-1]
}

// TransformVersion is one version of a module. It is never changed.
type TransformVersion struct {
	Number  uint32 // from 1; none is given twice, unless the module was deleted in between
	SHA256  string // ModuleHashSize bytes: of the module, by which the bucket has it
	Size    int64  // bytes of the module, 1..MaxModuleBytes
	Spec    string // JSON, see etl/pipeline
	Created time.Time
	By      string // principal
}

// TransformChange is what was done to a module, and by whom.
type TransformChange struct {
	At      time.Time // to the millisecond
	By      string    // principal
	Action  TransformAction
	Version uint32 // that it is about
	Reason  string
}

// Transform is a module that transforms records, with its versions. It is never changed.
type Transform struct {
	Name     string
	Versions []TransformVersion // by number
	Issued   uint32             // the highest number that was given out
	Active   uint32             // 0: it is disabled
	Last     uint32             // that is active, or was last; 0: none was, or it was deleted
	Previous uint32             // that was active before Last; 0 as of Last
	History  []TransformChange  // oldest first
}

// Version returns the version of that number.
func (t *Transform) Version(number uint32) (*TransformVersion, bool) {
	i := slices.IndexFunc(t.Versions, func(v TransformVersion) bool { return v.Number == number })
	if i < 0 {
		return nil, false
	}
	return &t.Versions[i], true
}

// BudgetSpent returns what was said when its error budget was spent, if that is why it is
// disabled: its records meet its failure policy then, until a person enables a version, or
// disables it.
func (t *Transform) BudgetSpent() (TransformChange, bool) {
	i := t.spentAt()
	if i < 0 {
		return TransformChange{}, false
	}
	return t.History[i], true
}

// spentAt is where in its history that stands; -1: nowhere.
func (t *Transform) spentAt() int {
	if t.Active != 0 {
		return -1
	}
	for i, c := range slices.Backward(t.History) {
		switch c.Action {
		case TransformBudgetSpent:
			if _, there := t.Version(c.Version); !there { // deleted by force
				return -1
			}
			return i
		case TransformEnabled, TransformRolledBack, TransformDisabled:
			return -1
		}
	}
	return -1
}

// Stands returns the version that records meet: the one that is active, or the one whose error
// budget is spent; 0: they meet none.
func (t *Transform) Stands() uint32 {
	if spent, was := t.BudgetSpent(); was {
		return spent.Version
	}
	return t.Active
}

// transforms are the modules, and the bytes that none of them has any more.
type transforms struct {
	names     tree[string, *Transform]
	unnamed   tree[string, bool] // by SHA-256: whether they are condemned
	collected uint64             // offset of the last command that said that bytes are deleted
}

func newTransforms() transforms {
	return transforms{names: newTree[string, *Transform](strings.Compare), unnamed: newTree[string, bool](strings.Compare)}
}

// Transforms walks the modules, in order of their names.
func (m *Image) Transforms() iter.Seq[*Transform] {
	return func(yield func(*Transform) bool) {
		for _, t := range m.transforms.names.all() {
			if !yield(t) {
				return
			}
		}
	}
}

// NumTransforms returns how many modules there are.
func (m *Image) NumTransforms() int { return m.transforms.names.len() }

// Transform returns the module of that name.
func (m *Image) Transform(name string) (*Transform, bool) { return m.transforms.names.get(name) }

// SameTransforms reports whether two images have the very same modules. It may miss that
// they have.
func (m *Image) SameTransforms(other *Image) bool {
	return m.transforms.names.root == other.transforms.names.root
}

// NamesModule reports whether a version of a module has the bytes of that SHA-256.
func (m *Image) NamesModule(sha256 string) bool {
	for t := range m.Transforms() {
		if slices.ContainsFunc(t.Versions, func(v TransformVersion) bool { return v.SHA256 == sha256 }) {
			return true
		}
	}
	return false
}

// UnnamedModules walks the bytes that no version has any more, by SHA-256, and whether they
// are condemned. Images of brokers have none.
func (m *Image) UnnamedModules() iter.Seq2[string, bool] { return m.transforms.unnamed.all() }

// CheckTransformName says why a module cannot have a name; nil: it can.
func CheckTransformName(name string) error {
	if refused := checkTransformName(name); refused != nil {
		return refused
	}
	return nil
}

func checkTransformName(name string) *Error {
	if name == "" || len(name) > MaxTransformName || strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-')
	}) {
		return Errorf(InvalidRequest, "%s is no name of a module, which has 1 to %d of a-z, 0-9 and -", quoted(name), MaxTransformName)
	}
	return nil
}

// NewDeployTransform returns the command that adds a version to a module, which is made where
// there is none. seen is the offset of an image that was there before the writer looked
// whether the bucket has the bytes.
func NewDeployTransform(name string, v TransformVersion, activate bool, seen uint64) *pb.DeployTransform {
	return &pb.DeployTransform{Name: name, Version: v.encode(), Activate: activate, Seen: seen}
}

// NewSetTransform returns the command that has a version be active, or none. Where expected is
// not nil, the change is made only while that version is active, or with 0 none.
func NewSetTransform(name string, c TransformChange, expected *uint32) *pb.SetTransform {
	command := &pb.SetTransform{Name: name, Change: c.encode()}
	if expected != nil {
		command.Expected, command.Checked = *expected, true
	}
	return command
}

// NewDeleteTransform returns the command that takes away the version of a change, or with 0
// the module. One that is active is left unless force says otherwise.
func NewDeleteTransform(name string, c TransformChange, force bool) *pb.DeleteTransform {
	return &pb.DeleteTransform{Name: name, Change: c.encode(), Force: force}
}

// NewCollectModules returns the command that condemns bytes of modules, by SHA-256, and with
// done the one that says that they are gone.
func NewCollectModules(sha256 []string, done bool) *pb.CollectModules {
	c := &pb.CollectModules{Done: done}
	for _, one := range sha256 {
		c.Sha256 = append(c.Sha256, []byte(one))
	}
	return c
}

func (m *Image) deployTransform(c *pb.DeployTransform) *Error {
	v, refused := decodeTransformVersion(c.Version)
	if refused == nil {
		refused = checkTransformName(c.Name)
	}
	if refused != nil {
		return refused
	}
	was, known := m.transforms.names.get(c.Name)
	if !known {
		if !guard.Check("metadata.transforms", m.NumTransforms() < MaxTransforms) {
			return Errorf(PolicyViolation, "there are %d modules, and no room for another: delete one (rustmq admin etl delete)", m.NumTransforms())
		}
		was = &Transform{Name: c.Name}
	}
	if is, there := was.Version(v.Number); there && *is == v {
		return nil // by a try before, of which nobody knew what became
	}
	if v.Number != was.Issued+1 {
		return Errorf(Conflict, "the next version of %s is %d, not %d: somebody else has deployed one; look, and deploy again", c.Name, was.Issued+1, v.Number)
	}
	condemned, _ := m.transforms.unnamed.get(v.SHA256)
	if !guard.Check("metadata.module-not-condemned", !condemned && c.Seen >= m.transforms.collected) {
		return Errorf(Conflict, "the bytes of that module are being deleted from the bucket, as nothing had them: deploy it again")
	}
	m.transforms.unnamed = m.transforms.unnamed.without(v.SHA256)
	t := *was
	t.Issued = v.Number
	t.Versions = append(slices.Clone(t.Versions), v)
	t.note(TransformChange{At: v.Created, By: v.By, Action: TransformDeployed, Version: v.Number})
	if c.Activate {
		t.activate(v.Number)
		t.note(TransformChange{At: v.Created, By: v.By, Action: TransformEnabled, Version: v.Number})
	}
	var left []string
	for len(t.Versions) > MaxTransformVersions {
		i := slices.IndexFunc(t.Versions, func(v TransformVersion) bool {
			return v.Number != t.Active && v.Number != t.Last && v.Number != t.Previous
		})
		left = append(left, t.Versions[i].SHA256)
		t.Versions = slices.Delete(t.Versions, i, i+1)
	}
	m.transforms.names = m.transforms.names.put(t.Name, &t)
	return m.unname(left)
}

// changed is the module that a change is of.
func (m *Image) changed(name string, of *pb.TransformChange) (*Transform, TransformChange, *Error) {
	change, refused := decodeTransformChange(of)
	if refused != nil {
		return nil, change, refused
	}
	was, known := m.transforms.names.get(name)
	if !known {
		return nil, change, noTransform(name)
	}
	return was, change, nil
}

func (m *Image) setTransform(c *pb.SetTransform) *Error {
	was, change, refused := m.changed(c.Name, c.Change)
	if refused != nil {
		return refused
	}
	stands := was.Stands()
	switch {
	case was.Active != 0:
	case change.Action == TransformBudgetSpent, change.Action == TransformDisabled && stands == 0:
		return nil
	}
	if c.Checked && !guard.Check("metadata.transform-as-expected", was.Active == c.Expected) {
		return Errorf(Conflict, "version %d of %s is active, not %d", was.Active, was.Name, c.Expected)
	}
	t := *was
	switch change.Action {
	case TransformEnabled, TransformRolledBack:
		if _, there := was.Version(change.Version); !there {
			return noTransformVersion(was.Name, change.Version)
		}
		if was.Active == change.Version {
			return nil
		}
		t.activate(change.Version)
	case TransformDisabled, TransformBudgetSpent:
		change.Version = stands
		t.Active = 0
	default:
		return Errorf(InvalidRequest, "%s is nothing that makes a version active, or none", change.Action)
	}
	t.note(change)
	m.transforms.names = m.transforms.names.put(t.Name, &t)
	return nil
}

func (m *Image) deleteTransform(c *pb.DeleteTransform) *Error {
	was, change, refused := m.changed(c.Name, c.Change)
	if refused != nil {
		return refused
	}
	goes := func(v TransformVersion) bool { return change.Version == 0 || v.Number == change.Version }
	if !slices.ContainsFunc(was.Versions, goes) {
		return noTransformVersion(was.Name, change.Version)
	}
	stands := was.Stands()
	active := stands != 0 && (change.Version == 0 || change.Version == stands)
	if !guard.Check("metadata.active-transform-stays", !active || c.Force) {
		is := "active"
		if was.Active == 0 {
			is = "what records meet, for its error budget is spent"
		}
		return Errorf(PolicyViolation, "version %d of %s is %s: disable it first (rustmq admin etl disable %s), or delete it with --force", stands, was.Name, is, was.Name)
	}
	var left []string
	for _, v := range was.Versions {
		if goes(v) {
			left = append(left, v.SHA256)
		}
	}
	if len(left) == len(was.Versions) {
		m.transforms.names = m.transforms.names.without(was.Name)
		return m.unname(left)
	}
	t := *was
	t.Versions = slices.DeleteFunc(slices.Clone(t.Versions), goes)
	for _, number := range []*uint32{&t.Active, &t.Last, &t.Previous} {
		if *number == change.Version {
			*number = 0
		}
	}
	change.Action = TransformVersionDeleted
	t.note(change)
	m.transforms.names = m.transforms.names.put(t.Name, &t)
	return m.unname(left)
}

// unname notes that some version has those bytes no more.
func (m *Image) unname(hashes []string) *Error {
	for _, hash := range hashes {
		if m.NamesModule(hash) {
			continue
		}
		if !guard.Check("metadata.unnamed-modules", m.transforms.unnamed.len() < maxUnnamedModules) {
			return Errorf(PolicyViolation, "%d modules wait for being deleted from the bucket, and no more can: is the bucket there (rustmq admin cluster health)?", m.transforms.unnamed.len())
		}
		m.transforms.unnamed = m.transforms.unnamed.put(hash, false)
	}
	return nil
}

func (m *Image) collectModules(index uint64, c *pb.CollectModules) *Error {
	for _, one := range c.Sha256 {
		hash := string(one)
		if len(hash) != ModuleHashSize {
			return Errorf(InvalidRequest, "a hash of %d bytes: it has %d", len(hash), ModuleHashSize)
		}
		condemned, _ := m.transforms.unnamed.get(hash)
		switch {
		case c.Done && !condemned:
			return Errorf(Conflict, "module %x was not condemned", hash)
		case c.Done:
			m.transforms.unnamed = m.transforms.unnamed.without(hash)
			m.transforms.collected = index
		case !guard.Check("metadata.named-module-stays", !m.NamesModule(hash)):
			return Errorf(Conflict, "module %x is of a version", hash)
		case m.transforms.unnamed.len() >= maxUnnamedModules && !condemned:
			return Errorf(PolicyViolation, "%d modules wait for being deleted", m.transforms.unnamed.len())
		default:
			m.transforms.unnamed = m.transforms.unnamed.put(hash, true)
		}
	}
	return nil
}

func noTransform(name string) *Error {
	return Errorf(ResourceNotFound, "there is no module %s; `rustmq admin etl list` shows those there are", quoted(name))
}

func noTransformVersion(name string, number uint32) *Error {
	return Errorf(ResourceNotFound, "module %s has no version %d; `rustmq admin etl describe %s` shows those it has", name, number, name)
}

// same reports whether two are of the same content.
func (t *Transform) same(o *Transform) bool {
	return t.Name == o.Name && t.Issued == o.Issued && t.Active == o.Active && t.Last == o.Last && t.Previous == o.Previous &&
		slices.Equal(t.Versions, o.Versions) && slices.Equal(t.History, o.History)
}

// activate has a version of t, which nobody else sees yet, be the active one.
func (t *Transform) activate(number uint32) {
	if t.Last != number {
		t.Previous, t.Last = t.Last, number
	}
	t.Active = number
}

// note adds to the history of t, which nobody else sees yet. That its budget is spent is not
// forgotten while it is so: records would pass without it.
func (t *Transform) note(c TransformChange) {
	t.History = append(slices.Clone(t.History), c)
	for len(t.History) > MaxTransformHistory {
		oldest := 0
		if !guard.Check("metadata.budget-spent-stays", t.spentAt() != 0) {
			oldest = 1
		}
		t.History = slices.Delete(t.History, oldest, oldest+1)
	}
}

func (v *TransformVersion) encode() *pb.TransformVersion {
	return &pb.TransformVersion{Number: v.Number, Sha256: []byte(v.SHA256), Size: v.Size, Spec: v.Spec, Created: v.Created.UnixMilli(), By: v.By}
}

func decodeTransformVersion(e *pb.TransformVersion) (v TransformVersion, refused *Error) {
	switch {
	case e.GetNumber() == 0:
		return v, Errorf(InvalidRequest, "versions are numbered from 1")
	case !guard.Check("metadata.module-hash", len(e.Sha256) == ModuleHashSize):
		return v, Errorf(InvalidRequest, "a hash of %d bytes: it has %d", len(e.Sha256), ModuleHashSize)
	case e.Size < 1 || e.Size > MaxModuleBytes:
		return v, Errorf(InvalidRequest, "a module of %d bytes: it has 1 to %d", e.Size, MaxModuleBytes)
	case !guard.Check("metadata.transform-spec", len(e.Spec) <= MaxTransformSpec && json.Valid([]byte(e.Spec))):
		return v, Errorf(InvalidRequest, "a specification of %d bytes: it is JSON of at most %d", len(e.Spec), MaxTransformSpec)
	case len(e.By) > maxTransformBy || !utf8.ValidString(e.By) || e.Created < 0:
		return v, Errorf(InvalidRequest, "a version of before 1970, or of nobody")
	}
	return TransformVersion{e.Number, string(e.Sha256), e.Size, e.Spec, time.UnixMilli(e.Created).UTC(), e.By}, nil
}

func (c *TransformChange) encode() *pb.TransformChange {
	return &pb.TransformChange{At: c.At.UnixMilli(), By: c.By, Action: uint32(c.Action), Version: c.Version, Reason: c.Reason}
}

func decodeTransformChange(e *pb.TransformChange) (c TransformChange, refused *Error) {
	action := TransformAction(min(e.GetAction(), 0xff))
	switch {
	case action < TransformDeployed || action > TransformRolledBack:
		return c, Errorf(InvalidRequest, "%d is no change of a module", e.GetAction())
	case e.At < 0:
		return c, Errorf(InvalidRequest, "a change of before 1970")
	case len(e.Reason) > MaxTransformReason || len(e.By) > maxTransformBy:
		return c, Errorf(InvalidRequest, "a reason of %d bytes, of somebody with a name of %d: at most %d and %d", len(e.Reason), len(e.By), MaxTransformReason, maxTransformBy)
	}
	return TransformChange{time.UnixMilli(e.At).UTC(), e.By, action, e.Version, e.Reason}, nil
}

func (t *Transform) encode() *pb.Transform {
	e := &pb.Transform{Name: t.Name, Issued: t.Issued, Active: t.Active, Last: t.Last, Previous: t.Previous}
	for i := range t.Versions {
		e.Versions = append(e.Versions, t.Versions[i].encode())
	}
	for i := range t.History {
		e.History = append(e.History, t.History[i].encode())
	}
	return e
}

// decodeTransform refuses what no commands come to.
func decodeTransform(e *pb.Transform) (*Transform, *Error) {
	t := &Transform{Name: e.GetName(), Issued: e.GetIssued(), Active: e.GetActive(), Last: e.GetLast(), Previous: e.GetPrevious()}
	if refused := checkTransformName(t.Name); refused != nil {
		return nil, refused
	}
	if n := len(e.Versions); n == 0 || n > MaxTransformVersions || len(e.History) > MaxTransformHistory {
		return nil, Errorf(InvalidRequest, "%d versions of %s, and %d changes", n, t.Name, len(e.History))
	}
	var before uint32
	for _, one := range e.Versions {
		v, refused := decodeTransformVersion(one)
		if refused != nil {
			return nil, refused
		}
		if v.Number <= before || v.Number > t.Issued {
			return nil, Errorf(InvalidRequest, "version %d of %s behind %d, of %d", v.Number, t.Name, before, t.Issued)
		}
		before = v.Number
		t.Versions = append(t.Versions, v)
	}
	for _, number := range []uint32{t.Active, t.Last, t.Previous} {
		if _, there := t.Version(number); number != 0 && !there {
			return nil, Errorf(InvalidRequest, "version %d of %s is active or was, and there is none", number, t.Name)
		}
	}
	for _, one := range e.History {
		c, refused := decodeTransformChange(one)
		if refused != nil {
			return nil, refused
		}
		t.History = append(t.History, c)
	}
	return t, nil
}

// appendTransforms appends the modules to a snapshot, and the bytes that none has.
func (m *Image) appendTransforms(b []byte) []byte {
	for t := range m.Transforms() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_Transform{Transform: t.encode()}})
	}
	for hash, condemned := range m.UnnamedModules() {
		b = appendRecord(b, &pb.SnapshotRecord{Body: &pb.SnapshotRecord_UnnamedModule{UnnamedModule: &pb.SnapshotUnnamedModule{Sha256: []byte(hash), Condemned: condemned}}})
	}
	return b
}

// transforms reads what appendTransforms writes.
func (d *decoder) transforms(m *Image, h *pb.SnapshotHeader) error {
	m.transforms.collected = h.Collected
	for range h.Transforms {
		r, err := d.next()
		if err != nil {
			return err
		}
		t, refused := decodeTransform(r.GetTransform())
		if refused != nil {
			return d.corrupt("no module where one is due: %v", refused)
		}
		if _, twice := m.transforms.names.get(t.Name); twice {
			return d.corrupt("module %s twice", t.Name)
		}
		m.transforms.names = m.transforms.names.put(t.Name, t)
	}
	for range h.UnnamedModules {
		r, err := d.next()
		if err != nil {
			return err
		}
		hash := string(r.GetUnnamedModule().GetSha256())
		if _, twice := m.transforms.unnamed.get(hash); twice || len(hash) != ModuleHashSize {
			return d.corrupt("no bytes of a module where some are due, or twice")
		}
		m.transforms.unnamed = m.transforms.unnamed.put(hash, r.GetUnnamedModule().Condemned)
	}
	return nil
}

// transforms appends the modules that came, changed and went.
func (d *Difference) transforms(before *Image) {
	for was, is := range diff(before.transforms.names, d.after.transforms.names) {
		if is == nil {
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneTransform{GoneTransform: was.Name}})
			continue
		}
		if was == nil || !was.same(is) {
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Transform{Transform: is.encode()}})
		}
	}
}

// transform puts a module of a delta into the image.
func (e *viewEdit) transform(is *pb.Transform) error {
	t, refused := decodeTransform(is)
	if refused != nil {
		return e.d.corrupt("module: %v", refused)
	}
	e.m.transforms.names = e.m.transforms.names.put(t.Name, t)
	return nil
}
