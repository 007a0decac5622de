package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage/bucket"
)

// Bucket is what the API asks of the bucket of its cluster.
type Bucket interface {
	State() BucketState
	Probe(context.Context) Probe
	Check(context.Context, controller.CheckRequest) (*controller.CheckReport, error)
	Cost() Cost
	ConfirmClock(context.Context) (was, err error) // was nil: there was nothing to confirm
}

// BucketState is what this process knows of the bucket.
type BucketState struct {
	Where    string   `json:"where" doc:"the URL of the bucket, without what may be secret"`
	Prefix   string   `json:"prefix" doc:"every key of the cluster begins with it"`
	Warnings []string `json:"warnings" doc:"what is not as it should be, in words"`

	Circuit       string    `json:"circuit" enum:"closed,open,half-open" doc:"closed: requests pass"`
	CircuitSince  time.Time `json:"circuit_since,omitzero" doc:"left out: since the start"`
	Slow          int       `json:"slow" doc:"requests under way that have not moved for 5 s, or for a third of what their bytes may take"`
	SlowSince     time.Time `json:"slow_since,omitzero" doc:"the store has not answered without one of them since"`
	LastError     string    `json:"last_error,omitempty"`
	LastErrorAt   time.Time `json:"last_error_at,omitzero"`
	LastSuccessAt time.Time `json:"last_success_at,omitzero"`
	Retries       uint64    `json:"retries"`
	Refused       uint64    `json:"refused" doc:"calls that were not made, or not again, to spare the store"`

	Objects     map[string]controller.Tally `json:"objects" doc:"by state: prepared, committed, condemned"`
	Ranges      int                         `json:"ranges"`
	Filed       int                         `json:"filed_ranges" doc:"of these, the ones that manifests in the bucket list"`
	Manifests   int                         `json:"manifests"`
	RecordBytes int64                       `json:"record_bytes" doc:"of record batches that are kept in the bucket"`

	Upload      *UploadState     `json:"upload,omitempty" doc:"of this broker"`
	WAL         *WALState        `json:"wal,omitempty" doc:"of this broker"`
	Damage      *DamageState     `json:"damage,omitempty" doc:"that this broker has met"`
	MetadataLog MetadataLogState `json:"metadata_log"`

	Since    time.Time      `json:"since" doc:"requests are counted by this process from then on"`
	Requests []RequestCount `json:"requests"`
}

// UploadState is what a broker has put into the bucket, and has to.
type UploadState struct {
	WaitingBytes  int64     `json:"waiting_bytes" doc:"committed and not in the bucket yet"`
	WaitingSince  time.Time `json:"waiting_since,omitzero" doc:"the oldest of them"`
	Partitions    int       `json:"partitions" doc:"that they are of"`
	Running       int64     `json:"running" doc:"objects under way"`
	Objects       int64     `json:"objects" doc:"uploaded since the start"`
	Bytes         int64     `json:"bytes" doc:"of them"`
	Failures      int64     `json:"failures"`
	RefusedRanges int64     `json:"refused_ranges" doc:"that the catalogue did not take: another leader was quicker"`
	LastError     string    `json:"last_error,omitempty"`
	FailingSince  time.Time `json:"failing_since,omitzero"`
	Interval      float64   `json:"interval_seconds" doc:"how long what is committed may wait, wal.upload_interval"`
}

// late says for how long the oldest of what waits has done so, where that is more than
// a backlog; 0: it is not.
func (u *UploadState) late(now time.Time) time.Duration {
	if u.WaitingSince.IsZero() {
		return 0
	}
	waited := now.Sub(u.WaitingSince)
	if waited < max(time.Duration(3*u.Interval*float64(time.Second)), lateLeast) {
		return 0
	}
	return waited
}

// lateLeast is how long anything may wait for its upload without a word.
const lateLeast = 10 * time.Second

// WALState is the room of the log.
type WALState struct {
	Capacity int64   `json:"capacity_bytes"`
	Used     int64   `json:"used_bytes"`
	Fullness float64 `json:"fullness" doc:"share of what produce may use; producers are slowed down from 0.9 on"`
	Short    string  `json:"short,omitempty" doc:"why the log can have no further file, though its capacity allows for it"`

	Refused          *RefusedState `json:"refused,omitempty" doc:"producers are refused: the log has no room"`
	RefusedPartition *RefusedState `json:"refused_partition,omitempty" doc:"producers of partitions are refused of which too much waits for its upload"`
}

