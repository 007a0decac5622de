#!/usr/bin/env bash
# Remakes every generated file: protobuf code, docs/configuration.md and
# docs/formats.md. CI compares the result with what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
build/tools/protogen consensus/metadata
go run ./configs/reference >docs/configuration.md
scripts/formats.sh >docs/formats.md
