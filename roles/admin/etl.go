package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/security/acl"
)

const (
	modulesPath = "/api/v1/etl/modules"
	uploadsPath = "/api/v1/etl/uploads"

	// maxSample bounds the records that a module is tried with, and maxSampleBytes what they are
	// as JSON: a body has a spec beside them.
	maxSample      = 1000
	maxSampleBytes = maxBodyBytes - 2*metadata.MaxTransformSpec
	// tryTime bounds a trial: compiling 32 MiB takes most of it.
	tryTime = 90 * time.Second
	// maxTrials run at once: each holds a module and the memory of an instance, and who may
	// only describe may ask for them. turnTime is how long another waits for its turn.
	maxTrials = 2
	turnTime  = 20 * time.Second
)

// Transforms is what the API asks this node for about modules that transform records.
type Transforms interface {
	// Store puts the bytes of a module into the bucket, unless they are there. What it is
	// given is a module, as far as its first bytes say.
	Store(ctx context.Context, wasm []byte) (sha256 string, err error)
	// Fetch returns what Store has put; bucket.ErrNotFound (wrapped).
	Fetch(ctx context.Context, sha256 string) ([]byte, error)
	// Try loads a module, and shows what it does with records.
	Try(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record) (*etl.Tried, error)
	// Batteries are the modules that come with rustmq.
	Batteries() []Battery
	// Battery returns the bytes of one; false: there is none.
	Battery(name string) ([]byte, bool)
	// Status is how the active modules are in this process; false: it runs none, for it is no
	// broker.
	Status() (modules []etl.ModuleStatus, runs bool)
	// Partitions is how an async module is for the partitions that this process leads.
	Partitions(name string) []ETLPartition
}

// Battery is a module that comes with rustmq.
type Battery struct {
	Name    string          `json:"name"`
	Doc     string          `json:"doc" doc:"what it does, in a line"`
	SHA256  string          `json:"sha256"`
	Bytes   int64           `json:"bytes"`
	Example json.RawMessage `json:"example_config,omitempty"`
}

// ETLModule is a module as the API shows it.
type ETLModule struct {
	Name      string       `json:"name"`
	Active    uint32       `json:"active" doc:"the version that runs; 0: none"`
	State     string       `json:"state" enum:"active,disabled,budget-spent" doc:"budget-spent: it was disabled, for it failed too often, and its records meet on_failure until somebody enables, rolls back or disables it"`
	Reason    string       `json:"reason,omitempty" doc:"what was said when its budget was spent"`
	Stands    uint32       `json:"stands,omitempty" doc:"the version that records meet: the active one, or the one whose budget is spent"`
	Previous  uint32       `json:"previous,omitempty" doc:"the version that a rollback goes to"`
	Mode      string       `json:"mode,omitempty" doc:"inline or async, of the version that runs, or else of the last"`
	Topics    []string     `json:"topics,omitempty" doc:"of that version"`
	OnFailure string       `json:"on_failure,omitempty" doc:"what becomes of records that it fails on, by that version: reject, pass or dead-letter"`
	Here      *ETLHere     `json:"here,omitempty" doc:"how it is in the process that answers, if that is a broker and the module active"`
	Versions  []ETLVersion `json:"versions"`
}

// ETLVersion is a version of a module.
type ETLVersion struct {
	Number  uint32          `json:"number"`
	SHA256  string          `json:"sha256"`
	Bytes   int64           `json:"bytes"`
	Created time.Time       `json:"created"`
	By      string          `json:"by"`
	Spec    json.RawMessage `json:"spec,omitempty" doc:"left out of lists"`
}

// ETLHere is how an active module is in one process.
type ETLHere struct {
	Version  uint32 `json:"version" doc:"that is to run here; it may be another for a moment after a change"`
	Ready    bool   `json:"ready" doc:"false: records for its topics are refused here, and producers try again"`
	Error    string `json:"error,omitempty" doc:"why it is not ready, or else its last failure"`
	Failures uint64 `json:"failures" doc:"since it runs here"`
	// Partitions are those that it reads here.
	Partitions []ETLPartition `json:"partitions,omitempty" doc:"of an async module: those that the process leads"`
}

