#!/usr/bin/env bash
# gofmt, go vet, staticcheck and houselint over every module.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD start=$SECONDS failed=()
unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs -r gofmt -l)
if [ -n "$unformatted" ]; then
	echo "not gofmt-ed:"; echo "$unformatted"; failed=("gofmt")
fi
# check notes what failed; the last line says it.
check() { "$@" || failed+=("$*"); }
within() { (cd "$1" && shift && "$@"); }
# No file is for the lack of one of these tags, but the guard that is on.
check go vet -tags grpcnotrace,chaos,mutants,seeds,suites ./...
check go vet ./storage/guard
for module in sdk/go bench; do check within "$module" go vet ./...; done
for module in . sdk/go bench; do check within "$module" "$root/build/tools/staticcheck" ./...; done
check build/tools/houselint .
GOWORK=off check within tools go vet ./...
echo "make lint: $((SECONDS - start)) s"
[ ${#failed[@]} = 0 ] || { printf 'make lint: failed: %s\n' "${failed[@]}"; exit 1; }
