#!/usr/bin/env bash
# Builds rustmq and the benchmark, runs every figure, writes bench/results and
# docs/performance.md. PAIRS is how many pairs a row has. FIGURES=F1,B2 narrows
# it; nothing is written then, but with WRITE=1 those figures take the place of what
# is there of them. ROWS narrows it to the rows with that in their names, and nothing is
# written. Figures B need an S3 server, figures K Apache Kafka and Java; both servers are
# fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o bin/rustmq .
mkdir -p bench/bin
(cd bench && go build -trimpath -o bin/bench .)
case ",${FIGURES:-B1}," in
*,B[123],*)
	# As in scripts/deps.sh, which installs more than this.
	[ -x build/buckets/versitygw ] || GOBIN=$PWD/build/buckets GOWORK=off GOFLAGS=-trimpath go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	;;
esac
case ",${FIGURES:-K1}," in
*,K[1-5],*)
	ls build/kafka/lib/kafka_2.13-*.jar >/dev/null 2>&1 ||
		mvn -q -B -f test/apache/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/build/kafka/lib"
	;;
esac
case ",${FIGURES:-K15}," in
*,K15,*)
	rust=$(scripts/rust.sh)
	RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN:-} CARGO_TARGET_DIR=build/rust/bench "$rust" build --release --locked --manifest-path sdk/rust/bench/Cargo.toml
	cp build/rust/bench/release/rustmq-bench bench/bin/
	;;
esac
cd bench
if [ -n "${FIGURES:-}" ]; then
	write=false
	[ -z "${WRITE:-}" ] || write=true
	exec ./bin/bench run -figures "$FIGURES" -pairs "${PAIRS:-5}" -rows "${ROWS:-}" -write=$write
fi
exec ./bin/bench run -pairs "${PAIRS:-5}"
