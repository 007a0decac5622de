#!/usr/bin/env bash
# The web console: installs what it is built of, builds it into console/dist, checks it.
#
#   scripts/console.sh          build it, or say what is missing
#   scripts/console.sh maybe    build it where there is Node, and the network or what was installed
#                               before, as make build does; never fails, and waits a minute at most
#   scripts/console.sh deps     install what it is built of (needs the network the first time)
#   scripts/console.sh check    types and, twice, the same bytes
set -euo pipefail
cd "$(dirname "$0")/../console"

has_node() { command -v node >/dev/null 2>&1 && [ "$(node -p 'process.versions.node.split(".")[0] >= 20' 2>/dev/null)" = true ]; }

# What is installed, by the lock file that it was installed by.
installed() { cmp -s package-lock.json node_modules/.rustmq-lock; }

# Half an installation is none, also where a failure does not end the script (in a condition).
deps() { # [COMMAND...] by which npm is run
	installed && return
	"$@" npm ci --ignore-scripts --no-audit --no-fund --silent && cp package-lock.json node_modules/.rustmq-lock
}

# What dist/ was built of.
sources() { find src build.mjs package-lock.json tsconfig.json -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1; }

build() {
	local now
	now=$(sources)
	[ -f dist/index.html ] && [ "$(cat dist/.built 2>/dev/null)" = "$now" ] && return
	node build.mjs && echo "$now" >dist/.built
}

# By itself npm tries three times, for more than a minute without a network, and for a quarter of an
# hour where nobody answers.
hasty() { deps env npm_config_fetch_retries=0 npm_config_fetch_timeout=10000 timeout 60; }

case "${1:-build}" in
build)
	has_node || { echo "console: Node 20 or newer builds it, and is not on PATH: install it (https://nodejs.org, or apt-get install nodejs npm)" >&2; exit 1; }
	deps
	build
	;;
maybe)
	if ! has_node; then
		echo "console: no Node 20 on PATH, so that the binary has a page that says how to get the console (make console)"
	elif ! installed && ! (hasty) 2>/dev/null; then
		echo "console: what it is built of could not be installed (npm ci in console/), so that the binary has a page that says how to get it (make console)"
	elif ! (build); then
		echo "console: it does not build; make console says why"
	fi
	;;
deps)
	deps
	;;
check)
	deps
	node_modules/.bin/tsc --noEmit -p .
	again=$(mktemp -d)
	trap 'rm -rf "$again"' EXIT
	build
	node build.mjs "$again" >/dev/null
	diff -r -x .built -x .keep dist "$again" || { echo "console: two builds are not the same bytes" >&2; exit 1; }
	echo "console: types hold, and two builds are the same"
	;;
*)
	echo "usage: scripts/console.sh [build|maybe|deps|check]" >&2
	exit 2
	;;
esac
