#!/usr/bin/env bash
# Tests every module with the race detector. Usage: scripts/test.sh PKG RUN
# Random tests have the seed of the commit, or SEED (scripts/seed.sh): a package whose tests
# have none stays cached when it changes.
# Fuzz corpora are replayed by the ordinary run of their targets. What make lint vets is
# not vetted here.
set -euo pipefail
cd "$(dirname "$0")/.."
pkg=${1:-./...} run=${2:-.}
start=$SECONDS
TEST_SEED=$(scripts/seed.sh)
export TEST_SEED
# What failed comes last, however much was said after it.
said=$(mktemp)
ended() {
	local status=$?
	if [ $status != 0 ]; then
		scripts/failures.sh "$said"
		echo "make test failed after $((SECONDS - start)) s; its choices again: SEED=${TEST_SEED:-the number that a test logs} make test PKG='$pkg' RUN='$run'"
	fi
	rm "$said"
}
trap ended EXIT
# Packages that wait for disks and processes leave a processor to another.
side_by_side=$(($(nproc) + 1))
# race_test runs go test with the race detector. Under synctest that itself may crash where
# there are two processors (go.dev/issue/78156): a goroutine that parks is run by the second
# before the first has noted its end in the detector. Registers are printed then, or the
# detector's own assertion, and no test has failed, or hung, which prints registers too where
# it is ended from outside: what did not pass runs once more, on one processor, where it
# cannot happen.
race_test() {
	local status=0
	go test -p "$side_by_side" -race -vet=off -run "$run" -timeout 8m "$@" 2>&1 | tee "$said" || status=1
	if [ $status = 1 ] && grep -qE '^rip  |ThreadSanitizer: CHECK failed' "$said" && ! grep -qE '^ *--- FAIL|test timed out|^SIGQUIT' "$said"; then
		echo "the race detector crashed: once more"
		status=0
		GOMAXPROCS=1 go test -p 2 -race -vet=off -run "$run" -timeout 8m "$@" 2>&1 | tee "$said" || status=1
	fi
	return $status
}
if [ "$pkg" != ./... ]; then
	race_test "$pkg"
else
	# The clouds' drivers take minutes to build with the race detector; make
	# suite-buckets tests them.
	# What takes longest begins first, or the rest would have ended long before it.
	first="rustmq.dev/rustmq/roles rustmq.dev/rustmq/roles/broker rustmq.dev/rustmq/roles/controller rustmq.dev/rustmq/consensus/metadata rustmq.dev/rustmq/storage/wal"
	others=$(go list ./... | grep -v -x -e rustmq.dev/rustmq -e rustmq.dev/rustmq/roles/cloud -e rustmq.dev/rustmq/storage/bucket/cloud | grep -v -x -F "$(tr ' ' '\n' <<<"$first")")
	packages="$first $others"
	# shellcheck disable=SC2086
	race_test $packages
	for module in sdk/go sdk/go/rustmqtest sdk/go/examples sdk/go-etl bench; do
		(cd "$module" && race_test ./...)
	done
	# What allocates nothing does so only without the race detector, and what replays
	# long traces takes too long with it.
	counted=$(grep -rlE --include='*_test.go' '^func Test[A-Za-z0-9_]*(Alloc|HitRatios)' ./storage ./security ./transport/kafka ./etl ./roles/broker | xargs -n 1 dirname | sort -u)
	# shellcheck disable=SC2086
	go test -vet=off -run 'Alloc|HitRatios' $counted 2>&1 | tee "$said"
	for module in . sdk/go sdk/go/rustmqtest sdk/go/examples sdk/go-etl bench; do
		(cd "$module" && GOWORK=off go build -o /dev/null ./... 2>&1 | tee "$said")
	done
fi
echo "make test: $((SECONDS - start)) s"
