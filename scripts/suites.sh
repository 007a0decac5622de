#!/usr/bin/env bash
# Runs suites one after the other, those joined by + side by side: they wait for most of
# their time, or simulate it, and do not judge by it. One behind a comma takes what the others
# of its group leave of the processors. What a group says comes when it has
# ended, that of those that failed last, and after all of it what failed.
# Usage: scripts/suites.sh NAME[+NAME]...[,NAME]...
set -euo pipefail
cd "$(dirname "$0")/.."
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
for group; do
	IFS=+, read -ra names <<<"$group"
	failed=()
	if [ ${#names[@]} = 1 ]; then
		scripts/suite.sh "$group" 2>&1 | tee "$said/$group" || failed=("$group")
	else
		pids=()
		for name in "${names[@]}"; do
			politely=()
			[[ $group != *,"$name"* ]] || politely=(nice -n 19)
			"${politely[@]}" scripts/suite.sh "$name" >"$said/$name" 2>&1 &
			pids+=($!)
		done
		for i in "${!names[@]}"; do
			if wait "${pids[$i]}"; then cat "$said/${names[$i]}"; else failed+=("${names[$i]}"); fi
		done
		for name in ${failed[@]+"${failed[@]}"}; do cat "$said/$name"; done
	fi
	[ ${#failed[@]} -gt 0 ] || continue
	for name in "${failed[@]}"; do
		scripts/failures.sh "$said/$name"
		seed=$(sed -n 's/^seed of this run: //p' "$said/$name")
		echo "suite $name failed; again: ${seed:+SEED=$seed }make suite-$name"
	done
	exit 1
done
