package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage/bucket"
)

// upperModule are the bytes of a module that writes values in capitals; any other fails.
const upperModule = "\x00asm upper"

// fakeTransforms is a node without a runtime.
type fakeTransforms struct {
	mu     sync.Mutex
	stored map[string][]byte
	status []etl.ModuleStatus
}

func newFakeTransforms() *fakeTransforms { return &fakeTransforms{stored: map[string][]byte{}} }

func (f *fakeTransforms) Store(_ context.Context, wasm []byte) (string, error) {
	if !bytes.HasPrefix(wasm, []byte("\x00asm")) {
		return "", &NoModuleError{"these bytes are no module"}
	}
	sum := sha256.Sum256(wasm)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored[string(sum[:])] = wasm
	return string(sum[:]), nil
}

func (f *fakeTransforms) Fetch(_ context.Context, hash string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wasm, there := f.stored[hash]
	if !there {
		return nil, fmt.Errorf("fetch: %w", &bucket.Error{Op: "read", Key: "k", Err: bucket.ErrNotFound})
	}
	return wasm, nil
}

func (f *fakeTransforms) Try(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record) (*etl.Tried, error) {
	return etl.Trial{Engine: fakeEngine{}}.Run(ctx, name, wasm, spec, topic, records)
}

func (f *fakeTransforms) Batteries() []Battery {
	return []Battery{{Name: "upper", Doc: "writes in capitals", SHA256: strings.Repeat("a", 64), Bytes: int64(len(upperModule))}}
}

func (f *fakeTransforms) Battery(name string) ([]byte, bool) {
	return []byte(upperModule), name == "upper"
}

func (f *fakeTransforms) Partitions(name string) []ETLPartition {
	return []ETLPartition{{Topic: "of-" + name, Partition: 7, State: "running", Committed: 1, End: 9, Lag: 8}}
}

func (f *fakeTransforms) Status() ([]etl.ModuleStatus, bool) { return f.status, true }

type fakeEngine struct{}

func (fakeEngine) Load(_ context.Context, wasm []byte, o etl.ModuleOptions) (etl.Module, error) {
	if string(wasm) != upperModule {
		return nil, &abi.Failure{Kind: abi.Init, Text: "refuses its config"}
	}
	o.Log(0, "ready")
	return fakeModule{}, nil
}

type fakeModule struct{}

func (fakeModule) Close() {}

func (fakeModule) Transform(_ context.Context, b *abi.Batch) ([]abi.Decision, error) {
	decisions := make([]abi.Decision, len(b.Records))
	for i, r := range b.Records {
		switch string(r.Value) {
		case "DROP":
			decisions[i].Action = abi.Drop
		case "REJECT":
			decisions[i] = abi.Decision{Action: abi.Reject, Text: "it is so"}
		case "FINE":
		default:
			decisions[i] = abi.Decision{Replaces: abi.Value, Value: bytes.ToUpper(r.Value)}
		}
	}
	return decisions, nil
}

// testETL is what commands of tests have without a server.
func testETL() LocalETL {
	f := newFakeTransforms()
	return LocalETL{Try: f.Try, Battery: f.Battery, Records: func(in io.Reader, _ string, most int) (records []abi.Record, more bool, err error) {
		raw, err := io.ReadAll(in)
		for _, line := range strings.Fields(string(raw)) {
			if len(records) == most {
				return records, true, err
			}
			records = append(records, abi.Record{Value: []byte(line), Timestamp: 1})
		}
		return records, false, err
	}}
}

// etlServer is the API of modules without who asks, on a controller that is alone.
func etlServer(t *testing.T) (url string, f *fakeTransforms, a *asking) {
	t.Helper()
	f = newFakeTransforms()
	c, _ := alone(t)
	a = askingOf(t, c, func(o *Options) { o.TLS, o.Access, o.Transforms, o.Reachable = nil, nil, f, false })
	s := httptest.NewServer(a.s.http.Handler)
	t.Cleanup(s.Close)
	return s.URL, f, a
}

