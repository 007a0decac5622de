package roles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/admin"
	"rustmq.dev/rustmq/roles/client"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/roles/etl/async"
	"rustmq.dev/rustmq/security/audit"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
	"rustmq.dev/rustmq/storage/object"
)

// etlDir holds modules in the data directory.
const etlDir = "etl"

// transforms is what of modules that transform records is in this process.
type transforms struct {
	n      *Node
	engine *wasmEngine
	host   *etl.Host // nil: this is no broker

	mu     sync.Mutex
	runner *async.Runner // guarded by mu; nil: not yet
	tasks  []async.Task  // guarded by mu
}

// openTransforms begins to run what is active, where this is a broker, and can try modules
// everywhere. It waits for no module: records of their topics are refused until they are there.
func (n *Node) openTransforms() {
	t := &transforms{n: n, engine: newWASMEngine(codeFiles{n.dir, path.Join(etlDir, "cache")}, n.log.With("room", "etl"))}
	n.transforms = t
	n.opened("runtime of modules", func(context.Context) error { return t.engine.Close() })
	if !n.has("broker") {
		return
	}
	by := fmt.Sprintf("broker %d", n.config.Broker.ID)
	t.host = etl.Open(etl.Options{
		Engine: t.engine, FS: n.dir, Dir: etlDir, Bucket: n.bucket.bucket, Prefix: n.config.Storage.Prefix,
		Node: by, Spend: t.spend, Async: t.setAsync, Log: n.log.With("room", "etl"),
	})
	n.opened("modules", func(context.Context) error { return t.host.Close() })
	n.metrics.MustRegister(t.host.Metrics())
	t.host.Follow(n.door.Image())
}

// followedDoor has the host of modules see each image before the broker does.
type followedDoor struct {
	metadataDoor
	host *etl.Host
}

// Subscribe implements broker.Controller.
func (d followedDoor) Subscribe(f func(*metadata.Image)) (cancel func()) {
	return d.metadataDoor.Subscribe(func(image *metadata.Image) {
		d.host.Follow(image)
		f(image)
	})
}

// spend has a version disabled that fails too often here.
func (t *transforms) spend(ctx context.Context, name string, version uint32, by, reason string) error {
	err := t.n.door.SpendTransformBudget(ctx, name, version, by, reason)
	if err == nil {
		t.n.audit.Record(audit.Event{
			Principal: by, Door: audit.DoorPeer, Action: "module.disable", ResourceType: "module", Resource: name, Outcome: audit.Allowed,
			Detail: fmt.Sprintf("version=%d, its error budget is spent: %s", version, reason),
		})
	}
	return err
}