// ETLPartition is how an async module is for one partition that it reads.
type ETLPartition struct {
	Topic     string `json:"topic,omitempty" doc:"left out: the module cannot be run at all"`
	Partition int32  `json:"partition"`
	State     string `json:"state" enum:"starting,running,waiting,refused"`
	Committed int64  `json:"committed" doc:"offset of the first record that is to be transformed; -1: not known yet"`
	End       int64  `json:"end" doc:"of the partition, as far as it is stable; -1: not known yet"`
	Lag       int64  `json:"lag" doc:"records between the two, holes among them"`
	Error     string `json:"error,omitempty" doc:"what is tried again"`
}

// ETLChange is an entry of a module's history.
type ETLChange struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	What    string    `json:"what"`
	Version uint32    `json:"version"`
	Reason  string    `json:"reason,omitempty"`
}

// ETLRecord is a record of a sample, as `rustmq consume -f json` prints it and `produce -f
// json` takes it.
type ETLRecord struct {
	Timestamp   string      `json:"timestamp,omitempty" doc:"RFC 3339; left out: now"`
	Key         *string     `json:"key,omitempty" nullable:"true"`
	KeyBase64   []byte      `json:"key_base64,omitempty"`
	Value       *string     `json:"value,omitempty" nullable:"true"`
	ValueBase64 []byte      `json:"value_base64,omitempty"`
	Headers     []ETLHeader `json:"headers,omitempty"`
}

// ETLHeader is a header of an ETLRecord.
type ETLHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value,omitempty" nullable:"true"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// ETLTrial is what a module does with a sample.
type ETLTrial struct {
	Topic     string     `json:"topic" doc:"that the records were taken to be of"`
	LoadMicro int64      `json:"load_us" doc:"microseconds, to verify, compile and initialise it"`
	CallMicro int64      `json:"call_us" doc:"microseconds of the calls with the records"`
	Records   []ETLTried `json:"records"`
	Logs      []string   `json:"logs,omitempty" doc:"what the module said"`
}

// ETLTried is what would become of a record.
type ETLTried struct {
	Action string     `json:"action" enum:"keep,change,drop,route,reject,skip" doc:"change: it is kept, with other content; skip: no condition of the spec holds, and the module is not shown it"`
	Text   string     `json:"text,omitempty" doc:"the topic of a route, the reason of a rejection"`
	Error  string     `json:"error,omitempty"`
	Before ETLRecord  `json:"before"`
	After  *ETLRecord `json:"after,omitempty" doc:"where it is changed"`
}

// ETLDeploy is the body of a deployment.
type ETLDeploy struct {
	SHA256   string          `json:"sha256,omitempty" pattern:"^[0-9a-f]{64}$" doc:"of bytes that were uploaded"`
	Battery  string          `json:"battery,omitempty" maxLength:"64" doc:"or the name of a module that comes with rustmq"`
	Spec     json.RawMessage `json:"spec" doc:"docs/etl-inline.md has its fields"`
	Topic    string          `json:"topic,omitempty" maxLength:"249" doc:"of the sample; left out: one that the spec names"`
	Sample   []ETLRecord     `json:"sample,omitempty" maxItems:"1000" doc:"records that it is tried with first"`
	Disabled bool            `json:"disabled,omitempty" doc:"it is deployed, and the version that is active stays so"`
	DryRun   bool            `json:"dry_run,omitempty" doc:"nothing is changed"`
}

// ETLDeployed is the answer.
type ETLDeployed struct {
	Name    string    `json:"name"`
	Version uint32    `json:"version" doc:"that it has, or with dry_run would have had"`
	Active  bool      `json:"active"`
	DryRun  bool      `json:"dry_run,omitempty"`
	SHA256  string    `json:"sha256"`
	Notes   []string  `json:"notes" doc:"what may not be meant so"`
	Trial   *ETLTrial `json:"trial" doc:"what became of the sample; without one only the times"`
}

// ETLEnable is the body by which a version comes to be active.
type ETLEnable struct {
	Version uint32 `json:"version,omitempty" maximum:"4294967295" format:"int64" doc:"left out: the one that was active last, or else the newest"`
}

// ETLDisable is the body by which none is active any more.
type ETLDisable struct {
	Reason string `json:"reason,omitempty" maxLength:"1024"`
}

// ETLRollback is the body of a rollback.
type ETLRollback struct {
	To     uint32 `json:"to,omitempty" maximum:"4294967295" format:"int64" doc:"left out: the version that was active before"`
	Reason string `json:"reason,omitempty" maxLength:"1024"`
}

