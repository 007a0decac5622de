#!/usr/bin/env bash
# gofmt, go vet, staticcheck and houselint over every module, gosec over some rooms.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD start=$SECONDS failed=()
unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs -r gofmt -l)
if [ -n "$unformatted" ]; then
	echo "not gofmt-ed:"; echo "$unformatted"; failed=("gofmt")
fi
# A binary that a build has left, committed with the rest, would stay in every clone.
large=$(git ls-files -z | xargs -0 -r stat -c '%s %n' | awk '$1 > 1048576')
if [ -n "$large" ]; then
	echo "files of more than 1 MiB do not belong here:"; echo "$large"; failed+=("sizes")
fi
# check notes what failed; the last line says it.
check() { "$@" || failed+=("$*"); }
within() { (cd "$1" && shift && "$@"); }
# No file is for the lack of one of these tags, but the guard that is on.
check go vet -tags grpcnotrace,chaos,mutants,packages,seeds,suites ./...
check go vet ./storage/guard
for module in sdk/go sdk/go/rustmqtest sdk/go/examples sdk/go-etl bench; do check within "$module" go vet ./...; done
for module in . sdk/go sdk/go/rustmqtest sdk/go/examples sdk/go-etl bench; do check within "$module" "$root/build/tools/staticcheck" ./...; done
check build/tools/houselint .
# gosec, over the rooms that meet strangers or keys: elsewhere it finds nothing that those
# above do not, for minutes. What is allowed in one place has #nosec there, with the reason;
# what is allowed everywhere:
#   G304  files have names that the operator has given, which is what they are for
#   G602  slices out of range are found by way of SSA, which this version cannot make of
#         this Go, and later versions link SDKs of half a dozen clouds; fuzzing looks for them
check build/tools/gosec -quiet -log /dev/null -exclude-generated -exclude=G304,G602 \
	./security/... ./transport/kafka/... ./transport/quic/... ./roles/admin/... ./roles/broker/login
GOWORK=off check within tools go vet ./...
GOWORK=off check within deploy/helm/test go vet ./...
echo "make lint: $((SECONDS - start)) s"
[ ${#failed[@]} = 0 ] || { printf 'make lint: failed: %s\n' "${failed[@]}"; exit 1; }
