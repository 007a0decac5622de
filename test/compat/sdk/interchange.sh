#!/usr/bin/env bash
# The Go SDK, the Rust SDK, kcat and Kafka's Java client each write a topic, with every codec, with keys,
# headers, null and empty values, and each reads all four: of a topic all print the same.
# Usage: interchange.sh RUSTMQ GO RUST BUILD: the server, the SDKs' programs, and the directory of the
# Java client (scripts/deps.sh).
set -euo pipefail
rustmq=$1 go=$2 rust=$3 build=$4 here=$(dirname "$0")
dir=$(mktemp -d)
"$rustmq" serve --ports free --data-dir "$dir/data" >"$dir/line" 2>"$dir/log" &
server=$!
trap 'kill $server 2>/dev/null || :; wait $server 2>/dev/null || :; rm -rf "$dir"' EXIT
for _ in $(seq 600); do [ -s "$dir/line" ] && break; sleep 0.1; done
broker=$(sed -n 's/.*"kafka":"\([^"]*\)".*/\1/p' "$dir/line")
http=$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$dir/line")
[ -n "$broker" ] || { cat "$dir/log"; exit 1; }
for topic in go rust kcat java; do
	"$rustmq" admin --url "http://$http" topics create $topic --partitions 1 --config retention.ms=-1 >/dev/null # their records are years old
done
"$go" write "$broker" go
"$rust" write "$broker" rust
# kcat knows null, but not empty: -Z takes what is empty for null. Its headers are those of all its records.
for codec in none gzip snappy lz4 zstd; do
	for i in 0 1 2; do echo "$codec-$i|value $i of $codec value $i of $codec"; done |
		kcat -q -P -b "$broker" -t kcat -p 0 -z $codec -K '|' -H "n=$codec" -H empty= -X linger.ms=50 2>/dev/null
	printf '%s-3|\n|value 4 of %s\n' $codec $codec |
		kcat -q -P -b "$broker" -t kcat -p 0 -z $codec -K '|' -Z -X linger.ms=50 2>/dev/null
done
mkdir -p "$dir/classes"
javac -cp "$build/java/lib/*" -d "$dir/classes" "$here/Interchange.java"
java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.io.tmpdir="$dir" -cp "$dir/classes:$build/java/lib/*" \
	Interchange "$broker" "$dir" go rust kcat java
failed=0 passed=0
for topic in go rust kcat java; do
	"$go" read "$broker" $topic >"$dir/go-$topic"
	"$rust" read "$broker" $topic >"$dir/rust-$topic"
	kcat -q -C -J -b "$broker" -t $topic -p 0 -o beginning -e 2>/dev/null | python3 "$here/kcat.py" >"$dir/kcat-$topic"
	want=40
	[ $topic != kcat ] || want=25
	[ "$(wc -l <"$dir/java-$topic")" = $want ] || { echo "interchange: java reads $(wc -l <"$dir/java-$topic") of $want records of $topic"; failed=1; }
	for reader in go rust kcat; do
		if diff "$dir/java-$topic" "$dir/$reader-$topic" >"$dir/diff"; then
			passed=$((passed + 1))
		else
			echo "interchange: of what $topic has written, $reader reads (>) other records than java (<):"
			head -n 6 "$dir/diff"
			failed=1
		fi
	done
done
# What the SDKs write is what Java writes, but for the offsets, which are the same here too.
for writer in go rust; do
	if cmp -s "$dir/java-java" "$dir/java-$writer"; then passed=$((passed + 1)); else
		echo "interchange: $writer has written other records than java"
		diff "$dir/java-java" "$dir/java-$writer" | head -n 6
		failed=1
	fi
done
[ $failed = 0 ]
# Each codec has reached the disk.
for topic in go rust kcat java; do
	id=$("$rustmq" admin --url "http://$http" topics describe $topic -o json | sed -n 's/^ *"id": "\(.*\)",/\1/p')
	echo "$topic $id" >>"$dir/ids"
done
kill $server
wait $server
while read -r topic id; do
	stored=$("$rustmq" debug wal "$dir/data/wal" --topic "$id" -o json | sed -n 's/.*"codec":"\([a-z0-9]*\)".*/\1/p' | sort -u | tr '\n' ' ')
	[ "$stored" = "gzip lz4 none snappy zstd " ] || { echo "interchange: codecs of $topic on disk: $stored"; exit 1; }
	passed=$((passed + 1))
done <"$dir/ids"
echo "interchange: $passed passed, 0 failed"
