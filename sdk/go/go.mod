module rustmq.dev/rustmq/sdk/go

go 1.26