func fileOf(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The life of a module, by commands: deployed after a trial, changed, rolled back, deleted.
func TestLifeOfAModule(t *testing.T) {
	url, f, a := etlServer(t)
	does := func(want string, args ...string) string {
		t.Helper()
		out, err := run(t.Context(), url, append([]string{"etl"}, args...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("etl %s: %v\n%s\nwithout %q", strings.Join(args, " "), err, out, want)
		}
		return out
	}
	fails := func(want string, args ...string) {
		t.Helper()
		out, err := run(t.Context(), url, append([]string{"etl"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("etl %s: %v\n%s\nwithout %q", strings.Join(args, " "), err, out, want)
		}
	}
	wasm, sample := fileOf(t, "m.wasm", upperModule), fileOf(t, "sample", "a DROP REJECT FINE")
	out := does("version 1 would do; nothing was changed", "deploy", "m", wasm, "--topics", "orders", "--sample", sample, "--dry-run")
	for _, want := range []string{"change", "reject it is so", "drop", "keep 1, change 1, drop 1, reject 1", "module says: ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("the dry run says nothing of %q:\n%s", want, out)
		}
	}
	if a.c.Image().NumTransforms() != 0 {
		t.Fatal("a dry run has deployed a module")
	}
	does("version 1 is active", "deploy", "m", wasm, "--topics", "orders", "--config", `{"a": 1}`)
	does("version 2 is active", "deploy", "m", "--battery", "upper", "--topics", "none.*", "--routes", "nowhere")
	is, _ := a.c.Image().Transform("m")
	if v, _ := is.Version(1); v.Spec != `{"config":{"a":1},"mode":"inline","topics":["orders"]}` || v.By != "User:ANONYMOUS" || v.Size != int64(len(upperModule)) {
		t.Errorf("%+v", v)
	}
	does("note: there is no topic nowhere yet", "deploy", "m", "--battery", "upper", "--topics", "none.*", "--routes", "nowhere", "--disabled")
	does("2", "list")
	does("version 1 is active", "rollback", "m")
	does("version 2 is active", "rollback", "m", "--reason", "again")
	does("is disabled", "disable", "m", "--reason", "too slow")
	does("version 3 is active", "enable", "m", "--version", "3")
	does("version 1 is active", "rollback", "m", "--to", "1")
	does("too slow", "history", "m")
	does(`"what": "rolled back"`, "history", "m", "-o", "json")
	does("previous  3", "describe", "m")
	f.status = []etl.ModuleStatus{{Name: "m", Version: 1, Ready: true, Failures: 3, Error: "trap: it fell"}}
	does("ready, 1 partition, lag 8, 3 failures", "list")
	for _, want := range []string{"trap: it fell", "of-m          7 running         1   9   8"} {
		does(want, "describe", "m")
	}
	out = does("change", "test", "m", "--sample", sample)
	if !strings.Contains(out, "as it is") {
		t.Errorf("a test shows nothing of what is kept:\n%s", out)
	}
	does("(active, 3 versions) would be deleted; nothing was", "delete", "m", "--dry-run", "--force")
	does("would be deleted, version 2 alone", "delete", "m", "--dry-run", "--version", "2")
	fails("is active, and would be left", "delete", "m", "--dry-run")
	fails("is active, and would be left", "delete", "m", "--dry-run", "--version", "1")
	fails("has no version 9", "delete", "m", "--dry-run", "--version", "9")
	fails("is active: disable it first", "delete", "m")
	does("version 2 alone", "delete", "m", "--version", "2")
	does("is deleted", "delete", "m", "--force")
	if len(f.stored) == 0 || a.c.Image().NumTransforms() != 0 {
		t.Error("the module is there")
	}

	// What is wrong is said, and changes nothing.
	fails("there is no module \"m\"", "describe", "m")
	fails("there is no module \"m\"", "rollback", "m")
	fails("there is no battery", "deploy", "m", "--battery", "lower", "--topics", "t")
	fails("which module?", "deploy", "m")
	fails("output is missing: an async module needs the topic that its records go to", "deploy", "m", "--battery", "upper", "--topics", "t", "--mode", "async")
	fails(`use "pass"; output`, "deploy", "m", "--battery", "upper", "--topics", "t", "--mode", "async")
	many := fileOf(t, "many", strings.Repeat("x ", maxTried+1))
	fails("has more than 1000 records, which is what a server takes", "deploy", "m", "--battery", "upper", "--topics", "t", "--sample", many)
	long := fileOf(t, "long", strings.Repeat(strings.Repeat("x", 1000)+" ", 900))
	fails("test the .wasm file itself", "deploy", "m", "--battery", "upper", "--topics", "t", "--sample", long)
	fails("900 records make", "test", "m", "--sample", long)
	does("change 900", "test", "upper", "--sample", long)
	fits := fileOf(t, "fits", strings.Repeat(strings.Repeat("x", 900)+" ", 900))
	does("change 900", "deploy", "m", "--battery", "upper", "--topics", "t", "--dry-run", "--sample", fits, "--spec", fileOf(t, "spec", `{"config":"`+strings.Repeat("x", metadata.MaxTransformSpec-100)+`"}`))
	fails("has more than 100000 records", "test", "upper", "--sample", many)
	fails("--version: upper is a file or a battery", "test", "upper", "--version", "2")
	fails("no name of a module", "deploy", "M.1", "--battery", "upper", "--topics", "t")
	fails("--config is no JSON", "deploy", "m", "--battery", "upper", "--config", "{")
	fails("on_failure", "deploy", "m", "--battery", "upper", "--topics", "t", "--on-failure", "never")
	fails("topic other is none that the module is for", "deploy", "m", "--battery", "upper", "--topics", "t", "--topic", "other")
	fails("init: refuses its config; nothing was changed", "deploy", "m", fileOf(t, "bad.wasm", "\x00asm bad"), "--topics", "t")
	fails("these bytes are no module", "deploy", "m", fileOf(t, "text.wasm", "text"), "--topics", "t")
	fails("there is no file", "test", "./none.wasm")
	does("version 1 is active", "deploy", "m", "--battery", "upper", "--topics", "t")
	fails("no version of module m was active before", "rollback", "m")
	fails("has no version 9", "enable", "m", "--version", "9")
	fails("--config: m is tried with the spec of its version", "test", "m", "--config", "{}")
	does("; tried with no records", "test", wasm)
	does("note: there is no topic out yet: records wait for it", "deploy", "a", "--battery", "upper", "--topics", "t", "--mode", "async", "--on-failure", "pass", "--output-topic", "out", "--dry-run")
	sum := sha256.Sum256([]byte(upperModule))
	does(hex.EncodeToString(sum[:]), "deploy", "a", "--battery", "upper", "--topics", "t", "--dry-run", "-o", "json")
	does("change 1", "test", "upper", "--sample", sample)
	does("writes in capitals", "batteries")
}

// Bytes that are not there, or of a name that is taken meanwhile, deploy nothing.
func TestDeploymentsThatAreRefused(t *testing.T) {
	_, _, a := etlServer(t)
	a.scheme, a.remote = "http", "127.0.0.1:1"
	deploy := func(body string) *httptest.ResponseRecorder {
		return a.do(http.MethodPost, modulesPath+"/m/versions", body)
	}
	a.want("no bytes", http.StatusNotFound, deploy(`{"sha256":"`+strings.Repeat("0", 64)+`","spec":{"mode":"inline","topics":["t"]}}`), "was uploaded")
	a.want("two modules", http.StatusBadRequest, deploy(`{"sha256":"`+strings.Repeat("0", 64)+`","battery":"upper","spec":{"mode":"inline","topics":["t"]}}`), "which module?")
	a.want("half a hash", http.StatusUnprocessableEntity, deploy(`{"sha256":"00","spec":{"mode":"inline","topics":["t"]}}`))
	a.want("no spec", http.StatusBadRequest, deploy(`{"battery":"upper","spec":[]}`), "read the spec")
	a.want("a field that is none", http.StatusBadRequest, deploy(`{"battery":"upper","spec":{"mode":"inline","topics":["t"],"topicz":[]}}`), "topicz")
	a.want("a long spec", http.StatusBadRequest, deploy(`{"battery":"upper","spec":{"mode":"inline","topics":["t"],"config":"`+strings.Repeat("x", metadata.MaxTransformSpec)+`"}}`), "at most 65536 are kept")
	a.want("a time that is none", http.StatusBadRequest, deploy(`{"battery":"upper","spec":{"mode":"inline","topics":["t"]},"sample":[{"timestamp":"now"}]}`), "RFC 3339")
	if a.c.Image().NumTransforms() != 0 {
		t.Error("something was deployed")
	}
}

// A module may have 32 MiB, and nothing else that comes may.
func TestModulesAreUploaded(t *testing.T) {
	_, f, a := etlServer(t)
	a.scheme, a.remote = "http", "127.0.0.1:1"
	large := "\x00asm" + strings.Repeat("x", metadata.MaxModuleBytes-4)
	w := a.do(http.MethodPost, uploadsPath, large, "Content-Type", "application/wasm")
	a.want("the largest", http.StatusCreated, w)
	var out struct{ SHA256 string }
	sum := sha256.Sum256([]byte(large))
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.SHA256 != hex.EncodeToString(sum[:]) || len(f.stored[string(sum[:])]) != len(large) {
		t.Errorf("%+v %v", out, err)
	}
	a.want("one byte more", http.StatusRequestEntityTooLarge, a.do(http.MethodPost, uploadsPath, large+"x", "Content-Type", "application/wasm"))
	a.want("no module", http.StatusBadRequest, a.do(http.MethodPost, uploadsPath, "text", "Content-Type", "application/wasm"))
	a.want("nothing", http.StatusBadRequest, a.do(http.MethodPost, uploadsPath, "", "Content-Type", "application/wasm"))
	a.want("elsewhere", http.StatusRequestEntityTooLarge, a.do(http.MethodPost, modulesPath+"/m/versions", large))
}

// Who may not deploy modules takes no place among those who do, for as long as it sends.
func TestModulesOfThoseWhoMayNotAreNotRead(t *testing.T) {
	a := newAsking(t)
	text := a.token("t", "alice", false, time.Time{})
	body := &unread{t: t}
	r := httptest.NewRequest(http.MethodPost, "https://10.0.0.1:9642"+uploadsPath, body)
	r.RemoteAddr = a.remote
	r.Header.Set("Content-Type", "application/wasm")
	r.Header.Set("Authorization", "Bearer "+text)
	w := httptest.NewRecorder()
	a.s.http.Handler.ServeHTTP(w, r)
	a.want("a module of who may not", http.StatusForbidden, w, "may not alter cluster")
}

// Each trial holds a module and its memory, and who may describe the cluster may ask for any
// number of them.
func TestTrialsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := etlAPI{trials: make(chan struct{}, maxTrials)}
		var last func()
		for range maxTrials {
			done, err := a.turn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last = done
		}
		if _, err := a.turn(t.Context()); err == nil || !strings.Contains(err.Error(), "try again") {
			t.Errorf("one more: %v", err)
		}
		time.AfterFunc(turnTime/2, last)
		if _, err := a.turn(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What becomes of the records of a module whose budget is spent is said where it is listed, and
// by health.
func TestSpentBudgetsSayWhatBecomesOfRecords(t *testing.T) {
	for spec, want := range map[string][2]string{
		`{"mode":"inline","topics":["t"]}`:                                                          {"records are refused", "its records are refused (on_failure: reject)"},
		`{"mode":"inline","topics":["t"],"on_failure":"pass"}`:                                      {"records pass", "its records pass as they are"},
		`{"mode":"inline","topics":["t"],"on_failure":"dead-letter","dead_letter_topic":"letters"}`: {"records go to dead letters", "its records go to letters"},
		`{"mode":"async","topics":["t"],"output":"u","on_failure":"pass"}`:                          {"records wait", "its records wait in their topics"},
		`{"mode":"inline","topics":["t"],"later":1}`:                                                {"records are refused", "its records are refused"},
	} {
		url, _, a := etlServer(t)
		v := metadata.TransformVersion{Number: 1, SHA256: strings.Repeat("x", 32), Size: 1, Spec: spec, Created: time.UnixMilli(1)}
		if err := errors.Join(a.c.DeployTransform(t.Context(), "m", v, true, a.c.Image().Offset()), a.c.SpendTransformBudget(t.Context(), "m", 1, "broker 7", "20 failures within 1m0s")); err != nil {
			t.Fatal(err)
		}
		if out, err := run(t.Context(), url, "etl", "list"); err != nil || !strings.Contains(out, "error budget spent: "+want[0]) {
			t.Errorf("%s: %v\n%s", spec, err, out)
		}
		for _, of := range [][]string{nil, {"--version", "1"}} {
			args := append([]string{"etl", "delete", "m"}, of...)
			for _, args := range [][]string{args, append(args, "--dry-run")} {
				if _, err := run(t.Context(), url, args...); err == nil || !strings.Contains(err.Error(), "version 1 of m is what records meet, for its error budget is spent") {
					t.Errorf("%s: %q: %v", spec, args, err)
				}
			}
		}
		if problems := moduleProblems(a.c.Image(), nil, time.Now()); len(problems) != 1 || !strings.Contains(problems[0].What, "it is not entered any more, and "+want[1]) {
			t.Errorf("%s: %+v", spec, problems)
		}
	}
}

// Who may change all groups does not change the place of a module, unless it may deploy.
func TestPlacesOfModulesAreOnlyForDeployers(t *testing.T) {
	rule := func(op acl.Operation, on acl.ResourceType, name string) acl.Rule {
		return acl.Rule{Resource: on, Pattern: acl.Literal, Name: name, Principal: "User:u", Host: "*", Operation: op, Permission: acl.Allow}
	}
	rules := []acl.Rule{rule(acl.All, acl.Group, "*")}
	for _, deploys := range []bool{false, true} {
		if deploys {
			rules = append(rules, rule(acl.Alter, acl.Cluster, acl.ClusterName))
		}
		who := &subject{principal: "User:u", matcher: acl.Compile(rules, nil)}
		for group, own := range map[string]bool{pipeline.ClientPrefix + "m": true, "rustmq-et": false} {
			for op, changes := range map[acl.Operation]bool{acl.Describe: false, acl.Read: true, acl.Delete: true} {
				if refused := (need{op, acl.Group}).missing(who, group) != nil; refused != (own && changes && !deploys) {
					t.Errorf("%s of group %s, deploys %v: refused %v", op, group, deploys, refused)
				}
			}
		}
	}
}

func TestHealthNamesModulesThatDoNotRun(t *testing.T) {
	c, _ := alone(t)
	v := metadata.TransformVersion{Number: 1, SHA256: strings.Repeat("x", 32), Size: 1, Spec: "{}", Created: time.UnixMilli(1)}
	if err := errors.Join(
		c.DeployTransform(t.Context(), "m", v, true, c.Image().Offset()),
		c.DeployTransform(t.Context(), "n", v, true, c.Image().Offset()),
		c.SpendTransformBudget(t.Context(), "m", 1, "broker 7", "20 failures within 1m0s"),
	); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	here := []etl.ModuleStatus{{Name: "n", Version: 1, Since: now.Add(-time.Minute), Error: "the bucket is away"}, {Name: "o", Since: now}, {Name: "p", Ready: true, Since: now.Add(-time.Hour)},
		{Name: "q", Version: 2, Ready: true, Stuck: &etl.Stuck{Partitions: 3, Since: now.Add(-time.Minute), Error: "topic out is full"}}, {Name: "r", Ready: true, Stuck: &etl.Stuck{Partitions: 1, Since: now}}}
	problems := moduleProblems(c.Image(), here, now)
	if strings.Contains(problems[0].Do, "rollback") {
		t.Errorf("a rollback is advised where there is no version to go to: %s", problems[0].Do)
	}
	if len(problems) != 3 || !strings.Contains(problems[2].What, "in 3 partitions of this node, and its lag grows (topic out is full)") {
		t.Fatalf("%+v", problems)
	}
	if !strings.Contains(problems[0].What, "version 1 failed too often on broker 7 (20 failures within 1m0s)") || !strings.Contains(problems[1].What, "module n, version 1, is active and not ready on this node: records of its topics are refused here (the bucket is away)") {
		t.Errorf("%+v", problems)
	}
}
