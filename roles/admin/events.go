package admin

import (
	"context"
	"reflect"
	"time"

	"rustmq.dev/rustmq/roles/controller"
)

const (
	eventsPath = apiPath + "/events"
	// shownProblems bounds the problems of an event; cluster/health has all.
	shownProblems = 20
)

// Overview is how a cluster stands, as /api/v1/events tells it.
type Overview struct {
	Time     time.Time          `json:"time"`
	Healthy  bool               `json:"healthy"`
	Judged   bool               `json:"judged" doc:"false: the process that answers has just begun, and does not know yet"`
	Problems []Problem          `json:"problems" doc:"what is wrong, the worst first, and no more than 20"`
	More     int                `json:"more_problems,omitempty" doc:"of which are left out"`
	Notes    []string           `json:"notes"`
	Figures  map[string]*Figure `json:"figures" doc:"the newest, by the names of /api/v1/history; null: not known"`
	At       float64            `json:"at,omitempty" doc:"when they were reckoned, in seconds since 1970"`
	Silent   []SilentBroker     `json:"silent" doc:"brokers that do not say what they count: the figures are without theirs"`
	Brokers  int                `json:"brokers" doc:"in service"`
	// Topics and Partitions are without the brokers' own.
	Topics     int `json:"topics" doc:"without internal ones"`
	Partitions int `json:"partitions" doc:"of those"`
	Internal   int `json:"internal_topics"`
}

// eventsAPI follows a cluster as a whole.
type eventsAPI struct {
	cluster  Cluster
	recorder *recorder
	sights   *sightings // nil: problems are not looked at
}

func registerEvents(h *routes, a eventsAPI) {
	h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Overview](), true, "Overview") // no answer has it, but events
	stream(h, eventsPath, onCluster[struct{}](describesCluster).noting("events of the type overview, as they come, at least each 5 s"), a.open)
}

func (a eventsAPI) open(context.Context, *struct{}) (func(context.Context, sender) error, error) {
	return a.follow, nil
}

// follow sends an overview at once, and one more whenever there is another. It waits for the
// recorder, or where nobody is asked, for a while.
func (a eventsAPI) follow(ctx context.Context, send sender) error {
	defer a.recorder.follow()()
	ticker := time.NewTicker(sightEvery)
	defer ticker.Stop()
	for {
		overview, more := a.overview(time.Now())
		if err := send("overview", "", overview); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		case <-ticker.C:
		}
	}
}

func (a eventsAPI) overview(now time.Time) (is Overview, more <-chan struct{}) {
	image := a.cluster.Image()
	is = Overview{
		Time: now.UTC().Truncate(time.Millisecond), Problems: []Problem{}, Notes: []string{}, Figures: map[string]*Figure{}, Silent: []SilentBroker{},
		Topics: image.NumTopics(), Partitions: image.NumPartitions(),
	}
	for name := range controller.OwnTopics() {
		if t, made := image.Topic(name); made && t.Internal {
			is.Topics, is.Partitions, is.Internal = is.Topics-1, is.Partitions-t.Partitions.Len(), is.Internal+1
		}
	}
	for b := range image.Brokers() {
		if !b.Fenced {
			is.Brokers++
		}
	}
	if a.sights != nil {
		if health, judged := a.sights.last(); judged {
			is.Judged, is.Healthy, is.Notes = true, health.Healthy, health.Notes
			is.Problems = health.Problems[:min(len(health.Problems), shownProblems)]
			is.More = len(health.Problems) - len(is.Problems)
		}
	}
	live, silent, more := a.recorder.now()
	if live != nil {
		is.At, is.Silent = unixSeconds(live.Time), silent
		for name, v := range figuresOf(live) {
			is.Figures[name] = known(v)
		}
	}
	return is, more
}
