#!/usr/bin/env bash
# Builds the transforms that come with rustmq, and the example of the Rust kit that tests run, into
# etl/batteries/built, with their SHA-256. What is built depends on the sources, this script and
# the compiler of Debian 12, which no longer changes: scripts/deps.sh installs it. It calls the
# compiler by itself, for cargo would mix the folder of the clone into what is built.
# Usage: scripts/batteries.sh [check]    check: tests them, and compares what is built with what is there
set -euo pipefail
cd "$(dirname "$0")/.."
start=$SECONDS root=$PWD check=${1:-} target=build/rust
case "$(/usr/bin/rustc --version 2>/dev/null)" in
'rustc 1.63.0'*) ;;
*)
	echo "batteries: /usr/bin/rustc is not 1.63.0: run scripts/deps.sh (on Debian 12)" >&2
	exit 1
	;;
esac
mkdir -p "$target"
out=$(mktemp -d "$target/batteries.XXXXXX")
trap 'rm -rf "$out"' EXIT
# Nothing of the caller's environment changes what is built.
clean() { env -i PATH=/usr/bin:/bin HOME="$root/$out" "$@"; }
# wasm NAME SOURCE ARGUMENT... compiles one crate.
wasm() {
	local name=$1 source=$2
	shift 2
	clean /usr/bin/rustc --edition 2021 --target wasm32-unknown-unknown --crate-name "$name" "$source" \
		-C opt-level=3 -C codegen-units=1 -C panic=abort -C strip=symbols -C metadata=rustmq \
		--remap-path-prefix="$root=" --remap-path-prefix=/usr/src/rustc-1.63.0=rust \
		-L "$out" --out-dir "$out" "$@"
}
wasm rustmq_etl sdk/rust-etl/src/lib.rs --crate-type rlib
wasm rustmq_json etl/batteries/json/src/lib.rs --crate-type rlib
module() { wasm "$1" "$2" --crate-type cdylib -C lto=fat --extern rustmq_etl="$out/librustmq_etl.rlib" --extern rustmq_json="$out/librustmq_json.rlib"; }
both() { # each module of one list after the other, the lists side by side
	local pids=() list name
	for list; do
		(
			set -e
			for name in $list; do
				case $name in
				strong) module strong sdk/rust-etl/examples/strong.rs ;;
				tests)
					for crate in sdk/rust-etl etl/batteries; do
						(cd "$crate" && env CARGO_HOME="$root/$target/home" CARGO_TARGET_DIR="$root/$target" RUSTC=/usr/bin/rustc \
							RUSTDOC=/usr/bin/rustdoc RUSTFLAGS='-D warnings -C debuginfo=0' /usr/bin/cargo test --quiet --offline --locked >"$root/$out/tests" 2>&1) ||
							{ cat "$out/tests"; exit 1; }
					done
					;;
				*) module "${name//-/_}" "etl/batteries/$name/src/lib.rs" ;;
				esac
			done
		) & pids+=($!)
	done
	local failed=0 pid
	for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
	return $failed
}
if [ "$check" = check ]; then
	both "project mask headers json-schema strong" tests
else
	both "project mask" "json-schema headers strong"
fi
mkdir "$out/built"
for name in headers json-schema mask project strong; do cp "$out/${name//-/_}.wasm" "$out/built/$name.wasm"; done
chmod 644 "$out"/built/*.wasm
(cd "$out/built" && sha256sum ./*.wasm | sed 's| \./| |' >SHA256SUMS)
if [ "$check" = check ]; then
	diff "$out/built/SHA256SUMS" etl/batteries/built/SHA256SUMS ||
		{ echo "batteries: what the sources give is not what lies in etl/batteries/built: run make batteries, and commit it" >&2; exit 1; }
else
	rm -rf etl/batteries/built
	mv "$out/built" etl/batteries/built
fi
echo "batteries: $((SECONDS - start)) s"
