#!/usr/bin/env bash
# Starts every shipped configuration as its first comment says, in a directory of
# its own, and ends it when it is ready.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD passed=0
for file in configs/*.toml; do
	command=$(sed -n 's/^#   rustmq //p' "$file" | head -n 1)
	[ -n "$command" ] || { echo "$file does not say how to start it"; exit 1; }
	work=$(mktemp -d)
	cp -r configs "$work/"
	(cd "$work" && exec "$root/bin/rustmq" $command >line 2>log) &
	pid=$!
	for _ in $(seq 600); do [ -s "$work/line" ] && break; sleep 0.1; done
	if ! grep -q '"http"' "$work/line"; then
		echo "rustmq $command did not start:"; cat "$work/log"; kill "$pid" 2>/dev/null; exit 1
	fi
	kill "$pid"
	wait "$pid" || { echo "rustmq $command ended badly:"; tail -n 5 "$work/log"; exit 1; }
	rm -rf "$work"
	passed=$((passed + 1))
done
echo "shipped configurations: $passed passed, 0 failed"
