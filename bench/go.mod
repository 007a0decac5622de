module rustmq.dev/rustmq/bench

go 1.26.0

require (
	rustmq.dev/rustmq v0.0.0
	rustmq.dev/rustmq/sdk/go v0.0.0
)

replace rustmq.dev/rustmq => ../

replace rustmq.dev/rustmq/sdk/go => ../sdk/go
