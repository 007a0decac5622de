#!/usr/bin/env bash
# Builds docs/ as a static site into build/site, strictly: a page that is in no menu, or a link
# that leads nowhere, fails. Usage: scripts/site.sh [prepare]; prepare only fetches what it is
# built with (pip and npm), which a first build does too.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in python3 npm; do
	command -v $tool >/dev/null || { echo "install $tool: the site is built with it" >&2; exit 1; }
done
[ -x build/mkdocs/bin/python ] || python3 -m venv build/mkdocs
if ! cmp -s scripts/site/requirements.txt build/mkdocs/requirements.txt; then
	build/mkdocs/bin/pip install -q --disable-pip-version-check -r scripts/site/requirements.txt
	cp scripts/site/requirements.txt build/mkdocs/
fi
# Stands in for the browser's workers where the site is read from file://, for the search.
[ -f build/iframe-worker/shim/index.js ] || {
	mkdir -p build/iframe-worker
	npm pack --silent --pack-destination build iframe-worker@1.0.4 >/dev/null
	tar xzf build/iframe-worker-1.0.4.tgz -C build/iframe-worker --strip-components=1
	rm build/iframe-worker-1.0.4.tgz
}
[ "${1:-}" != prepare ] || exit 0
rm -rf build/site
build/mkdocs/bin/mkdocs build -f scripts/site/mkdocs.yml >build/site.log 2>&1 || { cat build/site.log; exit 1; }
echo "the site is in build/site: open build/site/index.html"
