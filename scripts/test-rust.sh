#!/usr/bin/env bash
# Tests the Rust SDK against bin/rustmq: format, clippy, reference docs, and every test, by debug and
# release. What it links was fetched by scripts/deps.sh, or is fetched now. With `prepare` only
# what it links is fetched and compiled.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=$(scripts/rust.sh)
PATH=$(dirname "$cargo"):$PATH # rustdoc and rustfmt beside it
export CARGO_TARGET_DIR=$PWD/build/rust CARGO_INCREMENTAL=0 CARGO_TERM_PROGRESS_WHEN=never
# Tests by release are to find what optimisation changes, and not to be linked for minutes; debug
# information of what is linked is of no use to them, and a gigabyte.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_DEV_DEBUG=line-tables-only
cd sdk/rust
if [ "${1:-}" = prepare ]; then
	"$cargo" fetch -q --locked
	# The crate itself is compiled too: what it links is not to be had without.
	"$cargo" clippy -q --offline --locked --all-targets --all-features
	"$cargo" test -q --offline --locked --all-features --no-run
	"$cargo" test -q --offline --locked --all-features --no-run --release --lib --test scenarios
	exit 0
fi
"$cargo" fmt --check
"$cargo" fmt --check --manifest-path bench/Cargo.toml
"$cargo" clippy -q --locked --all-targets --all-features -- -D warnings
RUSTDOCFLAGS='-D warnings' "$cargo" doc -q --locked --no-deps --all-features
"$cargo" test -q --locked --all-features
# By release what time and optimisation may change; documentation and examples are the same.
"$cargo" test -q --locked --all-features --release --lib --test scenarios
