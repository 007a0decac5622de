#!/usr/bin/env bash
# Prints the cargo that builds sdk/rust: one of its rust-version or later. Debian 12's own, which
# scripts/batteries.sh needs, is older; beside it one of rustup's is taken.
set -euo pipefail
cd "$(dirname "$0")/.."
want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' sdk/rust/Cargo.toml)
for cargo in "$(command -v cargo || :)" "${CARGO_HOME:-$HOME/.cargo}/bin/cargo"; do
	[ -x "$cargo" ] || continue
	have=$("$cargo" --version 2>/dev/null | cut -d' ' -f2)
	if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ]; then
		echo "$cargo"
		exit 0
	fi
done
echo "Rust $want or later is not here: sdk/rust needs it (rustup, with clippy and rustfmt)" >&2
exit 1
