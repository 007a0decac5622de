#!/usr/bin/env bash
# Starts three servers of object stores on loopback, runs the conformance tests of
# storage/bucket/cloud against them, and rustmq itself on each: produce far more
# than its log holds, kill -9, restart, read everything back, compare the bucket
# with the catalogue. Usage: servers.sh RUSTMQ TOOLS, where TOOLS holds versitygw,
# fake-gcs-server and azurite (scripts/deps.sh).
set -euo pipefail
rustmq=$1 tools=$2
dir=$(mktemp -d)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || :; done
	wait 2>/dev/null || :
	rm -rf "$dir"
}
trap cleanup EXIT
background() { "$@" >>"$dir/servers.log" 2>&1 & pids+=($!); }
reached() { # URL
	for _ in $(seq 600); do curl -s -o "$dir/answer" "$1" && return 0; sleep 0.1; done
	cat "$dir/servers.log"
	echo "nothing answers at $1"
	exit 1
}
mkdir -p "$dir/s3/bench" "$dir/azure"
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testsecret
ROOT_ACCESS_KEY=test ROOT_SECRET_KEY=testsecret background "$tools/versitygw" --port 127.0.0.1:17070 --quiet posix "$dir/s3"
background "$tools/fake-gcs-server" -scheme http -host 127.0.0.1 -port 14443 -backend memory -public-host 127.0.0.1:14443 -external-url http://127.0.0.1:14443
background node "$tools/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort 10000 --location "$dir/azure" --silent --skipApiVersionCheck
reached http://127.0.0.1:17070/
reached http://127.0.0.1:14443/storage/v1/b
reached http://127.0.0.1:10000/
curl -sf -o "$dir/answer" -X POST -H 'Content-Type: application/json' -d '{"name":"bench"}' 'http://127.0.0.1:14443/storage/v1/b?project=p'
# The account and the key are the ones that the emulator's makers publish.
export AZURE_STORAGE_ACCOUNT=devstoreaccount1
export AZURE_STORAGE_KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
now=$(date -u '+%a, %d %b %Y %H:%M:%S GMT')
sign=$(printf 'PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-08-06\n/devstoreaccount1/devstoreaccount1/bench\nrestype:container' "$now" |
	openssl dgst -sha256 -mac HMAC -macopt "hexkey:$(base64 -d <<<"$AZURE_STORAGE_KEY" | od -An -tx1 | tr -d ' \n')" -binary | base64)
curl -sf -o "$dir/answer" -X PUT -H "x-ms-date: $now" -H 'x-ms-version: 2021-08-06' -H 'Content-Length: 0' \
	-H "Authorization: SharedKey devstoreaccount1:$sign" 'http://127.0.0.1:10000/devstoreaccount1/bench?restype=container'

s3='s3://bench?region=us-east-1&use_path_style=true&endpoint=http://127.0.0.1:17070'
azure='azblob://bench?protocol=http&domain=127.0.0.1:10000&localemu=true'
gcs='gs://bench?anonymous=true'
# Apart: gocloud remembers the account of the first bucket it opened.
env -u AZURE_STORAGE_ACCOUNT -u AZURE_STORAGE_KEY go test -count=1 -vet=off -tags grpcnotrace,suites ./storage/bucket/cloud
RUSTMQ_BUCKET_URLS="$s3;$azure" go test -count=1 -vet=off -tags grpcnotrace,suites -run TestServers ./storage/bucket/cloud
export STORAGE_EMULATOR_HOST=127.0.0.1:14443

passed=0
for url in "$s3" "$gcs" "$azure"; do
	data=$dir/data-$passed
	start() {
		: >"$dir/line"
		"$rustmq" serve --ports free --data-dir "$data" --set "object_storage.url=$url" --set object_storage.prefix=e2e \
			--set wal.capacity=96MiB --set wal.segment_size=8MiB --set wal.memory=32MiB \
			--set wal.upload_interval=500ms --set wal.upload_bytes=8MiB >"$dir/line" 2>>"$dir/log" &
		server=$!
		pids+=("$server")
		for _ in $(seq 600); do [ -s "$dir/line" ] && break; sleep 0.1; done
		broker=$(sed -n 's/.*"kafka":"\([^"]*\)".*/\1/p' "$dir/line") http=http://$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$dir/line")
		[ -n "$broker" ] || { cat "$dir/log"; exit 1; }
	}
	start
	"$rustmq" admin --url "$http" storage probe
	"$rustmq" admin --url "$http" topics create v --partitions 3
	"$rustmq" verify -b "$broker" --phase produce --state "$dir/acked-$passed" --topic v --records 700000
	kill -KILL "$server"
	wait "$server" 2>/dev/null || :
	start
	"$rustmq" verify -b "$broker" --phase check --state "$dir/acked-$passed" --topic v
	"$rustmq" admin --url "$http" storage check --verify
	"$rustmq" admin --url "$http" storage cost
	cold=$("$rustmq" admin --url "$http" topics describe v -o json | sed -n 's/.*"local_start": *\([0-9]*\).*/\1/p' | sort -n | head -n 1)
	[ "${cold:-0}" -gt 0 ] || { echo "nothing was read from the bucket: the test shows nothing"; exit 1; }
	kill "$server"
	wait "$server"
	passed=$((passed + 1))
	echo "${url%%\?*}: everything acked was read back, records before $cold from the bucket"
done
echo "buckets: $passed passed, 0 failed"
