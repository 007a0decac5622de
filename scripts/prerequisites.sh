#!/bin/sh
# Names what is missing to build rustmq, or with "test" to test it, one line each; silent
# when all is there.
missing=0
say() { echo "missing: $1 — $2" >&2; missing=1; }
[ -r /proc/self/stat ] || say "/proc" "go finds itself by it, and tests look at processes: mount -t proc proc /proc"
if ! command -v go >/dev/null 2>&1; then
	say "go" "install Go 1.26 or newer (https://go.dev/dl) and put it on PATH"
elif ! version=$(go env GOVERSION 2>/dev/null); then
	say "go 1.26" "the one on PATH does not run: $(go env GOVERSION 2>&1 | head -n 1)"
else
	minor=$(echo "$version" | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
	[ "${minor:-0}" -ge 26 ] || say "go 1.26" "this is $version; install a newer Go"
fi
command -v gcc >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || say "gcc" "the race detector links with it: apt-get install gcc libc6-dev"
if [ "${1:-}" = test ]; then
	command -v bash >/dev/null 2>&1 || say "bash" "scripts/test.sh is one of its: apt-get install bash"
	[ -c /dev/ptmx ] || say "/dev/ptmx" "tests have terminals of their own: mount -t devpts devpts /dev/pts, and ln -s pts/ptmx /dev/ptmx"
	getent hosts localhost >/dev/null 2>&1 || say "localhost" "tests call servers by it: echo '127.0.0.1 localhost' >>/etc/hosts"
fi
exit $missing
