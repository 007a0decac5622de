#!/usr/bin/env bash
# Builds rustmq and the benchmark, runs every figure, writes bench/results and
# docs/benchmarks.md. PAIRS is how many pairs a row has. FIGURES=F1,B2 narrows
# it; nothing is written then. Figures B need an S3 server, which is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -trimpath -ldflags '-s -w' -o bin/rustmq .
mkdir -p bench/bin
(cd bench && go build -trimpath -o bin/bench .)
case ",${FIGURES:-B1}," in
*,B[123],*)
	# As in scripts/deps.sh, which installs more than this.
	[ -x build/buckets/versitygw ] || GOBIN=$PWD/build/buckets GOWORK=off GOFLAGS=-trimpath go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	;;
esac
cd bench
if [ -n "${FIGURES:-}" ]; then
	exec ./bin/bench run -figures "$FIGURES" -pairs "${PAIRS:-5}" -write=false
fi
exec ./bin/bench run -pairs "${PAIRS:-5}"
