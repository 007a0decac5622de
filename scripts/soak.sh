#!/usr/bin/env bash
# Runs suites for long, one after the other, and adds what they have counted to
# test/tally/results.json, of which `make generate` makes docs/reliability.md. All are run,
# whatever fails. Usage: [SOAK=minutes of each, default 60] scripts/soak.sh NAME...
set -euo pipefail
cd "$(dirname "$0")/.."
export SOAK=${SOAK:-60}
mkdir -p build/soak
said=$(mktemp -d build/soak/XXXXXX)
failed=()
for name; do
	began=$SECONDS
	commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown) # of what is run: others may follow meanwhile
	verdict=
	scripts/suite.sh "$name" 2>&1 | tee "$said/$name" || verdict=-failed
	[ -z "$verdict" ] || failed+=("$name")
	go run ./test/tally/collect -suite "$name" -commit "$commit" -seconds $((SECONDS - began)) $verdict <"$said/$name"
done
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}; what they said is in $said"; exit 1; }
