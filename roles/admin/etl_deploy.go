package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/roles/etl"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/guard"
)

// mayDeploy refuses early what the cluster cannot take yet.
func (a etlAPI) mayDeploy() error {
	if level := a.cluster.Image().FeatureLevel(); level < metadata.TransformsFeatureLevel {
		return problem(metadata.Errorf(metadata.UnsupportedVersion, "a module needs feature level %d, the cluster is at %d", metadata.TransformsFeatureLevel, level))
	}
	return nil
}

// deploy verifies, compiles, initialises and tries a module before anything is changed.
func (a etlAPI) deploy(ctx context.Context, in *deployInput) (*deployOutput, error) {
	if err := a.mayDeploy(); err != nil {
		return nil, err
	}
	if err := metadata.CheckTransformName(in.Name); err != nil {
		return nil, problem(err)
	}
	image := a.cluster.Image()
	seen := image.Offset() // before it is looked what the bucket has
	spec, text, err := parseSpec(in.Body.Spec)
	if err != nil {
		return nil, badRequest(err)
	}
	records, err := sampleOf(in.Body.Sample, a.now())
	if err != nil {
		return nil, badRequest(err)
	}
	done, err := a.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	wasm, err := a.bytesOf(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	tried, err := a.try(ctx, in.Name, wasm, spec, in.Body.Topic, records, "; nothing was changed")
	if err != nil {
		return nil, err
	}
	out := &deployOutput{ETLDeployed{Name: in.Name, Version: 1, Active: !in.Body.Disabled, DryRun: in.Body.DryRun, Notes: notesOf(image, spec, in.Name), Trial: shownTrial(tried)}}
	if is, known := image.Transform(in.Name); known {
		out.Body.Version = is.Issued + 1
	}
	hash := sha256.Sum256(wasm)
	out.Body.SHA256 = hex.EncodeToString(hash[:])
	if in.Body.DryRun {
		return out, nil
	}
	if in.Body.Battery != "" {
		if _, err := a.transforms.Store(ctx, wasm); err != nil {
			return nil, storeProblem(err)
		}
	}
	v := metadata.TransformVersion{Number: out.Body.Version, SHA256: string(hash[:]), Size: int64(len(wasm)), Spec: text, Created: a.now().UTC().Truncate(time.Millisecond), By: callerOf(ctx)}
	if err := a.cluster.DeployTransform(ctx, in.Name, v, !in.Body.Disabled, seen); err != nil {
		return nil, problem(err)
	}
	return out, nil
}

// parseSpec returns a spec with its text, without the space between.
func parseSpec(raw json.RawMessage) (*pipeline.Spec, string, error) {
	spec, err := pipeline.ParseSpec(raw)
	if err != nil {
		return nil, "", err
	}
	var text bytes.Buffer
	if err := json.Compact(&text, raw); err != nil {
		return nil, "", err
	}
	if text.Len() > metadata.MaxTransformSpec {
		return nil, "", fmt.Errorf("the spec has %d bytes, at most %d are kept: give the module a shorter config", text.Len(), metadata.MaxTransformSpec)
	}
	return spec, text.String(), nil
}

// bytesOf are those of the module that is to be deployed.
func (a etlAPI) bytesOf(ctx context.Context, in *ETLDeploy) ([]byte, error) {
	switch {
	case (in.SHA256 == "") == (in.Battery == ""):
		return nil, badRequest(errors.New("which module? Give the sha256 of one that was uploaded, or the name of a battery"))
	case in.Battery != "":
		wasm, known := a.transforms.Battery(in.Battery)
		if !known {
			var names []string
			for _, b := range a.transforms.Batteries() {
				names = append(names, b.Name)
			}
			return nil, huma.NewError(http.StatusNotFound, fmt.Sprintf("there is no battery %q; there are: %s", in.Battery, strings.Join(names, ", ")))
		}
		return wasm, nil
	}
	hash, err := hex.DecodeString(in.SHA256)
	if err != nil {
		return nil, badRequest(err)
	}
	wasm, err := a.transforms.Fetch(ctx, string(hash))
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, huma.NewError(http.StatusNotFound, fmt.Sprintf("no module with SHA-256 %s was uploaded: POST its bytes to %s first", in.SHA256, uploadsPath))
	}
	if err != nil {
		return nil, storeProblem(err)
	}
	return wasm, nil
}

// turn waits until a trial may begin; done ends it.
func (a etlAPI) turn(ctx context.Context) (done func(), err error) {
	if !guard.Check("admin.trials", false) {
		wait := time.NewTimer(turnTime)
		defer wait.Stop()
		select {
		case a.trials <- struct{}{}:
			return func() { <-a.trials }, nil
		case <-ctx.Done():
		case <-wait.C:
		}
		return nil, huma.NewError(http.StatusServiceUnavailable, fmt.Sprintf("%d modules are being tried by this process, and no more are at once: try again, or `rustmq admin etl test FILE`, which asks no server", maxTrials))
	}
	return func() {}, nil
}

