#!/usr/bin/env bash
# Prints docs/formats.md: the byte layouts as the doc.go of each room draws them.
set -euo pipefail
cd "$(dirname "$0")/.."
cat <<'H'
# Formats

Every byte rustmq writes to disk or into the bucket, as the package that writes
it draws it. This page is made by `make generate` from the doc.go files; integers
are little-endian unless a table says otherwise, and every structure has a magic
or a kind, a version, and a CRC32C.
H
for room in storage/wal storage/batch storage/log storage/object consensus/metadata consensus security/audit; do
	printf '\n## %s\n\n```\n' "$room"
	go doc "./$room" | sed -e '/^package /d' -e '/^\(func\|type\|var\|const\) /d' -e '/^    \(Err\|func \)/d' | cat -s | sed '/./,$!d'
	printf '```\n'
done
