#!/usr/bin/env bash
# Remakes every generated file: protobuf code, docs/configuration.md,
# docs/cost.md, docs/kafka-compatibility.md and docs/formats.md. CI compares the result with what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
build/tools/protogen consensus/metadata
go run ./configs/reference >docs/configuration.md
go run ./roles/cost/document >docs/cost.md
go run ./roles/compatibility/document >docs/kafka-compatibility.md
scripts/formats.sh >docs/formats.md