// setAsync tells the runner, or the one that comes, what is active.
func (t *transforms) setAsync(active []pipeline.Module) {
	tasks := make([]async.Task, len(active))
	for i, m := range active {
		tasks[i] = async.Task{Name: m.Name, Version: m.Version, Spec: m.Spec, Transformer: m.Transformer, Failed: m.Failed}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tasks = tasks
	if t.runner != nil {
		t.runner.Set(tasks)
	}
}

// runAsync gives the tasks to a runner from now on.
func (t *transforms) runAsync(r *async.Runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runner = r
	r.Set(t.tasks)
}

// Store implements admin.Transforms.
func (t *transforms) Store(ctx context.Context, wasm []byte) (hash string, err error) {
	if reason := noModule(wasm); reason != "" {
		return "", &admin.NoModuleError{Reason: reason}
	}
	sum := sha256.Sum256(wasm)
	hash = string(sum[:])
	if there, err := t.Fetch(ctx, hash); err == nil && bytes.Equal(there, wasm) {
		return hash, nil
	}
	image := t.n.door.Image()
	is, set := image.Bucket()
	if !set {
		return "", errors.New("the cluster does not know its bucket yet: try again")
	}
	nonce, err := controller.ReadNonce(ctx, t.n.bucket.bucket, t.n.config.Storage.Prefix, image.ClusterID())
	if err != nil {
		return "", err
	}
	if !guard.Check("roles.module-into-own-bucket", nonce == is.Nonce) {
		return "", &controller.WrongBucketError{Found: nonce, Want: is.Nonce}
	}
	if err := t.n.bucket.bucket.Put(ctx, t.key(hash), bucket.Bytes(wasm)); err != nil {
		return "", fmt.Errorf("put the module into the bucket: %w", err)
	}
	return hash, nil
}

// noModule says why bytes cannot be a module; "": they may be.
func noModule(wasm []byte) string {
	switch {
	case !bytes.HasPrefix(wasm, []byte("\x00asm")):
		return "these bytes are no WebAssembly module: it begins with \\0asm; build for wasm32, and give the .wasm file"
	case !bytes.HasPrefix(wasm, []byte("\x00asm\x01\x00\x00\x00")):
		return "this is a WebAssembly component, or of another version: build a core module (a reactor), not a component"
	}
	return ""
}

func (t *transforms) key(hash string) string {
	return object.ModuleKey(t.n.config.Storage.Prefix, t.n.door.Image().ClusterID(), hash)
}

// Fetch implements admin.Transforms.
func (t *transforms) Fetch(ctx context.Context, hash string) ([]byte, error) {
	wasm, err := bucket.ReadAll(ctx, t.n.bucket.bucket, t.key(hash), metadata.MaxModuleBytes)
	if err != nil {
		return nil, fmt.Errorf("fetch the module from the bucket: %w", err)
	}
	if sum := sha256.Sum256(wasm); !guard.Check("roles.module-hash", string(sum[:]) == hash) {
		return nil, fmt.Errorf("%s in the bucket is damaged: deploy the module again from its file", t.key(hash))
	}
	return wasm, nil
}

// Try implements admin.Transforms.
func (t *transforms) Try(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record) (*etl.Tried, error) {
	return etl.Trial{Engine: t.engine}.Run(ctx, name, wasm, spec, topic, records)
}

// Batteries implements admin.Transforms.
func (t *transforms) Batteries() []admin.Battery { return shownBatteries() }

// Battery implements admin.Transforms.
func (t *transforms) Battery(name string) ([]byte, bool) { return battery(name) }

// Status implements admin.Transforms.
func (t *transforms) Status() ([]etl.ModuleStatus, bool) {
	if t.host == nil {
		return nil, false
	}
	all := t.host.Status()
	for _, s := range t.partitions() {
		if s.Stuck.IsZero() {
			continue
		}
		i := slices.IndexFunc(all, func(m etl.ModuleStatus) bool { return m.Name == s.Name })
		if i < 0 {
			continue
		}
		if all[i].Stuck == nil {
			all[i].Stuck = &etl.Stuck{Since: s.Stuck, Error: s.Error}
		}
		is := all[i].Stuck
		is.Partitions++
		if s.Stuck.Before(is.Since) {
			is.Since, is.Error = s.Stuck, s.Error
		}
	}
	return all, true
}

// partitions are those that async modules run for here.
func (t *transforms) partitions() []async.Status {
	t.mu.Lock()
	runner := t.runner
	t.mu.Unlock()
	if runner == nil {
		return nil
	}
	return runner.Status()
}

// Partitions implements admin.Transforms.
func (t *transforms) Partitions(name string) (all []admin.ETLPartition) {
	for _, s := range t.partitions() {
		if s.Name == name {
			all = append(all, admin.ETLPartition{Topic: s.Topic, Partition: s.Partition, State: s.State.String(), Committed: s.Committed, End: s.End, Lag: s.Lag, Error: s.Error})
		}
	}
	return all
}

// localETL is what `rustmq admin etl test` does in its own process.
func localETL() admin.LocalETL {
	return admin.LocalETL{
		Try: func(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record) (tried *etl.Tried, err error) {
			if reason := noModule(wasm); reason != "" {
				return nil, errors.New(reason)
			}
			engine := newWASMEngine(nil, nil)
			defer func() { err = errors.Join(err, engine.Close()) }()
			return etl.Trial{Engine: engine}.Run(ctx, path.Base(name), wasm, spec, topic, records)
		},
		Battery: battery,
		Records: func(in io.Reader, format string, most int) (records []abi.Record, more bool, err error) {
			read, more, err := client.ReadRecords(in, format, most)
			records = make([]abi.Record, len(read))
			for i, r := range read {
				records[i] = abi.Record{Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
				for _, h := range r.Headers {
					records[i].Headers = append(records[i].Headers, abi.Header{Name: h.Key, Value: h.Value})
				}
			}
			return records, more, err
		},
	}
}