// RefusedState is for how long producers have been refused, and why.
type RefusedState struct {
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	Error string    `json:"error" doc:"of the last one"`
}

// slowedFrom is how full the log is from which on producers are slowed down.
const slowedFrom = 0.9

// DamageState is what a broker cannot serve: what it is to lead, or was asked for.
type DamageState struct {
	Warnings []string `json:"warnings,omitempty" doc:"the same, in words"`

	CorruptPartitions int       `json:"corrupt_partitions" doc:"not served: their log is corrupt"`
	CorruptError      string    `json:"corrupt_error,omitempty" doc:"of one of them"`
	LastError         string    `json:"last_error,omitempty" doc:"by which records could not be read that should be in the log or the bucket"`
	LastErrorAt       time.Time `json:"last_error_at,omitzero"`
}

// damageShown is how long after it was met last damage is a warning.
const damageShown = time.Hour

// MetadataLogState is how far the metadata log in the bucket is.
type MetadataLogState struct {
	Applied uint64 `json:"applied" doc:"the last change"`
	Shipped uint64 `json:"shipped" doc:"the last one that is in the bucket too"`
}

// RequestCount is what was asked of the store, of one class.
type RequestCount struct {
	Class    string  `json:"class"`
	Calls    uint64  `json:"calls"`
	Requests uint64  `json:"requests" doc:"as the store counts them: pages of a list, parts of an upload"`
	Errors   uint64  `json:"errors"`
	Bytes    uint64  `json:"bytes"`
	Seconds  float64 `json:"seconds" doc:"sum over calls"`
}

// RequestCounts lists counts by class.
func RequestCounts(counts bucket.Counts) []RequestCount {
	var out []RequestCount
	for class, c := range counts {
		out = append(out, RequestCount{bucket.Class(class).String(), c.Calls, c.Requests, c.Errors, c.Bytes, c.Time.Seconds()})
	}
	return out
}

// Warn fills in, in words, what is not as it should be; health is what the
// controller says of the bucket, or nil.
func (s *BucketState) Warn(health error, now time.Time) {
	s.Warnings = texts(s.Troubles(now))
	if s.Damage != nil {
		s.Damage.Warnings = texts(s.Damage.troubles(now))
	}
	if health != nil {
		s.Warnings = append(s.Warnings, health.Error())
	}
}

func texts(troubles []controller.Trouble) []string {
	all := []string{}
	for _, t := range troubles {
		all = append(all, t.What)
	}
	return all
}

// What helps, by what is wrong.
const (
	probeBucket = "`rustmq admin storage probe` tries each request, and says which fails"
	makeRoom    = "make room on the disk, or have uploads keep up: `rustmq admin storage` says what they wait for, " + probeBucket
	// makeRoomThere is where it is not the disk of who says so.
	makeRoomThere = "make room on the disk of that replica's node: a problem of its own, disk/NODE or log/NODE, names it; room on this node's disk does not help"
	suspectDisk   = "suspect that disk; the broker's log names the file and the byte, and docs/storage.md says what can be done"
)