// ETLTest is the body of a trial of what is deployed.
type ETLTest struct {
	Version uint32      `json:"version,omitempty" maximum:"4294967295" format:"int64" doc:"left out: the one that is active, or else the newest"`
	Topic   string      `json:"topic,omitempty" maxLength:"249"`
	Sample  []ETLRecord `json:"sample" maxItems:"1000"`
}

type (
	moduleName struct {
		Name string `path:"name" maxLength:"64"`
	}
	modulesOutput struct {
		Body struct {
			Modules []ETLModule `json:"modules"`
			NextPage
		}
	}
	moduleOutput  struct{ Body ETLModule }
	historyOutput struct {
		Body struct {
			History []ETLChange `json:"history" doc:"oldest first; the last hundred"`
		}
	}
	batteriesOutput struct {
		Body struct {
			Batteries []Battery `json:"batteries"`
		}
	}
	uploadInput struct {
		RawBody []byte `contentType:"application/wasm"`
	}
	uploadOutput struct {
		Body struct {
			SHA256 string `json:"sha256"`
			Bytes  int64  `json:"bytes"`
		}
	}
	deployInput       = ofModule[ETLDeploy]
	deployOutput      struct{ Body ETLDeployed }
	enableInput       = ofModule[ETLEnable]
	disableInput      = ofModule[ETLDisable]
	rollbackInput     = ofModule[ETLRollback]
	deleteModuleInput struct {
		Name    string `path:"name" maxLength:"64"`
		Version uint32 `query:"version" maximum:"4294967295" format:"int64" doc:"left out: the module with all versions"`
		Force   bool   `query:"force" doc:"though it is active"`
	}
	testInput  = ofModule[ETLTest]
	testOutput struct{ Body ETLTrial }
)

// ofModule is a call about a module, with a body.
type ofModule[B any] struct {
	Name string `path:"name" maxLength:"64"`
	Body B
}

func (in *ofModule[B]) name() string { return in.Name }

type etlAPI struct {
	cluster    Cluster
	transforms Transforms
	told       Tellers // nil: brokers cannot be asked
	now        func() time.Time
	trials     chan struct{} // a place for each that runs
}

func registerETL(h *routes, a etlAPI) {
	route(h, http.MethodGet, modulesPath, onCluster[PageQuery](describesCluster), a.list)
	route(h, http.MethodGet, modulesPath+"/{name}", onCluster[moduleName](describesCluster).tagged(imageOf(a.cluster), func(in *moduleName) controller.Tagged { return moduleNamed(in.Name) }), a.describe)
	route(h, http.MethodGet, modulesPath+"/{name}/history", onCluster[moduleName](describesCluster), a.history)
	route(h, http.MethodGet, "/api/v1/etl/pipelines", onCluster[PageQuery](describesCluster).noting("topics that the caller may not describe are left out"), a.pipelines)
	if a.told != nil {
		route(h, http.MethodGet, "/api/v1/etl/nodes", onCluster[etlNodesInput](describesCluster), a.nodes)
	}
	route(h, http.MethodGet, "/api/v1/etl/batteries", onCluster[struct{}](describesCluster), a.batteries)
	route(h, http.MethodPost, uploadsPath, onCluster[uploadInput](altersCluster).act("module.upload").about(func(*uploadInput) string { return acl.ClusterName }).saying(func(in *uploadInput) string { return fmt.Sprintf("%d bytes", len(in.RawBody)) }), a.upload,
		withStatus(http.StatusCreated), func(op *huma.Operation) { op.MaxBodyBytes = metadata.MaxModuleBytes + 1 })
	route(h, http.MethodPost, modulesPath+"/{name}/versions", onCluster[deployInput](altersCluster).act("module.deploy").about((*deployInput).name).saying(toldDeployment).unless(func(in *deployInput) bool { return in.Body.DryRun }).tagged(imageOf(a.cluster), func(in *deployInput) controller.Tagged { return moduleNamed(in.Name) }), a.deploy, withStatus(http.StatusCreated))
	route(h, http.MethodPost, modulesPath+"/{name}/enable", onCluster[enableInput](altersCluster).act("module.enable").about((*enableInput).name).saying(func(in *enableInput) string { return toldVersion(in.Body.Version) }).tagged(imageOf(a.cluster), func(in *enableInput) controller.Tagged { return moduleNamed(in.Name) }), a.enable, withStatus(http.StatusOK))
	route(h, http.MethodPost, modulesPath+"/{name}/disable", onCluster[disableInput](altersCluster).act("module.disable").about((*disableInput).name).saying(func(in *disableInput) string { return in.Body.Reason }).tagged(imageOf(a.cluster), func(in *disableInput) controller.Tagged { return moduleNamed(in.Name) }), a.disable, withStatus(http.StatusOK))
	route(h, http.MethodPost, modulesPath+"/{name}/rollback", onCluster[rollbackInput](altersCluster).act("module.rollback").about((*rollbackInput).name).saying(func(in *rollbackInput) string { return toldVersion(in.Body.To) }).tagged(imageOf(a.cluster), func(in *rollbackInput) controller.Tagged { return moduleNamed(in.Name) }), a.rollback, withStatus(http.StatusOK))
	route(h, http.MethodDelete, modulesPath+"/{name}", onCluster[deleteModuleInput](altersCluster).act("module.delete").about(func(in *deleteModuleInput) string { return in.Name }).saying(func(in *deleteModuleInput) string { return toldVersion(in.Version) }).tagged(imageOf(a.cluster), func(in *deleteModuleInput) controller.Tagged { return moduleNamed(in.Name) }), a.delete)
	route(h, http.MethodPost, modulesPath+"/{name}/test", onCluster[testInput](describesCluster).noting("what is deployed, with records of the caller; nothing is changed").act("module.test").about((*testInput).name).unless(func(*testInput) bool { return true }), a.test, withStatus(http.StatusOK))
}

