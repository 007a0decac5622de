package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// ClientPrefix begins the names of the groups and transactional ids by which the cluster runs
// asynchronous modules. Who may deploy modules may change them, and no rule else opens them.
const ClientPrefix = "rustmq-etl-"

// Mode says when a module runs.
type Mode string

// The modes.
const (
	Inline Mode = "inline" // on the produce path, before a batch is appended
	Async  Mode = "async"  // from source topics to an output topic, behind the producers
)

// Policy says what becomes of records that a module rejects, or fails on.
type Policy string

// The policies.
const (
	RejectBatch Policy = "reject"      // the batch is refused
	Pass        Policy = "pass"        // the records go on as if the module were not there
	DeadLetter  Policy = "dead-letter" // the records go to the dead-letter topic instead
)

// Bounds of a spec, and what counts where it says nothing.
const (
	// MaxSpec bytes of JSON; the config of a module is part of it.
	MaxSpec = 256 << 10

	stages = 3 // 0, 1 and 2

	maxTopics     = 100 // patterns, and routes
	maxPattern    = 256 // bytes; a topic's name has 249
	maxConditions = 100
	maxPriority   = 1_000_000

	defaultDeadline  = 100 // ms
	maxDeadline      = 10_000
	defaultMemory    = 64 << 20
	minMemory        = 64 << 10 // a page of WebAssembly
	maxMemory        = 1 << 30
	defaultInstances = 2
	maxInstances     = 64
	defaultFailures  = 20
	defaultWindow    = 60_000 // ms
	maxWindow        = 24 * 60 * 60 * 1000
)

// Spec is how a version of a module is used. [ParseSpec] makes one; of one that is made
// otherwise, Validate is called before anything else. After that nobody writes to it, and
// it is safe for concurrent use.
type Spec struct {
	Mode Mode `json:"mode"`
	// Topics are names and patterns: see [Spec.MatchesTopic].
	Topics    []string `json:"topics"`
	Stage     int      `json:"stage,omitempty"`    // 0 to 2, in this order; inline
	Priority  int      `json:"priority,omitempty"` // within the stage; higher first
	OnFailure Policy   `json:"on_failure"`         // default: reject, of async: dead-letter
	// DeadLetterTopic is where the policy dead-letter sends records.
	DeadLetterTopic string `json:"dead_letter_topic,omitempty"`
	// Routes are the topics that the module may route records to.
	Routes []string `json:"routes,omitempty"`
	// When says which records the module is shown: those that one of the conditions
	// holds for. Empty: all.
	When []Condition `json:"when,omitempty"`
	// Config is given to the module as it is.
	Config json.RawMessage `json:"config,omitempty"`
	// Output is the topic of kept records; async.
	Output         string `json:"output,omitempty"`
	DeadlineMillis int64  `json:"deadline_ms"`    // of one call; 1 to 10,000, default 100
	MemoryBytes    int64  `json:"memory_bytes"`   // of one instance; 64 KiB to 1 GiB, default 64 MiB
	Fuel           uint64 `json:"fuel,omitempty"` // of one call; 0: no bound but the deadline
	Instances      int    `json:"instances"`      // at once, on each broker; 1 to 64, default 2
	ErrorBudget    Budget `json:"error_budget"`

	topics topicFilter
}

// Budget is how many failures a module may have within a time before it is disabled.
type Budget struct {
	Failures     int   `json:"failures"`  // default 20
	WindowMillis int64 `json:"window_ms"` // default 60,000
}

// Deadline is the time of one call.
func (s *Spec) Deadline() time.Duration { return time.Duration(s.DeadlineMillis) * time.Millisecond }

// MayRoute reports whether a module may route to a topic.
func (s *Spec) MayRoute(topic string) bool { return slices.Contains(s.Routes, topic) }

