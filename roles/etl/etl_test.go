package etl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"rustmq.dev/rustmq/consensus/metadata"
	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/disk"
	"rustmq.dev/rustmq/storage/object"
)

// fakeEngine takes the bytes of a module for what it answers: see fakeModule.
type fakeEngine struct {
	mu     sync.Mutex
	slow   time.Duration // a load takes
	loaded []string      // names and versions
	open   int
}

type fakeModule struct {
	e      *fakeEngine
	does   string
	o      ModuleOptions
	mu     sync.Mutex
	closed bool
}

func (e *fakeEngine) Load(ctx context.Context, wasm []byte, o ModuleOptions) (Module, error) {
	select {
	case <-time.After(e.slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if strings.HasPrefix(string(wasm), "no module") {
		return nil, &abi.Failure{Kind: abi.Init, Text: string(wasm)}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loaded = append(e.loaded, fmt.Sprint(o.Name, " ", o.Version))
	e.open++
	return &fakeModule{e: e, does: string(wasm), o: o}, nil
}

func (m *fakeModule) Transform(_ context.Context, b *abi.Batch) ([]abi.Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, &abi.Failure{Kind: abi.Closed, Text: "closed"}
	}
	if m.does == "fails" {
		return nil, &abi.Failure{Kind: abi.Trap, Text: "unreachable"}
	}
	decisions := make([]abi.Decision, len(b.Records))
	for i, r := range b.Records {
		switch {
		case bytes.HasPrefix(r.Value, []byte("drop")):
			decisions[i].Action = abi.Drop
		case bytes.HasPrefix(r.Value, []byte("route")):
			decisions[i] = abi.Decision{Action: abi.Route, Text: string(r.Value[6:])}
		default:
			decisions[i] = abi.Decision{Replaces: abi.Value, Value: []byte(m.does)}
		}
	}
	if m.o.Log != nil {
		m.o.Log(0, "called")
	}
	return decisions, nil
}

func (m *fakeModule) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.e.mu.Lock()
		m.e.open--
		m.e.mu.Unlock()
	}
	m.closed = true
}

// world is a host with a bucket and the metadata, in simulated time.
type world struct {
	*testing.T
	engine *fakeEngine
	bucket *bucket.Faulty
	fs     *disk.Mem
	state  *metadata.State
	index  uint64
	host   *Host
	spent  []string
	spend  error
	async  [][]pipeline.Module
	mu     sync.Mutex
}

func inWorld(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, engine: &fakeEngine{}, bucket: bucket.NewFaulty(bucket.NewMemory()), fs: disk.NewMem(disk.MemOptions{}), state: metadata.NewState()}
		w.apply(&pb.InitCluster{ClusterId: "c", FeatureLevel: metadata.TransformsFeatureLevel})
		w.open()
		test(w)
		w.close()
	})
}

func (w *world) open() {
	w.host = Open(Options{
		Engine: w.engine, FS: w.fs, Dir: "etl", Bucket: w.bucket, Prefix: "p", Node: "broker 7",
		Spend: func(_ context.Context, name string, version uint32, by, reason string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.spent = append(w.spent, fmt.Sprint(name, " ", version, " ", by, " ", reason))
			return w.spend
		},
		Async: func(tasks []pipeline.Module) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.async = append(w.async, tasks)
		},
	})
	w.host.Follow(w.state.Image())
	synctest.Wait()
}

// spending is how the controller answers from now on.
func (w *world) spending(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spend = err
}

func (w *world) close() {
	w.Helper()
	if err := w.host.Close(); err != nil {
		w.Error(err)
	}
	if w.engine.open != 0 {
		w.Errorf("%d modules are open", w.engine.open)
	}
}

func (w *world) apply(body proto.Message) {
	w.Helper()
	w.index++
	command, err := metadata.Encode(w.state.Image(), body)
	if err != nil {
		w.Fatal(err)
	}
	result, err := w.state.Apply(w.index, command)
	if err := errors.Join(err, metadata.Refused(result)); err != nil {
		w.Fatal(err)
	}
	if w.host != nil {
		w.host.Follow(w.state.Image())
	}
}

