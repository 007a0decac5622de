#!/usr/bin/env bash
# Turns off every guard of the source, one at a time, and runs the test that
# test/mutants/killers/*.txt names for it: the test must fail. A guard without a
# killer, a killer without a guard, and a test that passes all fail the suite.
# test/mutants/owed.txt names the guards whose killer is still to be written; it
# only shrinks. Four run at a time: most of them wait for something that does not come, some
# for the end of their time, which is several times what any takes that passes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/mutants
# binary is where the tests of a package are.
binary() { echo "$out/$(tr -c 'a-z0-9\n' - <<<"$1").test"; }
# kill_mutant runs one: it says why the mutant lives, or nothing.
kill_mutant() {
	local name=$1 package=$2 test=$3 log=$out/$1.log
	if (cd "$package" && RUSTMQ_MUTANT=$name timeout 30 "$(binary "$package")" -test.run "$test" -test.timeout 25s) >"$log" 2>&1; then
		echo "survived: $name (by $test in $package)"
	elif grep -q 'no tests to run' "$log"; then
		echo "no test $test in $package for $name"
	fi
}
export out
export -f binary kill_mutant
rm -rf "$out"
mkdir -p "$out"
killers=$(cat test/mutants/killers/*.txt | sed 's/#.*//' | awk 'NF == 3')
guards=$(git grep -hoE 'guard\.Check\("[^"]+"' -- '*.go' ':!*_test.go' ':!storage/guard' | sed 's/.*"\(.*\)"/\1/' | sort -u)
# build_tests makes the binary of one package.
build_tests() {
	go test -c -vet=off -tags "$tags" -o "$(binary "$1")" "$1"
	[ -f "$(binary "$1")" ] || { echo "no tests in $1"; exit 1; }
}
export tags=grpcnotrace,mutants,suites
export -f build_tests
packages=$(awk '{ print $2 }' <<<"$killers" | sort -u)
# shellcheck disable=SC2086
go build -tags "$tags" $packages
xargs -P 2 -I {} bash -c 'build_tests {}' <<<"$packages" # linked two at a time
lives=$(
	while read -r name package test; do
		grep -qx -- "$name" <<<"$guards" || echo "killer of $name: no such guard"
	done <<<"$killers"
	xargs -P 4 -L 1 bash -c 'kill_mutant "$@"' _ <<<"$killers"
	for name in $guards; do
		grep -q "^$name " <<<"$killers" || grep -qx -- "$name" test/mutants/owed.txt || echo "no killer: $name"
	done
)
failed=0
[ -z "$lives" ] || failed=$(wc -l <<<"$lives")
[ -z "$lives" ] || echo "$lives"
sed 's/^/owed: no killer yet for /' < <(grep -v '^#' test/mutants/owed.txt || :)
# Of some guards two tests are each to fail.
echo "tally: {\"guards\":$(($(awk '{ print $1 }' <<<"$killers" | sort -u | wc -l) - failed))}"
echo "mutants: $(($(wc -l <<<"$killers") - failed)) passed, $failed failed"
[ "$failed" = 0 ]
