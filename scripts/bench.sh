#!/usr/bin/env bash
# Builds rustmq and the benchmark, runs every figure, writes bench/results and
# docs/benchmarks.md. PAIRS is how many pairs a row has. FIGURES=F1,F4 narrows
# it; nothing is written then.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -trimpath -ldflags '-s -w' -o bin/rustmq .
mkdir -p bench/bin
(cd bench && go build -trimpath -o bin/bench .)
cd bench
if [ -n "${FIGURES:-}" ]; then
	exec ./bin/bench run -figures "$FIGURES" -pairs "${PAIRS:-5}" -write=false
fi
exec ./bin/bench run -pairs "${PAIRS:-5}"