const plainSpec = `{"mode":"inline","topics":["t"]}`

// deploy puts a module into the bucket, and makes it active.
func (w *world) deploy(name string, version uint32, wasm, spec string) {
	w.Helper()
	sum := sha256.Sum256([]byte(wasm))
	if err := w.bucket.Put(w.Context(), object.ModuleKey("p", "c", string(sum[:])), bucket.Bytes(wasm)); err != nil {
		w.Fatal(err)
	}
	w.apply(metadata.NewDeployTransform(name, metadata.TransformVersion{
		Number: version, SHA256: string(sum[:]), Size: int64(len(wasm)), Spec: spec, Created: time.UnixMilli(1), By: "User:u",
	}, true, w.state.Image().Offset()))
}

func (w *world) change(name string, action metadata.TransformAction, version uint32) {
	w.Helper()
	w.apply(metadata.NewSetTransform(name, metadata.TransformChange{At: time.UnixMilli(int64(w.index)), By: "User:u", Action: action, Version: version}, nil))
}

// transformed is what the first module of topic t makes of a record.
func (w *world) transformed() string {
	w.Helper()
	p := w.host.Set().For("t")
	if p == nil {
		return "as it is"
	}
	decisions, err := p.Modules()[0].Transformer.Transform(w.Context(), &abi.Batch{Topic: "t", Records: []abi.Record{{Value: []byte("v")}}})
	switch {
	case errors.Is(err, pipeline.ErrUnready):
		return "refused"
	case err != nil:
		p.Modules()[0].Failed(err, 1)
		return err.Error()
	}
	return string(decisions[0].Value)
}

func (w *world) want(when, what string) {
	w.Helper()
	if got := w.transformed(); got != what {
		w.Errorf("%s: %s, not %s", when, got, what)
	}
}

func TestModulesFollowTheMetadata(t *testing.T) {
	inWorld(t, func(w *world) {
		w.want("at first", "as it is")
		w.deploy("m", 1, "one", plainSpec)
		synctest.Wait()
		w.want("deployed", "one")
		w.deploy("m", 2, "two", plainSpec)
		synctest.Wait()
		w.want("deployed again", "two")
		w.change("m", metadata.TransformRolledBack, 1)
		synctest.Wait()
		w.want("rolled back", "one")
		w.change("m", metadata.TransformDisabled, 0)
		synctest.Wait()
		w.want("disabled", "as it is")
		time.Sleep(2 * callsEnd)
		synctest.Wait()
		if w.engine.open != 0 {
			w.Errorf("%d modules are open, and none is active", w.engine.open)
		}
		w.change("m", metadata.TransformEnabled, 2)
		synctest.Wait()
		w.want("enabled", "two")
	})
}

// No record passes a broker that lacks a module as if there were none: it is refused until the
// module is there, whatever it lacks.
func TestWhatIsNotReadyRefuses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Err: errors.New("away"), Temporary: true})
		w.deploy("m", 1, "other", plainSpec)
		synctest.Wait()
		w.want("with the bucket away", "refused")
		if s := w.host.Status(); len(s) != 1 || s[0].Ready || !strings.Contains(s[0].Error, "away") {
			w.Errorf("%+v", s)
		}
		w.bucket.Set()
		time.Sleep(retryMax)
		synctest.Wait()
		w.want("with the bucket back", "other")
	})
}

// A spec of a later version of rustmq, which this one cannot carry out, has the records of its
// topics refused: what it would do to them is not known.
func TestSpecsOfLaterVersionsRefuse(t *testing.T) {
	for spec, want := range map[string]string{
		`{"mode":"inline","topics":["t"],"later":1}`:             "refused",
		`{"mode":"inline","topics":["u"],"later":1}`:             "as it is",
		`{"mode":"inline","topics":["regex:(?later)t"]}`:         "refused",
		`{"mode":"inline","topics":{"later":["t"]}}`:             "refused",
		`{"mode":"later","topics":["t"]}`:                        "refused",
		`{"mode":"async","topics":["t"],"output":"u","later":1}`: "as it is",
	} {
		inWorld(t, func(w *world) {
			w.deploy("m", 1, "one", spec)
			synctest.Wait()
			time.Sleep(time.Minute)
			w.want(spec, want)
		})
	}
}

