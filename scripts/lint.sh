#!/usr/bin/env bash
# gofmt, go vet, staticcheck and houselint over every module.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD start=$SECONDS failed=0
unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs -r gofmt -l)
if [ -n "$unformatted" ]; then
	echo "not gofmt-ed:"; echo "$unformatted"; failed=1
fi
for module in . sdk/go bench; do
	(cd "$module" && go vet ./... && "$root/build/tools/staticcheck" ./...) || failed=1
done
# No file is for the lack of one of these tags, but the guard that is on.
go vet -tags grpcnotrace,chaos,mutants,seeds,suites ./... || failed=1
build/tools/houselint . || failed=1
(cd tools && GOWORK=off go vet ./...) || failed=1
echo "make lint: $((SECONDS - start)) s"
exit $failed
