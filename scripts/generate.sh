#!/usr/bin/env bash
# Remakes every generated file: protobuf code, docs/configuration.md,
# docs/cost.md, docs/performance.md, docs/reliability.md, docs/kafka-compatibility.md, docs/kafka-authorisation.md,
# docs/admin-authorisation.md, console/src/types.ts, docs/reference/cli.md, docs/reference/metrics.md, docs/formats.md and
# docs/diagrams, docs/promises.md. CI compares the
# result with what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
build/tools/protogen consensus/metadata
build/tools/protogen -plugin protoc-gen-go -plugin protoc-gen-go-grpc transport/rpc
go run ./configs/reference >docs/configuration.md
go run ./roles/cost/document >docs/cost.md
go run ./roles/compatibility/document >docs/kafka-compatibility.md
go run ./roles/compatibility/document authorisation >docs/kafka-authorisation.md
go run ./roles/admin/document >docs/admin-authorisation.md
go run ./roles/admin/document types >console/src/types.ts
go run ./roles/metricsdocument >docs/reference/metrics.md
go run ./roles/reference >docs/reference/cli.md
scripts/formats.sh >docs/formats.md
(cd bench && go run ./report/document) >docs/performance.md
go run ./test/tally/document >docs/reliability.md
python3 scripts/site/diagrams.py
go run ./test/promises/document >docs/promises.md # of what the others have made, too