// Troubles are what is not as it should be between this process, its log and the bucket.
func (s *BucketState) Troubles(now time.Time) (all []controller.Trouble) {
	add := func(kind, severity string, since time.Time, do, format string, args ...any) {
		all = append(all, controller.Trouble{Kind: kind, Severity: severity, What: fmt.Sprintf(format, args...), Do: do, Since: since})
	}
	goesOn := "produce and the reading of what is in the log go on, for as long as the log has room"
	if w := s.WAL; w != nil {
		used := fmt.Sprintf("%.0f %% of what produce may use of the log is used", 100*w.Fullness)
		switch {
		case w.Refused != nil:
			do := makeRoom
			if strings.HasPrefix(w.Refused.Error, broker.FollowerFull) {
				do = makeRoomThere
			}
			add("log", controller.Critical, w.Refused.Since, do, "producers are REFUSED, for %s, the last one %s ago: %s (%s)", ago(now, w.Refused.Since), ago(now, w.Refused.Last), w.Refused.Error, used)
			goesOn = "what is in the log is read, and producers are refused"
		case w.Fullness >= slowedFrom && w.Short == "":
			add("log", controller.Warning, time.Time{}, makeRoom, "the log is nearly full, and producers are slowed down: %s", used)
			goesOn = "what is in the log is read, and producers are slowed down, then refused"
		default:
			goesOn += fmt.Sprintf(" (%s)", used)
		}
		if r := w.RefusedPartition; r != nil {
			add("log", controller.Critical, r.Since, makeRoom, "producers of partitions are REFUSED that wait for their upload, for %s, the last one %s ago: %s", ago(now, r.Since), ago(now, r.Last), r.Error)
		}
	}
	if s.WAL != nil && s.WAL.Short != "" {
		add("log", controller.Warning, time.Time{}, "make room on the disk of the data directory", "the log can have no further file, and goes on in those it has (%.0f %% of them is used; from 90 %% on producers are slowed down, then refused): %s", 100*s.WAL.Fullness, s.WAL.Short)
	}
	if s.Circuit != bucket.Closed.String() {
		add("bucket", controller.Warning, s.CircuitSince, probeBucket, "the bucket has not been reached for %s: %s", ago(now, s.CircuitSince), goesOn)
	} else if u := s.Upload; u != nil && !u.FailingSince.IsZero() {
		add("upload", controller.Warning, u.FailingSince, probeBucket, "uploads have failed for %s: %s; the last said: %s", ago(now, u.FailingSince), goesOn, u.LastError)
	} else if !s.SlowSince.IsZero() {
		add("bucket", controller.Warning, s.SlowSince, probeBucket, "the bucket has not answered for %s: %s", ago(now, s.SlowSince), goesOn)
	} else if u != nil && u.late(now) > 0 {
		add("upload", controller.Warning, u.WaitingSince, probeBucket, "nothing is uploaded of what has waited for it for %s: %s", ago(now, u.WaitingSince), goesOn)
	}
	if s.Damage != nil {
		all = append(all, s.Damage.troubles(now)...)
	}
	return all
}

// troubles says what cannot be served.
func (d *DamageState) troubles(now time.Time) (all []controller.Trouble) {
	if d.CorruptPartitions > 0 {
		all = append(all, controller.Trouble{Kind: "damage", Severity: controller.Critical, Do: suspectDisk,
			What: fmt.Sprintf("%s that this broker is to lead, not served, for the log is corrupt; docs/storage.md says what to do; of one: %s", plural(d.CorruptPartitions, "partition"), d.CorruptError)})
	}
	if !d.LastErrorAt.IsZero() && now.Sub(d.LastErrorAt) < damageShown {
		all = append(all, controller.Trouble{Kind: "damage", Severity: controller.Critical, Do: suspectDisk,
			What: fmt.Sprintf("records cannot be read, though they should be there, as was met %s ago; docs/storage.md says what to do: %s", ago(now, d.LastErrorAt), d.LastError)})
	}
	return all
}

func ago(now, then time.Time) string { return now.Sub(then).Round(time.Second).String() }

// Probe is what was found out about a store.
type Probe struct {
	Where       string      `json:"where"`
	OK          bool        `json:"ok" doc:"it does all that is needed"`
	SkewSeconds float64     `json:"skew_seconds" doc:"its clock less that of the process that asked"`
	Steps       []ProbeStep `json:"steps"`
}

// ProbeStep is one thing that a store must do.
type ProbeStep struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
	Means   string  `json:"means,omitempty" doc:"what does not work without it"`
}

// NewProbe turns a report into what is shown.
func NewProbe(where string, r bucket.Report) Probe {
	p := Probe{Where: where, OK: r.OK(), SkewSeconds: r.Skew.Seconds()}
	for _, s := range r.Steps {
		step := ProbeStep{Name: s.Name, Seconds: s.Took.Seconds()}
		if s.Err != nil {
			step.Error, step.Means = s.Err.Error(), needed(s.Name)
		}
		p.Steps = append(p.Steps, step)
	}
	return p
}

