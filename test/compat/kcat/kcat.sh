#!/usr/bin/env bash
# Drives rustmq with kcat, and checks that each codec reaches the disk: an old
# librdkafka sends uncompressed, and says nothing, to a broker whose Produce does
# not start at version 0 (KAFKA-18659).
# Usage: kcat.sh HOST:PORT
set -euo pipefail
broker=$1 passed=0
topic=kcat-$RANDOM$RANDOM
fail() { echo "kcat: $*" >&2; exit 1; }
for codec in none gzip snappy lz4 zstd; do
	for i in $(seq 100); do echo "$codec $i of a hundred lines that compress well well well"; done |
		kcat -q -b "$broker" -P -t "$topic" -p 0 -z "$codec" -X linger.ms=50 2>/dev/null || fail "produce with $codec"
	passed=$((passed + 1))
done
lines=$(kcat -q -b "$broker" -C -t "$topic" -o beginning -e | wc -l)
[ "$lines" = 500 ] || fail "consumed $lines of 500 lines"
passed=$((passed + 1))
lines=$(timeout 30 kcat -q -b "$broker" -G "g-$topic" -X auto.offset.reset=earliest -c 500 "$topic" 2>/dev/null | wc -l)
[ "$lines" = 500 ] || fail "group consumed $lines of 500 lines"
passed=$((passed + 1))
kcat -q -b "$broker" -L -t "$topic" | grep -q "topic \"$topic\" with 1 partitions" || fail "metadata of $topic"
passed=$((passed + 1))
kcat -q -b "$broker" -Q -t "$topic:0:-1" | grep -q 'offset 500' || fail "end offset"
passed=$((passed + 1))
echo "$topic" >"${KCAT_TOPIC_FILE:-/dev/null}"
echo "kcat: $passed passed, 0 failed"
