#!/usr/bin/env bash
# Runs the blocks of README.md, CONTRIBUTING.md and docs/*.md that are marked sh or
# python, as written and in their order: those of the first two in a fresh clone, the
# others in an empty directory, with the clone's rustmq and Kafka's tools on PATH. What
# docs/quickstart.md has started serves them all, so that it comes before them. Usage:
# test/docs/blocks.sh [PAGE...]: the pages that are named, by bin/rustmq of this checkout.
#
# A block under <!-- background --> keeps running until the end; one under
# <!-- expect: TEXT --> must print TEXT, of each line of it. Where <!-- the runbook, with A=B … -->
# stands, the runbook of what cluster health has said last is followed (test/docs/runbook.sh).
# A page with <!-- a directory of its own --> begins in one. What cannot run stands in
# test/docs/not-run, with the reason, and is shown. What needs a tool that is not here
# is shown too, and fails in CI.
set -euo pipefail
cd "$(dirname "$0")/../.."
# Blocks run as in a terminal: of the make that has started this they are to know nothing.
unset MAKEFLAGS MFLAGS MAKELEVEL
root=$PWD work=$(mktemp -d)
cleanup() {
	# The shell of a block, and what it started.
	for pid in $(cat "$work/pids" 2>/dev/null); do kill -- "-$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	for mounted in $(awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts); do umount -l "$mounted" || true; done
	rm -rf "$work"
}
trap cleanup EXIT
# fail SAYS BLOCK ends the run. Whoever sees only the last lines sees what was printed and
# which block it was: what servers logged comes before.
fail() {
	tail -n 5 "$work"/blocks/*.log 2>/dev/null || true
	echo "--- the block:"
	cat "$2"
	echo "--- printed:"
	cat "$2.out"
	echo "docs: $1"
	exit 1
}
git clone -q . "$work/rustmq"
mkdir "$work/blocks" "$work/bin" "$work/elsewhere"
ln -s "$work/rustmq/bin/rustmq" "$work/bin/rustmq"
export PATH=$work/bin:$PATH

# stands NAME COMMAND: on the blocks' PATH, NAME is that command.
stands() {
	printf '#!/bin/sh\nexec %s "$@"\n' "$2" >"$work/bin/$1"
	chmod +x "$work/bin/$1"
}
[ ! -x build/python/bin/python ] || stands python "'$root/build/python/bin/python'"
# Kafka's scripts start a JVM each with one of these classes.
if command -v java >/dev/null && ls build/kafka/lib/kafka_2.13-*.jar >/dev/null 2>&1; then
	java="java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '$root/build/kafka/lib/*'"
	stands kafka-client-metrics.sh "$java org.apache.kafka.tools.ClientMetricsCommand"
	stands kafka-configs.sh "$java kafka.admin.ConfigCommand"
fi

if [ $# -eq 0 ]; then
	pages=(README.md docs/quickstart.md CONTRIBUTING.md)
	for page in docs/*.md; do [ "$page" = docs/quickstart.md ] || pages+=("$page"); done
else
	pages=(docs/quickstart.md)
	for page; do [ "$page" = docs/quickstart.md ] || pages+=("$page"); done
	ln -sf "$root/bin/rustmq" "$work/bin/rustmq"
fi
# Each block becomes NNN.sh or NNN.py, beside its .page, .expect, .background, .needs, .runbook
# and .own. What looks like a command in a block that is not marked is an error: it would
# not be run.
awk -v out="$work/blocks" '
	FNR == 1 { background = runbook = own = inside = 0; needs = expect = "" }
	!inside && /^<!-- a directory of its own -->/ { own = 1 }
	!inside && /^<!-- the runbook -->/ { runbook = 1 }
	!inside && /^<!-- needs: / { needs = $3 }
	!inside && /^<!-- background -->/ { background = 1 }
	!inside && /^<!-- expect: / { sub(/^<!-- expect: /, ""); sub(/ -->$/, ""); expect = expect $0 "\n" }
	!inside && /^```/ {
		inside = 1; file = ""; unmarked = ($0 == "```")
		if ($0 == "```sh" || $0 == "```python") {
			file = sprintf("%s/%03d.%s", out, ++n, $0 == "```sh" ? "sh" : "py")
			printf "" > file
			print FILENAME ":" FNR > (file ".page")
			if (background) printf "" > (file ".background")
			if (expect != "") printf "%s", expect > (file ".expect")
			if (needs != "") print needs > (file ".needs")
			if (runbook) printf "" > (file ".runbook")
			if (own) printf "" > (file ".own")
		} else if (background || runbook || needs != "" || expect != "") { print FILENAME ":" FNR ": only blocks marked sh or python are run"; bad = 1 }
		background = runbook = 0; needs = expect = ""; next
	}
	/^```$/ { inside = 0; if (file) close(file); next }
	inside && unmarked && /^ *([$] |(bin\/)?rustmq |make |kcat |kafka-[a-z-]+\.sh |curl |git |go (run|build|test|install|get) |echo |export |scripts\/)/ {
		print FILENAME ":" FNR ": a command in a block that is not marked sh: " $0; bad = 1
	}
	inside && file { print > file }
	END { exit bad }
' "${pages[@]}" || exit 1

# Leaves out the commands that cannot run: a line, and those that continue it.
while IFS='|' read -r command why; do
	case $command in '' | '#'*) continue ;; esac
	page=${command%%: *} command=${command#*: }
	command=${command%"${command##*[! ]}"}
	case " ${pages[*]} " in *" $page "*) ;; *) [ -f "$page" ] && continue ;; esac
	found=0
	for block in "$work"/blocks/*.sh; do
		[ "$page" = "$(cut -d: -f1 "$block.page")" ] || continue
		awk -v command="$command" '
			!on && index($0, command) == 1 { on = 1; out = 1 }
			!on { print; next }
			!/\\$/ { on = 0 }
			END { exit !out }
		' "$block" >"$work/kept" || continue
		found=1
		mv "$work/kept" "$block"
		echo "not run: $(cat "$block.page"): $command:$why"
	done
	[ $found -eq 1 ] || { echo "test/docs/not-run: $page has no block with '$command'"; exit 1; }
done <test/docs/not-run

passed=0 lacking=0
touch "$work/exports"
for block in "$work"/blocks/*.sh "$work"/blocks/*.py; do
	echo "$block"
done | sort >"$work/order"
while read -r block; do
	page=$(cat "$block.page")
	grep -q '[^[:space:]]' "$block" || continue
	run=(bash -e "$work/now")
	tools=$(awk '/^(kcat|kafka-[a-z-]*\.sh) / || / \| kcat / { sub(/^.* \| /, ""); print $1 }' "$block" | sort -u)
	case $block in *.py) run=(python "$block") tools=python ;; esac
	[ "$tools" != python ] || python -c 'import confluent_kafka' 2>/dev/null || tools=confluent-kafka
	for tool in $tools; do
		command -v "$tool" >/dev/null && continue
		echo "not run: $page: $tool is not installed (scripts/deps.sh)"
		lacking=$((lacking + 1))
		continue 2
	done
	if [ -f "$block.needs" ] && [ "$(id -u)" -ne 0 ]; then
		echo "not run: $page: it needs $(cat "$block.needs")"
		lacking=$((lacking + 1))
		continue
	fi
	dir=$work/elsewhere
	case $page in README.md:* | CONTRIBUTING.md:*) dir=$work/rustmq ;; esac
	[ ! -f "$block.own" ] || dir=$work/own/$(basename "${page%%:*}" .md)
	mkdir -p "$dir"
	cd "$dir"
	[ ! -f "$block.runbook" ] || python3 "$root/test/docs/runbook.py" "$work/health" "$block" "$root/docs/runbooks.md" ||
		fail "the block at $page is not what the runbook says" "$block"
	# Later blocks see what earlier ones exported.
	cat "$work/exports" "$block" >"$work/now"
	grep -h '^export ' "$block" >>"$work/exports" || true
	if [ -f "$block.background" ]; then
		# What it prints says that it is ready; what it logs does not.
		setsid "${run[@]}" >"$block.out" 2>"$block.log" </dev/null &
		echo $! >>"$work/pids"
		for _ in $(seq 600); do grep -qs . "$block.out" && break; sleep 0.1; done
	elif ! timeout 900 "${run[@]}" >"$block.out" 2>&1 </dev/null; then
		fail "the block at $page failed, with what is printed above" "$block"
	fi
	! grep -q 'cluster health' "$block" || cp "$block.out" "$work/health"
	while read -r expect; do
		grep -qF -- "$expect" "$block.out" || fail "the block at $page did not print '$expect', but what is above" "$block"
	done < <(cat "$block.expect" 2>/dev/null)
	passed=$((passed + 1))
done <"$work/order"
[ "$passed" -gt 0 ] || { echo "the pages have no block to run"; exit 1; }
[ "$lacking" -eq 0 ] || [ -z "${CI:-}" ] || exit 1
echo "docs: $passed blocks passed, 0 failed, $lacking lack a tool"
