#!/usr/bin/env bash
# Tests every module with the race detector. Usage: scripts/test.sh PKG RUN
# Fuzz corpora are replayed by the ordinary run of their targets. What make lint vets is
# not vetted here.
set -euo pipefail
cd "$(dirname "$0")/.."
pkg=${1:-./...} run=${2:-.}
start=$SECONDS
if [ "$pkg" != ./... ]; then
	go test -race -run "$run" "$pkg"
else
	# The clouds' drivers take minutes to build with the race detector; make
	# suite-buckets tests them.
	packages=$(go list ./... | grep -v -x -e rustmq.dev/rustmq -e rustmq.dev/rustmq/roles/cloud -e rustmq.dev/rustmq/storage/bucket/cloud)
	# shellcheck disable=SC2086
	go test -race -vet=off -run "$run" -timeout 8m $packages
	for module in sdk/go bench; do
		(cd "$module" && go test -race -vet=off -run "$run" -timeout 8m ./...)
	done
	# What allocates nothing does so only without the race detector, and what replays
	# long traces takes too long with it.
	counted=$(grep -rlE --include='*_test.go' '^func Test[A-Za-z0-9_]*(Alloc|HitRatios)' ./storage ./transport/kafka ./roles/broker | xargs -n 1 dirname | sort -u)
	# shellcheck disable=SC2086
	go test -vet=off -run 'Alloc|HitRatios' $counted
	for module in . sdk/go bench; do
		(cd "$module" && GOWORK=off go build -o /dev/null ./...)
	done
fi
echo "make test: $((SECONDS - start)) s"
