#!/usr/bin/env bash
# Prints the seed of random tests: SEED if it is set; else one reckoned from the tree of the
# commit, so that every run of a commit makes the same choices and every commit new ones;
# nothing in a soak, without git, or while files differ from the commit.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${SEED:-}" ]; then
	echo "$SEED"
elif [ -z "${SOAK:-}" ] && changed=$(git status --porcelain --untracked-files=no 2>/dev/null) && [ -z "$changed" ]; then
	tree=$(git rev-parse 'HEAD^{tree}')
	echo $((16#${tree:0:15}))
fi
