#!/usr/bin/env bash
# Runs the shell blocks of the README's "First five minutes" as written, in a
# fresh clone. A block under <!-- background --> keeps running until the end; one
# under <!-- expect: TEXT --> must print TEXT.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
cleanup() {
	# The shell of a block, and what it started.
	for pid in $(cat "$work/pids" 2>/dev/null); do kill -- "-$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
git clone -q . "$work/rustmq"
cd "$work/rustmq"
awk -v out="$work" '
	/^## / { on = ($0 == "## First five minutes") }
	!on { next }
	/^<!-- background -->/ { background = 1 }
	/^<!-- expect: / { expect = $0; sub(/^<!-- expect: /, "", expect); sub(/ -->$/, "", expect) }
	/^```sh$/ { n++; file = sprintf("%s/block-%02d.sh", out, n); next }
	/^```$/ && file {
		if (background) printf "" > (file ".background")
		if (expect != "") print expect > (file ".expect")
		background = 0; expect = ""; close(file); file = ""; next
	}
	file { print > file }
' README.md
passed=0
for block in "$work"/block-*.sh; do
	# Later blocks see what earlier ones exported.
	cat "$work/exports" "$block" 2>/dev/null >"$work/now.sh" || cp "$block" "$work/now.sh"
	grep -h '^export ' "$block" >>"$work/exports" || true
	if [ -f "$block.background" ]; then
		# What it prints says that it is ready; what it logs does not.
		setsid bash -e "$work/now.sh" >"$block.out" 2>"$block.log" &
		echo $! >>"$work/pids"
		for _ in $(seq 300); do grep -qs . "$block.out" && break; sleep 0.1; done
	elif ! timeout 300 bash -e "$work/now.sh" >"$block.out" 2>&1; then
		echo "this block of the README failed:"; cat "$block" "$block.out"; tail -n 5 "$work"/*.out "$work"/*.log; exit 1
	fi
	if [ -f "$block.expect" ] && ! grep -qF -- "$(cat "$block.expect")" "$block.out"; then
		echo "this block of the README did not print '$(cat "$block.expect")':"; cat "$block" "$block.out"; exit 1
	fi
	passed=$((passed + 1))
done
[ "$passed" -gt 0 ] || { echo "the README has no block to run"; exit 1; }
echo "docs: $passed passed, 0 failed"