func toldVersion(number uint32) string {
	if number == 0 {
		return ""
	}
	return fmt.Sprintf("version=%d", number)
}

func toldDeployment(in *deployInput) string {
	what := "sha256=" + in.Body.SHA256
	if in.Body.Battery != "" {
		what = "battery=" + in.Body.Battery
	}
	if in.Body.Disabled {
		what += " disabled"
	}
	return what
}

func (a etlAPI) shown(t *metadata.Transform, specs bool) ETLModule {
	m := ETLModule{Name: t.Name, Active: t.Active, State: "active", Stands: t.Stands(), Previous: t.Previous, Versions: []ETLVersion{}}
	if t.Active == 0 {
		m.State = "disabled"
		if spent, was := t.BudgetSpent(); was {
			m.State, m.Reason = "budget-spent", fmt.Sprintf("version %d on %s: %s", spent.Version, spent.By, spent.Reason)
		}
	}
	for _, v := range t.Versions {
		shown := ETLVersion{Number: v.Number, SHA256: hex.EncodeToString([]byte(v.SHA256)), Bytes: v.Size, Created: v.Created, By: v.By}
		if specs {
			shown.Spec = json.RawMessage(v.Spec)
		}
		m.Versions = append(m.Versions, shown)
	}
	if v, is := t.Version(lastOf(t)); is {
		var spec struct {
			Mode   string   `json:"mode"`
			Topics []string `json:"topics"`
		}
		if json.Unmarshal([]byte(v.Spec), &spec) == nil { // which a deployment has seen to
			m.Mode, m.Topics = spec.Mode, spec.Topics
		}
		if known, err := pipeline.ParseSpec([]byte(v.Spec)); err == nil { // not of a later version of rustmq
			m.OnFailure = string(known.OnFailure)
		}
	}
	if all, runs := a.transforms.Status(); runs && t.Active != 0 {
		m.Here = &ETLHere{Version: t.Active}
		for _, s := range all {
			if s.Name == t.Name {
				*m.Here = ETLHere{Version: s.Version, Ready: s.Ready, Error: s.Error, Failures: s.Failures, Partitions: a.transforms.Partitions(t.Name)}
			}
		}
	}
	return m
}

// lastOf is the version of a module that is active, was last, or is the newest.
func lastOf(t *metadata.Transform) uint32 {
	for _, number := range []uint32{t.Stands(), t.Last} {
		if number != 0 {
			return number
		}
	}
	return t.Versions[len(t.Versions)-1].Number
}

// version finds a module, and says which version a call is about: the one that it names, or
// with 0 another.
func (a etlAPI) version(name string, number uint32, other func(*metadata.Transform) uint32) (*metadata.Transform, uint32, error) {
	t, err := a.find(name)
	if err == nil && number == 0 {
		number = other(t)
	}
	return t, number, err
}