// ClockConfirmed is what a confirmation of the clock has done.
type ClockConfirmed struct {
	Confirmed bool   `json:"confirmed" doc:"false: there was nothing to confirm, and nothing was changed"`
	Was       string `json:"was,omitempty" doc:"why retention had stopped"`
}

// needed says what a step of a probe is needed for.
func needed(step string) string {
	switch step {
	case "put":
		return "nothing can be uploaded: the log fills up"
	case "get", "ranged get", "range beyond the end":
		return "what has left the log cannot be read"
	case "head", "not found", "deleted is not found":
		return "an object that is gone cannot be told from a store that is ill"
	case "put if absent", "put if absent, when there":
		return "the metadata log cannot be kept there, so nothing is ever deleted, and a second cluster on the same keys is not noticed"
	case "list", "list behind a key":
		return "the metadata log cannot be opened, and the bucket not be compared with the catalogue"
	case "delete":
		return "nothing is ever removed: the bucket grows for ever"
	}
	return "rustmq needs it"
}

type (
	bucketOutput struct{ Body BucketState }
	probeOutput  struct{ Body Probe }
	checkInput   struct{ Body controller.CheckRequest }
	checkOutput  struct{ Body *controller.CheckReport }
	costOutput   struct{ Body Cost }
	clockOutput  struct{ Body ClockConfirmed }
)

// storageAPI is /api/v1/storage.
type storageAPI struct {
	bucket   Bucket
	stopping context.Context // ends with the server
}

func registerStorage(h *routes, a storageAPI) {
	route(h, http.MethodGet, "/api/v1/storage", onCluster[struct{}](describesCluster), a.state)
	route(h, http.MethodGet, "/api/v1/storage/cost", onCluster[struct{}](describesCluster), a.cost)
	route(h, http.MethodPost, "/api/v1/storage/probe", onCluster[struct{}](altersCluster).act("storage.probe"), a.probe)
	route(h, http.MethodPost, "/api/v1/storage/check", onCluster[checkInput](altersCluster).act("storage.check").saying(toldCheck), a.check)
	route(h, http.MethodPost, "/api/v1/storage/confirm-clock", onCluster[struct{}](altersCluster).act("storage.confirm-clock"), a.confirmClock)
}

func (a storageAPI) state(context.Context, *struct{}) (*bucketOutput, error) {
	return &bucketOutput{a.bucket.State()}, nil
}

func (a storageAPI) cost(context.Context, *struct{}) (*costOutput, error) {
	return &costOutput{a.bucket.Cost()}, nil
}

// probe tries the server's own bucket, and no other: who names a URL opens it
// with what it may do itself.
func (a storageAPI) probe(ctx context.Context, _ *struct{}) (*probeOutput, error) {
	ctx, cancel := a.long(ctx)
	defer cancel()
	return &probeOutput{a.bucket.Probe(ctx)}, nil
}

// toldCheck is what a check does beside looking, as the audit log has it.
func toldCheck(in *checkInput) string {
	if in.Body.Repair {
		return "orphans are deleted"
	}
	return ""
}

func (a storageAPI) check(ctx context.Context, in *checkInput) (*checkOutput, error) {
	ctx, cancel := a.long(ctx)
	defer cancel()
	report, err := a.bucket.Check(ctx, in.Body)
	if errors.As(err, new(*metadata.Error)) {
		return nil, problem(err)
	}
	if err != nil {
		return nil, huma.NewError(http.StatusBadGateway, "the bucket was not checked to its end: "+err.Error())
	}
	return &checkOutput{report}, nil
}

// long is the context of a request that is ended when the server stops.
func (a storageAPI) long(request context.Context) (ctx context.Context, cancel func()) {
	ctx, end := context.WithCancel(request)
	forget := context.AfterFunc(a.stopping, end)
	return ctx, func() {
		forget()
		end()
	}
}

func (a storageAPI) confirmClock(ctx context.Context, _ *struct{}) (*clockOutput, error) {
	out := &clockOutput{}
	was, err := a.bucket.ConfirmClock(ctx)
	if err != nil {
		return nil, problem(err)
	}
	if was != nil {
		out.Body = ClockConfirmed{Confirmed: true, Was: was.Error()}
	}
	return out, nil
}