func TestCallsWaitShortlyForANewModule(t *testing.T) {
	inWorld(t, func(w *world) {
		w.engine.slow = shortly / 2
		w.deploy("m", 1, "one", plainSpec)
		synctest.Wait()
		w.want("at once", "one")
	})
}

// A version goes on while the next is loaded, for so long and no longer.
func TestHandOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("m", 1, "one", plainSpec)
		synctest.Wait()
		w.engine.slow = handOver / 2
		w.deploy("m", 2, "two", plainSpec)
		synctest.Wait()
		w.want("while it is loaded", "one")
		time.Sleep(handOver/2 + time.Second)
		synctest.Wait()
		w.want("once it is", "two")
		w.deploy("m", 3, "no module", plainSpec)
		synctest.Wait()
		w.want("before one that cannot be", "two")
		time.Sleep(handOver)
		synctest.Wait()
		w.want("instead of one that cannot be", "refused")
	})
}

// What is active is in the data directory: a start needs nothing from the bucket. A damaged
// file is as none.
func TestActiveModulesAreKept(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("m", 1, "one", plainSpec)
		w.deploy("m", 2, "two", plainSpec)
		synctest.Wait()
		w.close()
		away := bucket.Rule{Op: bucket.OpRead, Err: errors.New("away"), Temporary: true}
		stat := bucket.Rule{Op: bucket.OpStat, Err: errors.New("away"), Temporary: true}
		w.bucket.Set(away, stat)
		w.open()
		w.want("without the bucket", "two")
		names, err := w.fs.List("etl")
		if err != nil || len(names) != 1 {
			w.Errorf("%q %v: one is active", names, err)
		}
		w.close()
		if err := disk.WriteFileAtomic(w.fs, "etl/"+names[0], []byte("tvo")); err != nil {
			w.Fatal(err)
		}
		w.open()
		w.want("damaged", "refused")
		w.bucket.Set()
		time.Sleep(retryMax)
		synctest.Wait()
		w.want("fetched again", "two")
		w.bucket.Set(away, stat)
		w.close()
		w.open()
		w.want("mended", "two")
	})
}

// A bucket that does not answer holds up nobody who needs nothing of it: what is in the data
// directory is loaded, whatever waits, and so is what comes when that is not active any more.
func TestBucketThatHangsHoldsUpNobodyElse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("z", 1, "one", plainSpec)
		synctest.Wait()
		w.close()
		w.bucket.Set(bucket.Rule{Op: bucket.OpRead, Hook: func(ctx context.Context, _ bucket.Op, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		for i := range loads + fetches {
			w.deploy(fmt.Sprint("m", i), 1, fmt.Sprint("hangs ", i), `{"mode":"inline","topics":["u"]}`)
		}
		w.open()
		w.want("beside what hangs", "one")
		for i := range loads + fetches {
			w.change(fmt.Sprint("m", i), metadata.TransformDisabled, 0)
		}
		synctest.Wait()
		w.change("z", metadata.TransformDisabled, 0)
		synctest.Wait()
		w.change("z", metadata.TransformEnabled, 1)
		synctest.Wait()
		w.want("while what hangs is given up", "one")
	})
}

func TestDamagedObjectIsNotRun(t *testing.T) {
	inWorld(t, func(w *world) {
		sum := sha256.Sum256([]byte("two"))
		host := w.host
		w.host = nil // which learns of it once it is damaged
		w.deploy("n", 1, "two", plainSpec)
		if err := w.bucket.Put(w.Context(), object.ModuleKey("p", "c", string(sum[:])), bucket.Bytes("tvo")); err != nil {
			w.Fatal(err)
		}
		w.host = host
		host.Follow(w.state.Image())
		synctest.Wait()
		if all := host.Status(); len(all) != 1 || all[0].Ready || !strings.Contains(all[0].Error, "damaged") {
			w.Errorf("%+v", all)
		}
	})
}

