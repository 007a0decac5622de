#!/usr/bin/env bash
# Makes what is released, for the kind of machine that it runs on: a tar.gz, a Debian package,
# what went into them (a bill of materials), and the checksums of all. The same sources, Go,
# gcc and binutils give the same bytes on one machine, in any folder, of any user, at any time.
#   scripts/release.sh VERSION [DIR]             all of it, into DIR (build/release)
#   scripts/release.sh binary VERSION FILE       the executable alone
#   scripts/release.sh licences FILE             what those who wrote its parts ask to be told
#   scripts/release.sh pack VERSION BINARY DIR   all but the executable
# VERSION is 1.2.3, or 1.2.3-rc.1. SOURCE_DATE_EPOCH is the time of every file, in seconds;
# unset, that of the commit. MAINTAINER is who answers for the Debian package.
set -euo pipefail
umask 022
root=$(cd "$(dirname "$0")/.." && pwd)
export LC_ALL=C TZ=UTC GOFLAGS="-trimpath -tags=grpcnotrace -buildvcs=false"
usage() { sed -n '5,8s/^#   //p' "$0" >&2; exit 2; }
versioned() {
	[[ $1 =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+(\.[0-9]+)?)?$ ]] ||
		{ echo "release.sh: VERSION $1: want 1.2.3, or 1.2.3-rc.1" >&2; exit 2; }
}
epoch() {
	if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
		SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null) ||
			{ echo "release.sh: this is no clone: give SOURCE_DATE_EPOCH, the time of the sources" >&2; exit 2; }
	fi
	export SOURCE_DATE_EPOCH
}
# The linker's ids would be of the paths that the C library was found under.
binary() { # VERSION FILE
	local file
	file=$(realpath -m "$2")
	(cd "$root" && go build -ldflags "-s -w -buildid= -B none -X rustmq.dev/rustmq/roles.version=$1" -o "$file" .)
}
licences() { # FILE
	mkdir -p "$(dirname "$1")"
	{
		echo "rustmq contains the following, under the terms of each."
		printf '\n==== Go\n\n'
		cat "$(go env GOROOT)/LICENSE"
		(cd "$root" && go list -deps -f '{{with .Module}}{{if .Version}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' . | sort -u) |
			while read -r path version dir; do
				[ -d "$dir" ] || continue
				printf '\n==== %s %s\n' "$path" "$version"
				find "$dir" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' \) | sort |
					while read -r file; do printf '\n'; cat "$file"; done
			done
		[ ! -f "$root/console/dist/licences.txt" ] || { printf '\n==== The console\n\n'; cat "$root/console/dist/licences.txt"; }
	} >"$1"
}
pack() ( # VERSION BINARY DIR
	version=$1 binary=$(realpath "$2")
	epoch
	mkdir -p "$3"
	out=$(cd "$3" && pwd)
	[ -x "$root/build/tools/nfpm" ] && [ -x "$root/build/tools/sbom" ] || make -s -C "$root" build/tools/nfpm build/tools/sbom
	cd "$root"
	arch=$(go env GOARCH)
	name=rustmq-$version-linux-$arch
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	tree=$work/$name
	install -D "$binary" "$tree/rustmq"
	install -D -m 644 -t "$tree" README.md CHANGELOG.md
	install -D -m 644 -t "$tree/configs" configs/*.toml
	install -D -m 644 -t "$tree/systemd" deploy/systemd/*
	install -D -m 644 -t "$tree/monitoring" deploy/monitoring/prometheus.yml deploy/monitoring/alerts.yml
	install -D -m 644 -t "$tree/monitoring/grafana" deploy/monitoring/grafana/*
	go run ./roles/reference man "$tree/man"
	mkdir "$tree/completions"
	for shell in bash zsh fish; do "$binary" completion $shell >"$tree/completions/rustmq.$shell"; done
	licences "$tree/THIRD-PARTY-LICENCES"
	build/tools/sbom "$binary" "$version" console/package-lock.json >"$out/$name.cdx.json"
	find "$work" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	tar -C "$work" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -n -6 >"$out/$name.tar.gz"
	debian
	(cd "$out" && sha256sum -- *.tar.gz *.deb *.cdx.json >SHA256SUMS)
)
# debian makes the package of what lies in $tree; deploy/deb/nfpm.yaml says where it goes.
debian() {
	local docs=$work/deb/doc
	mkdir -p "$work/deb" "$docs" "$work/deb/man"
	cp "$tree/man"/* "$work/deb/man"
	install -m 644 deploy/deb/copyright "$docs/copyright"
	cp "$tree/CHANGELOG.md" "$tree/THIRD-PARTY-LICENCES" "$docs"
	export VERSION=$version ARCH=$arch MAINTAINER="${MAINTAINER:-rustmq maintainers <maintainers@rustmq.invalid>}"
	local debian=${version/-/\~}
	cat >"$docs/changelog" <<-EOT
	rustmq ($debian) stable; urgency=medium

	  * Release $version. What has changed stands in CHANGELOG.md.gz.

	 -- $MAINTAINER  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
	EOT
	find "$work/deb" -type f ! -name copyright -exec gzip -n -9 {} +
	ln -s "$root/deploy/deb" "$work/from"
	ln -s "$tree" "$work/tree"
	find "$work" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	(cd "$work" && "$root/build/tools/nfpm" package --config from/nfpm.yaml --packager deb --target "$out/" >"$work/said" 2>&1) ||
		{ cat "$work/said" >&2; exit 1; }
}
case ${1:-} in
binary) [ $# = 3 ] || usage; versioned "$2"; binary "$2" "$3" ;;
licences) [ $# = 2 ] || usage; licences "$2" ;;
pack) [ $# = 4 ] || usage; versioned "$2"; pack "$2" "$3" "$4" ;;
[0-9]*)
	[ $# -le 2 ] || usage
	versioned "$1"
	out=${2:-$root/build/release}
	mkdir -p "$out/bin"
	! grep -q '^console:' "$root/Makefile" || make -s -C "$root" console
	binary "$1" "$out/bin/rustmq"
	pack "$1" "$out/bin/rustmq" "$out"
	echo "release $1: $out"
	(cd "$out" && cat SHA256SUMS)
	;;
*) usage ;;
esac
