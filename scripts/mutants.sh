#!/usr/bin/env bash
# Turns off every guard of the source, one at a time, and runs the test that
# test/mutants/killers/*.txt names for it: the test must fail. A guard without a
# killer, a killer without a guard, and a test that passes all fail the suite.
# test/mutants/owed.txt names the guards whose killer is still to be written; it
# only shrinks.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/mutants
rm -rf "$out"
mkdir -p "$out"
killers=$(cat test/mutants/killers/*.txt | sed 's/#.*//' | awk 'NF == 3')
guards=$(git grep -hoE 'guard\.Check\("[^"]+"' -- '*.go' ':!*_test.go' ':!storage/guard' | sed 's/.*"\(.*\)"/\1/' | sort -u)
failed=0 killed=0
while read -r name package test; do
	grep -qx -- "$name" <<<"$guards" || { echo "killer of $name: no such guard"; failed=$((failed + 1)); continue; }
	binary=$out/$(tr -c 'a-z0-9\n' - <<<"$package").test
	if [ ! -f "$binary" ]; then
		go test -c -tags mutants,suites -o "$binary" "$package"
		[ -f "$binary" ] || { echo "no tests in $package"; exit 1; }
	fi
	if (cd "$package" && RUSTMQ_MUTANT=$name timeout 60 "$OLDPWD/$binary" -test.run "$test" -test.timeout 50s) >"$out/$name.log" 2>&1; then
		echo "survived: $name (by $test in $package)"
		failed=$((failed + 1))
	elif grep -q 'no tests to run' "$out/$name.log"; then
		echo "no test $test in $package for $name"
		failed=$((failed + 1))
	else
		killed=$((killed + 1))
	fi
done <<<"$killers"
for name in $guards; do
	grep -q "^$name " <<<"$killers" && continue
	if grep -qx -- "$name" test/mutants/owed.txt; then
		echo "owed: no killer yet for $name"
	else
		echo "no killer: $name"
		failed=$((failed + 1))
	fi
done
echo "mutants: $killed passed, $failed failed"
[ "$failed" = 0 ]
