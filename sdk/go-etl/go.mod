module rustmq.dev/rustmq/sdk/go-etl

go 1.26.0
