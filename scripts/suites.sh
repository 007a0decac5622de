#!/usr/bin/env bash
# Runs suites one after the other, those joined by + side by side: they wait for most of
# their time, or simulate it, and do not judge by it. What these say comes when they have ended.
# Usage: scripts/suites.sh NAME[+NAME]...
set -euo pipefail
cd "$(dirname "$0")/.."
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
for group; do
	IFS=+ read -ra names <<<"$group"
	if [ ${#names[@]} = 1 ]; then
		scripts/suite.sh "$group"
		continue
	fi
	pids=()
	for name in "${names[@]}"; do
		scripts/suite.sh "$name" >"$said/$name" 2>&1 &
		pids+=($!)
	done
	failed=0
	for i in "${!names[@]}"; do
		wait "${pids[$i]}" || failed=1
		cat "$said/${names[$i]}"
	done
	[ $failed = 0 ] || exit 1
done