func (a etlAPI) list(_ context.Context, in *PageQuery) (*modulesOutput, error) {
	out := &modulesOutput{}
	part, next, err := partOf(*in, slices.Collect(a.cluster.Image().Transforms()), func(t *metadata.Transform) string { return t.Name })
	out.Body.Modules, out.Body.NextPage = []ETLModule{}, next
	for _, t := range part {
		out.Body.Modules = append(out.Body.Modules, a.shown(t, false))
	}
	return out, err
}

func (a etlAPI) find(name string) (*metadata.Transform, error) {
	t, known := a.cluster.Image().Transform(name)
	if !known {
		return nil, huma.NewError(http.StatusNotFound, fmt.Sprintf("there is no module %q; `rustmq admin etl list` shows those there are", name))
	}
	return t, nil
}

func (a etlAPI) describe(_ context.Context, in *moduleName) (*moduleOutput, error) {
	t, err := a.find(in.Name)
	if err != nil {
		return nil, err
	}
	return &moduleOutput{a.shown(t, true)}, nil
}

func (a etlAPI) history(_ context.Context, in *moduleName) (*historyOutput, error) {
	t, err := a.find(in.Name)
	if err != nil {
		return nil, err
	}
	out := &historyOutput{}
	out.Body.History = []ETLChange{}
	for _, c := range t.History {
		out.Body.History = append(out.Body.History, ETLChange{c.At, c.By, c.Action.String(), c.Version, c.Reason})
	}
	return out, nil
}

func (a etlAPI) batteries(context.Context, *struct{}) (*batteriesOutput, error) {
	out := &batteriesOutput{}
	out.Body.Batteries = append([]Battery{}, a.transforms.Batteries()...)
	return out, nil
}

// change is one of a module, by who calls.
func (a etlAPI) change(ctx context.Context, action metadata.TransformAction, version uint32, reason string) metadata.TransformChange {
	return metadata.TransformChange{At: a.now(), By: callerOf(ctx), Action: action, Version: version, Reason: reason}
}

func callerOf(ctx context.Context) string {
	if who := subjectOf(ctx); who != nil {
		return who.principal
	}
	return anonymousPrincipal
}

// set makes a change, and shows what the module is then.
func (a etlAPI) set(ctx context.Context, name string, c metadata.TransformChange) (*moduleOutput, error) {
	if err := a.cluster.SetTransform(ctx, name, c); err != nil {
		return nil, problem(err)
	}
	return a.describe(ctx, &moduleName{name})
}

func (a etlAPI) enable(ctx context.Context, in *enableInput) (*moduleOutput, error) {
	_, version, err := a.version(in.Name, in.Body.Version, lastOf)
	if err != nil {
		return nil, err
	}
	return a.set(ctx, in.Name, a.change(ctx, metadata.TransformEnabled, version, ""))
}

func (a etlAPI) disable(ctx context.Context, in *disableInput) (*moduleOutput, error) {
	return a.set(ctx, in.Name, a.change(ctx, metadata.TransformDisabled, 0, in.Body.Reason))
}

func (a etlAPI) rollback(ctx context.Context, in *rollbackInput) (*moduleOutput, error) {
	t, version, err := a.version(in.Name, in.Body.To, func(t *metadata.Transform) uint32 { return t.Previous })
	if err != nil {
		return nil, err
	}
	if version == 0 {
		return nil, huma.NewError(http.StatusConflict, fmt.Sprintf("no version of module %s was active before: name one (rustmq admin etl rollback %s --to N), or disable it", t.Name, t.Name))
	}
	return a.set(ctx, in.Name, a.change(ctx, metadata.TransformRolledBack, version, in.Body.Reason))
}

func (a etlAPI) delete(ctx context.Context, in *deleteModuleInput) (*struct{}, error) {
	if _, err := a.find(in.Name); err != nil {
		return nil, err
	}
	if err := a.cluster.DeleteTransform(ctx, in.Name, a.change(ctx, metadata.TransformVersionDeleted, in.Version, ""), in.Force); err != nil {
		return nil, problem(err)
	}
	return nil, nil
}