// try runs a module with a sample; an error ends with what comes of it.
func (a etlAPI) try(ctx context.Context, name string, wasm []byte, spec *pipeline.Spec, topic string, records []abi.Record, so string) (*etl.Tried, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	tried, err := a.transforms.Try(ctx, name, wasm, spec, topic, records)
	switch {
	case err == nil:
		return tried, nil
	case ctx.Err() != nil:
		return nil, huma.NewError(http.StatusServiceUnavailable, fmt.Sprintf("module %s could not be tried within %v%s", name, tryTime, so))
	}
	return nil, huma.NewError(http.StatusUnprocessableEntity, fmt.Sprintf("module %s: %v%s", name, err, so))
}

// notesOf are what of a spec may not be meant so.
func notesOf(image *metadata.Image, spec *pipeline.Spec, name string) []string {
	notes, until := []string{}, "what is sent there is refused until there is"
	if spec.Mode == pipeline.Async {
		until = "records wait for it, unless the brokers make topics on first use"
	}
	for _, topic := range slices.Compact(append(slices.Clone(spec.Routes), spec.DeadLetterTopic, spec.Output)) {
		if _, there := image.Topic(topic); topic != "" && !there {
			notes = append(notes, fmt.Sprintf("there is no topic %s yet: %s (rustmq admin topics create %s)", topic, until, topic))
		}
	}
	matches := 0
	for t := range image.Topics() {
		if !t.Internal && spec.MatchesTopic(t.Name) {
			matches++
		}
	}
	if matches == 0 {
		notes = append(notes, fmt.Sprintf("no topic is one that %s is for: it has nothing to do until there is", name))
	}
	return notes
}

func (a etlAPI) test(ctx context.Context, in *testInput) (*testOutput, error) {
	t, number, err := a.version(in.Name, in.Body.Version, lastOf)
	if err != nil {
		return nil, err
	}
	v, is := t.Version(number)
	if !is {
		return nil, huma.NewError(http.StatusNotFound, fmt.Sprintf("module %s has no version %d; `rustmq admin etl describe %s` shows those it has", t.Name, number, t.Name))
	}
	records, err := sampleOf(in.Body.Sample, a.now())
	if err != nil {
		return nil, badRequest(err)
	}
	spec, err := pipeline.ParseSpec([]byte(v.Spec))
	if err != nil {
		return nil, badRequest(err)
	}
	done, err := a.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	wasm, err := a.transforms.Fetch(ctx, v.SHA256)
	if err != nil {
		return nil, storeProblem(err)
	}
	tried, err := a.try(ctx, t.Name, wasm, spec, in.Body.Topic, records, "")
	if err != nil {
		return nil, err
	}
	return &testOutput{*shownTrial(tried)}, nil
}

// sampleOf reads records of a body; those without a timestamp have now.
func sampleOf(in []ETLRecord, now time.Time) ([]abi.Record, error) {
	if len(in) > maxSample {
		return nil, fmt.Errorf("a sample of %d records: at most %d", len(in), maxSample)
	}
	records := make([]abi.Record, len(in))
	for i, r := range in {
		records[i] = abi.Record{Timestamp: now.UnixMilli(), Key: orBytes(r.Key, r.KeyBase64), Value: orBytes(r.Value, r.ValueBase64)}
		for _, h := range r.Headers {
			records[i].Headers = append(records[i].Headers, abi.Header{Name: h.Key, Value: orBytes(h.Value, h.ValueBase64)})
		}
		if r.Timestamp == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, r.Timestamp)
		if err != nil {
			return nil, fmt.Errorf("record %d of the sample: timestamp %.50q is not RFC 3339", i+1, r.Timestamp)
		}
		records[i].Timestamp = at.UnixMilli()
	}
	return records, nil
}

func orBytes(text *string, raw []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return raw
}

func textOrBytes(b []byte) (*string, []byte) {
	if b == nil || !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}

// shownOfSample is a record as a body has it.
func shownOfSample(r *abi.Record) ETLRecord {
	out := ETLRecord{Timestamp: time.UnixMilli(r.Timestamp).UTC().Format(time.RFC3339Nano)}
	out.Key, out.KeyBase64 = textOrBytes(r.Key)
	out.Value, out.ValueBase64 = textOrBytes(r.Value)
	for _, h := range r.Headers {
		shown := ETLHeader{Key: h.Name}
		shown.Value, shown.ValueBase64 = textOrBytes(h.Value)
		out.Headers = append(out.Headers, shown)
	}
	return out
}

func shownTrial(t *etl.Tried) *ETLTrial {
	out := &ETLTrial{Topic: t.Topic, LoadMicro: t.Load.Microseconds(), CallMicro: t.Call.Microseconds(), Records: []ETLTried{}, Logs: t.Logs}
	for i := range t.Records {
		r := &t.Records[i]
		shown := ETLTried{Action: "keep", Text: r.Decision.Text, Error: r.Error, Before: shownOfSample(&r.Before)}
		switch {
		case !r.Selected:
			shown.Action = "skip"
		case r.Decision.Action == abi.Drop:
			shown.Action = "drop"
		case r.Decision.Action == abi.Route:
			shown.Action = "route"
		case r.Decision.Action == abi.Reject:
			shown.Action = "reject"
		case r.Decision.Replaces != 0:
			shown.Action = "change"
		}
		if r.Decision.Replaces != 0 {
			after := shownOfSample(&r.After)
			shown.After = &after
		}
		out.Records = append(out.Records, shown)
	}
	return out
}