func TestErrorBudget(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("m", 1, "fails", `{"mode":"inline","topics":["t"],"error_budget":{"failures":3,"window_ms":10000}}`)
		synctest.Wait()
		for range 4 { // never three within ten seconds
			w.want("it fails", "trap: unreachable")
			if is := w.host.Status()[0]; is.Recent < 1 || is.Recent > 2 {
				w.Errorf("%d failures within ten seconds, and they are six apart", is.Recent)
			}
			time.Sleep(6 * time.Second)
		}
		synctest.Wait()
		time.Sleep(6 * time.Second)
		if is := w.host.Status()[0]; is.Recent != 0 || is.Failures != 4 {
			w.Errorf("%+v: four failures, the last twelve seconds ago", is)
		}
		if len(w.spent) != 0 {
			w.Fatalf("%q, and the failures were far apart", w.spent)
		}
		w.spending(errors.New("no controller"))
		w.want("it fails", "trap: unreachable")
		w.want("it fails", "trap: unreachable")
		w.want("it fails", "trap: unreachable")
		time.Sleep(3 * spendAgain)
		synctest.Wait()
		if len(w.spent) < 2 || w.spent[0] != "m 1 broker 7 3 failures within 10s, the last: trap: unreachable" {
			w.Fatalf("%q", w.spent)
		}
		w.spending(nil)
		time.Sleep(2 * spendAgain)
		synctest.Wait()
		n := len(w.spent)
		time.Sleep(time.Minute)
		if len(w.spent) != n {
			w.Errorf("it is asked for %d times again", len(w.spent)-n)
		}
	})
}

// A module whose budget is spent is not entered, nor do its records pass as if there were none:
// it answers with a failure, for its policy, until somebody decides. Also after a restart.
func TestSpentBudgetIsAFailureUntilSomebodyDecides(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("m", 1, "one", plainSpec)
		w.deploy("a", 1, "two", `{"mode":"async","topics":["t"],"output":"u","on_failure":"pass"}`)
		synctest.Wait()
		w.want("active", "one")
		for _, name := range []string{"m", "a"} {
			w.change(name, metadata.TransformBudgetSpent, 1)
		}
		const barred = "disabled: it failed too often, its error budget is spent since 1970-01-01T00:00:00Z; an operator has to enable it, roll it back or disable it"
		w.want("at once", barred)
		synctest.Wait()
		time.Sleep(2 * callsEnd)
		synctest.Wait()
		w.want("later", barred)
		if w.engine.open != 0 {
			w.Errorf("%d modules are open", w.engine.open)
		}
		if s := w.host.Status(); len(s) != 0 {
			w.Errorf("%+v", s)
		}
		if last := w.async[len(w.async)-1]; len(last) != 0 {
			w.Errorf("%d async modules run", len(last))
		}
		m := w.host.Set().For("t").Modules()[0]
		m.Failed(&abi.Failure{Kind: abi.Disabled}, 1)
		w.close()
		w.open()
		w.want("after a restart", barred)
		w.change("m", metadata.TransformEnabled, 1)
		if got := w.transformed(); got != "one" && got != "refused" {
			w.Errorf("enabled, and not there yet: %s", got)
		}
		synctest.Wait()
		w.want("enabled", "one")
		w.change("m", metadata.TransformBudgetSpent, 1)
		w.want("once more", barred)
		w.change("m", metadata.TransformDisabled, 0)
		w.want("disabled by somebody", "as it is")
		if len(w.spent) != 0 {
			w.Errorf("%q", w.spent)
		}
	})
}

// What a module says with each record does not fill the disk of its node.
func TestModulesSayNoMoreThanTheLogBears(t *testing.T) {
	inWorld(t, func(w *world) {
		var said bytes.Buffer
		w.host.log = slog.New(slog.NewTextHandler(&said, nil))
		m := &module{h: w.host, name: "m"}
		for range 3 {
			for range 10 * sayMost {
				m.say(slog.LevelInfo, "a record\nforged=line")
			}
			time.Sleep(sayEvery)
		}
		if n := strings.Count(said.String(), "a record"); n != 3*sayMost {
			t.Errorf("%d lines are taken", n)
		}
		if n := strings.Count(said.String(), "lines_dropped=900"); n != 2 {
			t.Errorf("%d times is told of what is dropped", n)
		}
		for line := range strings.Lines(said.String()) {
			if !strings.HasPrefix(line, "time=") {
				t.Fatalf("a line of the log is %q", line)
			}
		}
	})
}