// moduleProblems names the modules that do not run as they are meant to: by the metadata those
// whose budget is spent, and those that are not ready in this process.
func moduleProblems(image *metadata.Image, here []etl.ModuleStatus, now time.Time) (problems []Problem) {
	for t := range image.Transforms() {
		if spent, was := t.BudgetSpent(); was {
			back := ""
			if t.Previous != 0 {
				back = fmt.Sprintf("`rustmq admin etl rollback %s`, ", t.Name)
			}
			problems = append(problems, Problem{
				ID: "module/" + t.Name, Kind: "module", Severity: controller.Critical, Since: spent.At,
				What: fmt.Sprintf("module %s is disabled since %s: version %d failed too often on %s (%s); it is not entered any more, and %s", t.Name, spent.At.Format(time.RFC3339), spent.Version, spent.By, spent.Reason, meanwhile(t)),
				Do:   fmt.Sprintf("`rustmq admin etl test %s --sample FILE` tries it with records; then %sdeploy a version that is mended, or `rustmq admin etl enable %s`; `rustmq admin etl disable %s` has records pass without it", t.Name, back, t.Name, t.Name),
			})
		}
	}
	for _, s := range here {
		if !s.Ready && now.Sub(s.Since) >= moduleUnready {
			problems = append(problems, Problem{
				ID: "module/" + s.Name + "/ready", Kind: "module", Severity: controller.Critical, Since: s.Since, What: fmt.Sprintf("module %s, version %d, is active and not ready on this node: records of its topics are refused here (%s)", s.Name, s.Version, s.Error),
				Do: fmt.Sprintf("see to what it lacks; `rustmq admin etl disable %s` has the records pass without it", s.Name),
			})
		}
		if stuck := s.Stuck; stuck != nil && now.Sub(stuck.Since) >= moduleUnready {
			problems = append(problems, Problem{
				ID: "module/" + s.Name + "/stuck", Kind: "module", Severity: controller.Warning, Since: stuck.Since, What: fmt.Sprintf("module %s, version %d, has not got on since %s in %s of this node, and its lag grows (%s)", s.Name, s.Version, stuck.Since.UTC().Format(time.RFC3339), plural(stuck.Partitions, "partition"), stuck.Error),
				Do: fmt.Sprintf("see to what it waits for: `rustmq admin etl describe %s` shows its partitions; it goes on by itself", s.Name),
			})
		}
	}
	return problems
}

// meanwhile is what becomes of the records of a module whose budget is spent.
func meanwhile(t *metadata.Transform) string {
	v, is := t.Version(t.Stands())
	if !is {
		return ""
	}
	spec, err := pipeline.ParseSpec([]byte(v.Spec))
	switch {
	case err != nil:
		return "its records are refused"
	case spec.Mode == pipeline.Async:
		return "its records wait in their topics"
	case spec.OnFailure == pipeline.Pass:
		return "its records pass as they are (on_failure: pass)"
	case spec.OnFailure == pipeline.DeadLetter:
		return fmt.Sprintf("its records go to %s (on_failure: dead-letter)", spec.DeadLetterTopic)
	}
	return "its records are refused (on_failure: reject)"
}

// moduleUnready is how long a module may be active and not ready before that is a problem.
const moduleUnready = 15 * time.Second

func (a etlAPI) upload(ctx context.Context, in *uploadInput) (*uploadOutput, error) {
	if err := a.mayDeploy(); err != nil {
		return nil, err
	}
	if len(in.RawBody) == 0 || len(in.RawBody) > metadata.MaxModuleBytes {
		return nil, badRequest(fmt.Errorf("a module of %d bytes: it has 1 to %d", len(in.RawBody), metadata.MaxModuleBytes))
	}
	hash, err := a.transforms.Store(ctx, slices.Clone(in.RawBody))
	if err != nil {
		return nil, storeProblem(err)
	}
	out := &uploadOutput{}
	out.Body.SHA256, out.Body.Bytes = hex.EncodeToString([]byte(hash)), int64(len(in.RawBody))
	return out, nil
}

// NoModuleError says that bytes are no module.
type NoModuleError struct{ Reason string }

func (e *NoModuleError) Error() string { return e.Reason }

// storeProblem is of what the bucket does not take or give.
func storeProblem(err error) error {
	if no, is := errors.AsType[*NoModuleError](err); is {
		return badRequest(no)
	}
	return huma.NewError(http.StatusServiceUnavailable, err.Error()+"; `rustmq admin cluster health` says how the bucket is")
}
