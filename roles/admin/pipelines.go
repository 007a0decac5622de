package admin

import (
	"cmp"
	"context"
	"slices"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/security/acl"
)

// ETLPipeline is what records of a topic pass.
type ETLPipeline struct {
	Topic  string     `json:"topic"`
	Inline []ETLStage `json:"inline" doc:"in the order that batches pass them; empty: none"`
	Async  []ETLStep  `json:"async" doc:"modules that read the topic behind its producers, each for itself"`
}

// ETLStage is the inline modules of a topic that see the same records.
type ETLStage struct {
	Stage   int       `json:"stage"`
	Modules []ETLStep `json:"modules" doc:"of the highest priority first; of equal ones by name"`
}

// ETLStep is a module as part of a pipeline.
type ETLStep struct {
	Name            string   `json:"name"`
	Version         uint32   `json:"version"`
	Priority        int      `json:"priority"`
	Spent           bool     `json:"spent,omitempty" doc:"its error budget is: records meet on_failure in its place, or with an async one wait"`
	Conditional     bool     `json:"conditional,omitempty" doc:"it is shown the records alone for which one of its conditions holds"`
	OnFailure       string   `json:"on_failure"`
	DeadLetterTopic string   `json:"dead_letter_topic,omitempty"`
	Routes          []string `json:"routes,omitempty"`
	Output          string   `json:"output,omitempty" doc:"of an async module"`
}

type pipelinesOutput struct {
	Body struct {
		Pipelines []ETLPipeline `json:"pipelines" doc:"of topics that a module is for, in order of their names"`
		Topics    int           `json:"topics" doc:"all topics that a module could be for, as far as the caller may describe them"`
		Unknown   []string      `json:"unknown,omitempty" doc:"modules whose specs this version does not know"`
		NextPage
	}
}

// step is a module whose records are transformed, or meet its policy.
type step struct {
	spec *pipeline.Spec
	as   ETLStep
}

// steps are the modules that records meet, and the names of those of which it is not known which.
func steps(image *metadata.Image) (all []step, unknown []string) {
	for t := range image.Transforms() {
		v, is := t.Version(t.Stands())
		if !is {
			continue
		}
		spec, err := pipeline.ParseSpec([]byte(v.Spec))
		if err != nil {
			unknown = append(unknown, t.Name)
			continue
		}
		all = append(all, step{spec, ETLStep{
			Name: t.Name, Version: v.Number, Priority: spec.Priority, Spent: t.Active == 0, Conditional: len(spec.When) > 0,
			OnFailure: string(spec.OnFailure), DeadLetterTopic: spec.DeadLetterTopic, Routes: spec.Routes, Output: spec.Output,
		}})
	}
	slices.SortFunc(all, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.spec.Stage, b.spec.Stage), cmp.Compare(b.as.Priority, a.as.Priority), cmp.Compare(a.as.Name, b.as.Name))
	})
	return all, unknown
}

// pipelines tells which modules records of each topic pass.
func (a etlAPI) pipelines(ctx context.Context, in *PageQuery) (*pipelinesOutput, error) {
	who, image, out := subjectOf(ctx), a.cluster.Image(), &pipelinesOutput{}
	all, unknown := steps(image)
	out.Body.Pipelines, out.Body.Unknown = []ETLPipeline{}, unknown
	for t := range image.Topics() {
		if t.Internal || !who.may(acl.Describe, acl.Topic, t.Name) {
			continue
		}
		out.Body.Topics++
		p := ETLPipeline{Topic: t.Name, Inline: []ETLStage{}, Async: []ETLStep{}}
		for _, s := range all {
			switch {
			case !s.spec.MatchesTopic(t.Name):
			case s.spec.Mode == pipeline.Async:
				p.Async = append(p.Async, s.as)
			default:
				if n := len(p.Inline); n == 0 || p.Inline[n-1].Stage != s.spec.Stage {
					p.Inline = append(p.Inline, ETLStage{Stage: s.spec.Stage})
				}
				last := &p.Inline[len(p.Inline)-1]
				last.Modules = append(last.Modules, s.as)
			}
		}
		if len(p.Inline)+len(p.Async) > 0 {
			out.Body.Pipelines = append(out.Body.Pipelines, p)
		}
	}
	var err error
	out.Body.Pipelines, out.Body.NextPage, err = partOf(*in, out.Body.Pipelines, func(p ETLPipeline) string { return p.Topic })
	return out, err
}
