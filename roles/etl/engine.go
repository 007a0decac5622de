package etl

import (
	"context"
	"log/slog"

	"rustmq.dev/rustmq/etl/pipeline"
)

// Engine loads modules: etl/wasm, or a double.
type Engine interface {
	// Load verifies, compiles and instantiates a module, and gives it its config. An error is
	// the module's, or its config's, unless ctx has ended.
	Load(ctx context.Context, wasm []byte, o ModuleOptions) (Module, error)
}

// ModuleOptions say how a module is loaded.
type ModuleOptions struct {
	Name    string
	Version int // 0: of a trial
	Spec    *pipeline.Spec
	// Log is told of what the module says, Metric of what it counts; nil: nobody is. They must
	// not block, and may be called concurrently.
	Log    func(level slog.Level, text string)
	Metric func(name string, delta float64)
}

// Module is a module that is loaded.
type Module interface {
	pipeline.Transformer
	// Close ends it. Calls that come later fail as those of a closed module.
	Close()
}
