#!/bin/sh
# Names what is missing to build rustmq, one line each; silent when all is there.
missing=0
say() { echo "missing: $1 — $2" >&2; missing=1; }
if ! command -v go >/dev/null 2>&1; then
	say "go" "install Go 1.26 or newer (https://go.dev/dl) and put it on PATH"
else
	minor=$(go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
	[ "${minor:-0}" -ge 26 ] || say "go 1.26" "this is $(go env GOVERSION); install a newer Go"
fi
command -v gcc >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || say "gcc" "the race detector links with it: apt-get install gcc libc6-dev"
exit $missing
