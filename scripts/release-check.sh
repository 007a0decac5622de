#!/usr/bin/env bash
# Makes a release twice of the commit that is checked out, each time in a clone of its own, with
# a cache of compiled packages that is empty at first, and compares. What the suite packages
# does with one cache that both share, this proves of everything that Go compiles; modules come
# from the one cache that they were downloaded to. Takes as long as two first builds.
set -euo pipefail
cd "$(dirname "$0")/.."
start=$SECONDS version=0.0.0 root=$PWD modules=$(go env GOMODCACHE)
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
for n in 1 2/of/another/depth; do
	git clone -q "$root" "$work/$n/rustmq"
	mkdir -p "$work/$n/rustmq/build/tools" "$work/$n/cache"
	cp build/tools/nfpm build/tools/sbom "$work/$n/rustmq/build/tools"
	touch "$work/$n/rustmq/build/tools/"*
	GOCACHE=$work/$n/cache HOME=$work/$n GOMODCACHE=$modules "$work/$n/rustmq/scripts/release.sh" $version "$work/$n/out" >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }
	echo "release-check: build $n: $((SECONDS - start)) s"
done
diff "$work/1/out/SHA256SUMS" "$work/2/of/another/depth/out/SHA256SUMS"
cat "$work/1/out/SHA256SUMS"
echo "release-check: 1 passed, 0 failed"
