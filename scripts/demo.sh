#!/usr/bin/env bash
# The demo: real records over QUIC, read back over TCP, some routed and changed by a
# WebAssembly module on their way, then kill -9 in the middle of a larger load and proof that every acked record is there once and in
# its place. The log is far smaller than what is produced, so most of what is read
# back comes from the bucket. Uses only bin/rustmq; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
rustmq=bin/rustmq
dir=$(mktemp -d)
server=0
cleanup() {
	[ "$server" = 0 ] || kill "$server" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n%s\n' "$*"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$dir/line"; }
start() {
	: >"$dir/line"
	"$rustmq" serve --ports free --data-dir "$dir/data" \
		--set wal.capacity=96MiB --set wal.segment_size=8MiB --set wal.memory=32MiB \
		--set wal.upload_interval=500ms --set wal.upload_bytes=8MiB >"$dir/line" 2>>"$dir/log" &
	server=$!
	for _ in $(seq 1200); do
		[ -s "$dir/line" ] && break
		kill -0 "$server" 2>/dev/null || { cat "$dir/log"; exit 1; }
		sleep 0.05
	done
	kafka=$(field kafka) http=http://$(field http) ca=$(field ca)
	echo "rustmq (pid $server) is ready in $(field startup): kafka $kafka, $http"
}
admin() { "$rustmq" admin --url "$http" "$@"; }
number() { sed -n "s/.*\"$1\": *\([0-9-]*\).*/\1/p" | head -n 1; }

say "1. One process, a data directory of its own, free ports"
start

say "2. A topic; the earthquake catalogue goes in over QUIC, keyed by network"
admin topics create quakes --partitions 4
"$rustmq" produce quakes -b "$kafka" --transport quic --cafile "$ca" --key-field net <test/data/earthquakes.ndjson

say "3. And comes out over TCP"
"$rustmq" consume quakes -b "$kafka" --transport tcp -o start -e >"$dir/out.ndjson"
sent=$(wc -l <test/data/earthquakes.ndjson) got=$(wc -l <"$dir/out.ndjson")
sort test/data/earthquakes.ndjson >"$dir/a"
sort "$dir/out.ndjson" >"$dir/b"
cmp -s "$dir/a" "$dir/b" || { echo "FAILED: produced $sent records, consumed $got, and they differ"; exit 1; }
echo "$got of $sent records are back, byte for byte"
admin topics describe quakes

say "4. A module in the way of records: strong earthquakes to a topic of their own, what is no JSON to another"
for topic in feed quakes.strong quakes.dead; do admin topics create "$topic" >/dev/null; done
cat >"$dir/strong.json" <<'JSON'
{"rules": [{"when": "mag >= 5", "action": "route", "topic": "quakes.strong", "set": {"place": "upper(place)"}}]}
JSON
printf '%s\n' 'not JSON at all' '{"mag": 6.1, "place": "cut' '{"mag": 7.0, "place": "twice"} {}' >"$dir/malformed"
cat <(head -n 3 test/data/earthquakes.ndjson) "$dir/malformed" >"$dir/sample"
admin etl deploy strong --battery project --topics feed --config "@$dir/strong.json" --routes quakes.strong \
	--on-failure dead-letter --dead-letter-topic quakes.dead --sample "$dir/sample"
cat test/data/earthquakes.ndjson "$dir/malformed" | "$rustmq" produce feed -b "$kafka"
strong=$("$rustmq" consume quakes.strong -b "$kafka" -o start -e | tee "$dir/strong" | wc -l)
dead=$("$rustmq" consume quakes.dead -b "$kafka" -o start -e -f '%v: %h\n' | tee "$dir/dead" | wc -l)
left=$("$rustmq" consume feed -b "$kafka" -o start -e | wc -l)
lower=$(sed -n 's/.*"place": *"\([^"]*\)".*/\1/p' "$dir/strong" | grep -c '[a-z]' || true)
[ "$strong $dead $left $lower" = "39 3 $((sent - 39)) 0" ] ||
	{ echo "FAILED: $strong strong ones, of which $lower are not in capitals, $dead dead letters, $left others"; cat "$dir/log"; exit 1; }
echo "$strong of $sent earthquakes are of magnitude 5 and more, such as"
head -n 1 "$dir/strong"
echo "and the $dead lines that are no JSON wait with the reason, such as"
head -n 1 "$dir/dead"
admin etl list

say "5. A larger load, and kill -9 in the middle of it"
"$rustmq" verify -b "$kafka" --phase produce --state "$dir/acked" --topic verify --records 2000000 >"$dir/verify.out" 2>&1 &
load=$!
for _ in $(seq 1200); do
	kill -0 "$load" 2>/dev/null || { cat "$dir/verify.out"; exit 1; }
	records=$(admin topics describe verify -o json 2>/dev/null | number records || true)
	[ "${records:-0}" -gt 800000 ] && break
	sleep 0.05
done
kill -KILL "$server"
wait "$server" 2>/dev/null || true
kill -TERM "$load" 2>/dev/null || true
wait "$load" 2>/dev/null || true
echo "killed pid $server with $records records in, and more on the way"

say "6. Restart on the same directory, with empty caches, and check every ack it ever gave"
start
"$rustmq" verify -b "$kafka" --phase check --state "$dir/acked" --topic verify

say "7. Where the bytes are: the log holds the tail, the bucket the rest"
admin topics list
admin topics describe verify
admin storage check --verify
"$rustmq" consume quakes -b "$kafka" --transport tcp -o start -e | sort | cmp -s - "$dir/a" ||
	{ echo "FAILED: the catalogue is not what it was"; exit 1; }
kill -TERM "$server"
wait "$server"
server=0
say "Nothing that was acked is lost. Start your own: $rustmq serve"