func TestBusyAndUnreadyDoNotCount(t *testing.T) {
	for _, err := range []error{nil, pipeline.ErrUnready, fmt.Errorf("m: %w", pipeline.ErrUnready), &abi.Failure{Kind: abi.Busy}, &abi.Failure{Kind: abi.Closed}, &abi.Failure{Kind: abi.Disabled}} {
		if counts(err) {
			t.Errorf("%v counts", err)
		}
	}
	for _, err := range []error{errors.New("a route"), &abi.Failure{Kind: abi.Deadline}, fmt.Errorf("m: %w", &abi.Failure{Kind: abi.Init})} {
		if !counts(err) {
			t.Errorf("%v does not count", err)
		}
	}
}

func TestAsyncModulesAreTold(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("m", 1, "one", plainSpec)
		synctest.Wait()
		if len(w.async) != 0 {
			w.Errorf("%v", w.async)
		}
		w.deploy("a", 1, "one", `{"mode":"async","topics":["t"],"output":"u","on_failure":"pass"}`)
		synctest.Wait()
		w.want("the inline one", "one")
		w.change("a", metadata.TransformDisabled, 0)
		synctest.Wait()
		if len(w.async) != 2 || len(w.async[0]) != 1 || w.async[0][0].Name != "a" || len(w.async[1]) != 0 {
			w.Errorf("%v", w.async)
		}
	})
}

func TestTrial(t *testing.T) {
	spec, err := pipeline.ParseSpec([]byte(`{"mode":"inline","topics":["!x.*","y*","t"],"routes":["r"],"when":[{"header":"no","present":true,"not":true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	trial := Trial{Engine: &fakeEngine{}}
	records := []abi.Record{
		{Value: []byte("v")}, {Value: []byte("drop")}, {Value: []byte("route r")}, {Value: []byte("route s")},
		{Value: []byte("v"), Headers: []abi.Header{{Name: "no"}}},
	}
	got, err := trial.Run(t.Context(), "m", []byte("new"), spec, "", records)
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, r := range got.Records {
		shown = append(shown, fmt.Sprintf("%v %d %s %v", r.Selected, r.Decision.Action, r.After.Value, r.Error != ""))
	}
	if want := "[true 0 new false true 1  false true 2 route r false true 2 route s true false 0 v false]"; fmt.Sprint(shown) != want || got.Topic != "t" || len(got.Logs) != 1 {
		t.Errorf("%v %s %q", shown, got.Topic, got.Logs)
	}
	if _, err := trial.Run(t.Context(), "m", []byte("new"), spec, "other", nil); err == nil {
		t.Error("it is tried with a topic that it is not for")
	}
	for _, wasm := range []string{"no module", "fails"} {
		if _, err := trial.Run(t.Context(), "m", []byte(wasm), spec, "", records); !errors.As(err, new(*abi.Failure)) {
			t.Errorf("%s: %v", wasm, err)
		}
	}
}

// A module that is enabled again has its budget again, also where this node has not seen that
// it was disabled in between.
func TestBudgetBeginsAnew(t *testing.T) {
	inWorld(t, func(w *world) {
		w.deploy("m", 1, "fails", `{"mode":"inline","topics":["t"],"error_budget":{"failures":1}}`)
		synctest.Wait()
		for n := 1; n <= 2; n++ {
			w.want("it fails", "trap: unreachable")
			synctest.Wait()
			if len(w.spent) != n {
				w.Fatalf("%q, and its budget was spent %d times", w.spent, n)
			}
			host := w.host
			w.host = nil
			w.change("m", metadata.TransformBudgetSpent, 1)
			w.change("m", metadata.TransformEnabled, 1)
			w.host = host
			w.host.Follow(w.state.Image())
			synctest.Wait()
		}
	})
}