// ParseSpec reads a spec, fills in the defaults, and says what is wrong with it. A field
// that is not known is an error.
func ParseSpec(text []byte) (*Spec, error) {
	if len(text) > MaxSpec {
		return nil, fmt.Errorf("the spec has %d bytes, at most %d are taken: give the module a shorter config", len(text), MaxSpec)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	s := new(Spec)
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("read the spec: %w: it is one JSON object, with the fields of docs/etl-inline.md", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("read the spec: something stands behind the JSON object: remove it")
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// Validate fills in the defaults, says all that is wrong, and makes the spec ready for use.
func (s *Spec) Validate() error {
	s.fill()
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(name string, v, least, most int64) {
		if v < least || v > most {
			wrong("%s is %d: use %d to %d", name, v, least, most)
		}
	}
	if s.Mode != Inline && s.Mode != Async {
		wrong("mode is %q: use %q or %q", s.Mode, Inline, Async)
	}
	if s.OnFailure != RejectBatch && s.OnFailure != Pass && s.OnFailure != DeadLetter {
		wrong("on_failure is %q: use %q, %q or %q", s.OnFailure, RejectBatch, Pass, DeadLetter)
	}
	within("stage", int64(s.Stage), 0, stages-1)
	within("priority", int64(s.Priority), -maxPriority, maxPriority)
	within("deadline_ms", s.DeadlineMillis, 1, maxDeadline)
	within("memory_bytes", s.MemoryBytes, minMemory, maxMemory)
	within("instances", int64(s.Instances), 1, maxInstances)
	within("error_budget.failures", int64(s.ErrorBudget.Failures), 1, 1_000_000)
	within("error_budget.window_ms", s.ErrorBudget.WindowMillis, 1000, maxWindow)
	var err error
	if s.topics, err = compileTopics(s.Topics); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, s.validateTargets()...)
	if len(s.When) > maxConditions {
		wrong("when has %d conditions: use at most %d", len(s.When), maxConditions)
	}
	for i := range s.When {
		if err := s.When[i].validate(); err != nil {
			wrong("when[%d]: %w", i, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return errors.New("spec: " + strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// fill gives defaults to what is not set.
func (s *Spec) fill() {
	orElse := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	orElse(&s.DeadlineMillis, defaultDeadline)
	orElse(&s.MemoryBytes, defaultMemory)
	orElse(&s.ErrorBudget.WindowMillis, defaultWindow)
	if s.ErrorBudget.Failures == 0 {
		s.ErrorBudget.Failures = defaultFailures
	}
	if s.Instances == 0 {
		s.Instances = defaultInstances
	}
	if s.OnFailure == "" {
		s.OnFailure = RejectBatch
		if s.Mode == Async {
			s.OnFailure = DeadLetter
		}
	}
}

// validateTargets says what is wrong with the topics that records may go to.
func (s *Spec) validateTargets() (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case s.OnFailure == DeadLetter && s.DeadLetterTopic == "":
		wrong("dead_letter_topic is missing, and on_failure is %q (as it is of async modules that do not say): name the topic, or use %q", DeadLetter, Pass)
	case s.OnFailure != DeadLetter && s.DeadLetterTopic != "":
		wrong("dead_letter_topic is %q, and on_failure %q sends nothing there: leave it out, or use %q", s.DeadLetterTopic, s.OnFailure, DeadLetter)
	}
	if s.DeadLetterTopic != "" {
		switch err := plainTopic(s.DeadLetterTopic); {
		case err != nil:
			wrong("dead_letter_topic: %w", err)
		case s.topics.matches(s.DeadLetterTopic):
			wrong("dead_letter_topic %q is a topic that the module transforms: use another, or exclude it by %q in topics", s.DeadLetterTopic, "!"+s.DeadLetterTopic)
		}
	}
	if len(s.Routes) > maxTopics {
		wrong("routes has %d topics: use at most %d", len(s.Routes), maxTopics)
	}
	for _, topic := range s.Routes {
		if err := plainTopic(topic); err != nil {
			wrong("routes: %w", err)
		}
	}
	switch {
	case s.Mode == Async && s.Output == "":
		wrong("output is missing: an async module needs the topic that its records go to")
	case s.Mode == Inline && s.Output != "":
		wrong("output is for async modules: an inline module's records stay in their topic")
	case s.Output == "":
	default:
		if err := plainTopic(s.Output); err != nil {
			wrong("output: %w", err)
		} else if s.topics.matches(s.Output) {
			wrong("output %q is a topic that the module reads: it would never end; use another", s.Output)
		}
	}
	if s.Mode != Async {
		return errs
	}
	if s.Stage != 0 {
		wrong("stage is for inline modules: leave it out")
	}
	if s.OnFailure == RejectBatch {
		wrong("on_failure is %q: there is no producer whose records could be refused; use %q or %q", s.OnFailure, Pass, DeadLetter)
	}
	for _, topic := range s.Routes {
		if s.topics.matches(topic) {
			wrong("routes: %q is a topic that the module reads: it might never end; use another", topic)
		}
	}
	return errs
}

// plainTopic says why a name cannot be a topic's that records are sent to.
func plainTopic(name string) error {
	switch {
	case name == "" || len(name) > 249 || name == "." || name == "..":
		return fmt.Errorf("%q is no name of a topic: use 1 to 249 letters, digits, dots, dashes and underscores", name)
	case strings.HasPrefix(name, "__"):
		return fmt.Errorf("topic %q may be the broker's own: records are never sent there; use another", name)
	}
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			continue
		}
		return fmt.Errorf("%q is no name of a topic: use letters, digits, dots, dashes and underscores", name)
	}
	return nil
}
