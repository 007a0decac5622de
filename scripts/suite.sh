#!/usr/bin/env bash
# Runs one suite and prints its seconds. Usage: scripts/suite.sh NAME
#   compat   the tests of franz-go, clients in other languages, Kafka's tools and Kafka
#            Streams against bin/rustmq; its answers against those of Apache Kafka
#   kgo      the tests of franz-go alone, over and over for SOAK minutes
#   chaos    SIGKILL, power cuts and outages of the bucket of the real binary (root)
#   power    three of it whose power fails at once, over and over (root)
#   stalls   three of it whose leaders are paused or cut off, over and over (root)
#   full     one of it with 10 GiB that are not uploaded, killed and started; takes 12 GiB of disk (root)
#   buckets  servers of S3, GCS and Azure, and bin/rustmq on each
#   mutants  every guard has a test that fails without it; with SOAK, some are missed by a seed too
#   fuzz     every fuzz target for a while
#   bits     every bit of a small store of each kind, flipped by itself: none is served
#   sdk      the Rust SDK: format, clippy, docs, its tests by debug and release; and what the
#            SDKs, kcat and the Java client write, read by each of them
#   docs     generated files are fresh; docs/ as a site, and every link; the commands of README,
#            CONTRIBUTING and docs/ as written, from an empty directory to a cluster that has failed
#            and is well again; what Prometheus says of deploy/monitoring
#   api      the admin API called by its own document, with what that allows and what it does not
#   console  the web console in Debian's Chromium, against a secured cluster of three nodes: every
#            page, what is done there, axe, outages; ONLY=text runs the tests of that name. Before
#            it, its types, and that two builds are the same
#   batteries  the tests of the transforms in Rust and of their kit; what is built of the sources
#            is what lies in etl/batteries/built
#   packages  a release, twice; the Debian package and the image's root, installed and run; the
#            files of Docker and compose, linted; the Helm chart, rendered and run (root)
#   hour     hours of chaos in simulated time, SOAK minutes for each of SEEDS; and of what
#            a controller does with objects
#   seeds    clusters of whole nodes in simulated time, ten seeds of the commit, or new ones
#            for SOAK minutes; SEED=number repeats one, TIMES=n so many times
#   cuts     the seeds' clusters, whose power fails at once over and over
#   leaders  the seeds' clusters, of which who leads is paused or cut off over and over
# What is random elsewhere has the seed of the commit too, or SEED (scripts/seed.sh).
# A suite that lacks a tool or root says so and passes, but fails in CI.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 start=$SECONDS
TEST_SEED=$(scripts/seed.sh)
export TEST_SEED
echo "seed of this run: $TEST_SEED"
# Names the command that a suite failed at, once; go test says what failed by itself.
set -E
trap 'case $BASH_COMMAND in *"go test"* | exit* | return* | false | "$name" | "("*) ;; *) echo "suite $name: line $LINENO failed: $BASH_COMMAND" ;; esac; trap - ERR' ERR
lacking() {
	echo "suite $name: skipped: $1"
	[ -z "${CI:-}" ] || exit 1
	exit 0
}
kgo() {
	SOAK=${SOAK:-} go test -count=1 -vet=off -tags grpcnotrace,suites -timeout 200m -v -run FranzGo ./test/compat/kgo
}
compat() {
	SOAK='' kgo
	for tool in kcat javac java node; do
		command -v $tool >/dev/null || lacking "$tool is not installed (scripts/deps.sh)"
	done
	[ -x build/python/bin/python ] && [ -d build/java/lib ] && [ -d build/js/node_modules/kafkajs ] && [ -d build/streams/lib ] &&
		ls build/kafka/lib/kafka-tools-*.jar >/dev/null 2>&1 || lacking "clients are not installed (scripts/deps.sh)"
	dir=$(mktemp -d)
	bin/rustmq serve --ports free --data-dir "$dir/data" >"$dir/line" 2>"$dir/log" &
	server=$!
	trap 'kill $server 2>/dev/null || :; wait $server 2>/dev/null || :; rm -rf "$dir"' EXIT
	for _ in $(seq 600); do [ -s "$dir/line" ] && break; sleep 0.1; done
	broker=$(sed -n 's/.*"kafka":"\([^"]*\)".*/\1/p' "$dir/line")
	[ -n "$broker" ] || { cat "$dir/log"; exit 1; }
	KCAT_TOPIC_FILE=$dir/topic test/compat/kcat/kcat.sh "$broker"
	build/python/bin/python test/compat/python/librdkafka.py "$broker"
	build/python/bin/python test/compat/python/kafka_python.py "$broker"
	node test/compat/js/kafkajs.mjs "$broker" build/js
	mkdir -p build/java/classes
	javac -cp 'build/java/lib/*' -d build/java/classes test/compat/java/Compat.java
	http=$(sed -n 's/.*"http":"\([^"]*\)".*/\1/p' "$dir/line")
	java -cp 'build/java/classes:build/java/lib/*' Compat "$broker" "$http"
	test/compat/secure/secure.sh bin/rustmq build
	# Short-lived JVMs: the second compiler and parallel collector are not worth their
	# start. A JVM that is killed leaves the libraries that it has unpacked.
	jvm="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Djava.io.tmpdir=$dir"
	mkdir -p "$dir/tools" "$dir/streams" "$dir/words"
	javac -nowarn -cp 'build/kafka/lib/*' -d "$dir/tools" test/compat/tools/Tools.java
	java $jvm -Dlog4j2.configurationFile=test/compat/tools/log4j2.xml -cp "$dir/tools:build/kafka/lib/*" Tools "$broker"
	javac -cp 'build/streams/lib/*' -d "$dir/streams" test/compat/streams/Streams.java
	java $jvm -Dorg.slf4j.simpleLogger.defaultLogLevel=off -cp "$dir/streams:build/streams/lib/*" Streams bin/rustmq "$dir/words"
	id=$(bin/rustmq admin --url "http://$http" topics describe "$(cat "$dir/topic")" -o json | sed -n 's/^ *"id": "\(.*\)",/\1/p')
	kill $server
	wait $server
	stored=$(bin/rustmq debug wal "$dir/data/wal" --topic "$id" -o json |
		sed -n 's/.*"codec":"\([a-z0-9]*\)".*/\1/p' | sort -u | tr '\n' ' ')
	[ "$stored" = "gzip lz4 none snappy zstd " ] || { echo "kcat's codecs on disk: $stored"; exit 1; }
	echo "codecs: 5 passed, 0 failed"
	RUSTMQ_BIN=$PWD/bin/rustmq go test -count=1 -vet=off -tags grpcnotrace,suites -timeout 10m -v ./test/compat/apache >"$dir/apache" 2>&1 ||
		{ cat "$dir/apache"; exit 1; }
	sed -n 's/^ *apache_test.go:[0-9]*: \(apache: .*\)/\1/p' "$dir/apache"
}
chaos() {
	RUSTMQ_BIN=$PWD/bin/rustmq SOAK=${SOAK:-} go test -count=1 -vet=off -tags grpcnotrace,chaos -parallel 8 -timeout 100m -v -skip 'OverAndOver' ./test/chaos
}
power() {
	RUSTMQ_BIN=$PWD/bin/rustmq SOAK=${SOAK:-} go test -count=1 -vet=off -tags grpcnotrace,chaos -timeout 200m -v -run '^TestPowerFailsOverAndOver$' ./test/chaos
}
stalls() {
	RUSTMQ_BIN=$PWD/bin/rustmq SOAK=${SOAK:-} go test -count=1 -vet=off -tags grpcnotrace,chaos -timeout 200m -v -run '^TestLeadersStallOverAndOver$' ./test/chaos
}
full() {
	RUSTMQ_BIN=$PWD/bin/rustmq go test -count=1 -vet=off -tags grpcnotrace,chaos -timeout 30m -v -run '^TestANodeFullOfWhatIsNotUploadedIsKilledOverAndOver$' ./test/chaos
}
buckets() {
	for tool in node openssl curl; do
		command -v $tool >/dev/null || lacking "$tool is not installed (scripts/deps.sh)"
	done
	[ -x build/buckets/versitygw ] && [ -x build/buckets/fake-gcs-server ] && [ -e build/buckets/node_modules/.bin/azurite-blob ] ||
		lacking "servers of object stores are not installed (scripts/deps.sh)"
	test/buckets/servers.sh bin/rustmq "$PWD/build/buckets"
}
mutants() {
	scripts/mutants.sh
	[ -z "${SOAK:-}" ] || MUTANTS=all SOAK='' go test -count=1 -vet=off -tags grpcnotrace,seeds -timeout 200m -v -run '^TestMutantsAreCaught$' ./test/seeds
}
bits() {
	# All there are: without SOAK, of the log only those in use.
	go test -count=1 -vet=off -v -timeout 100m -run '^TestEveryFlippedBitIsDetectedOrHarmless$' ./storage/wal ${SOAK:+-exhaustive}
	go test -count=1 -vet=off -v -timeout 100m \
		-run '^Test(EveryFlippedBitIsSeen|EveryFlippedBitOfAManifestIsSeen|EveryFlippedBitUnderTheCRCIsSeen|LogEntryDamageIsFound|DamagedSnapshotIsRefused|SnapshotBytes|DamagedNonceIsNoOtherBucket)$' \
		./storage/object ./storage/batch ./consensus ./consensus/metadata ./roles/controller
}
fuzz() {
	# Each target gets its share of a minute, or of SOAK minutes: building them and going
	# through what the corpora have takes another. Coverage is looked at in rustmq's own
	# packages, so that the others need not be compiled for it.
	targets=$(git grep -lE '^func Fuzz' -- '*_test.go' | while read -r file; do
		grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed "s|func |$(dirname "$file") |"
	done | sort)
	count=$(wc -l <<<"$targets")
	share=$(( ${SOAK:-1} * 60 / count ))
	[ "$share" -ge 1 ] || share=1
	built=$(mktemp -d)
	trap 'rm -rf "$built"' EXIT
	passed=0 cpu=0 inputs=0
	TIMEFORMAT='%U %S'
	# One binary for all targets of a package, linked two at a time once all is compiled.
	dirs=$(awk '{ print "./" $1 }' <<<"$targets" | uniq)
	covered=-gcflags=rustmq.dev/...=-d=libfuzzer
	# shellcheck disable=SC2086
	go build "$covered" $dirs
	export built covered
	xargs -P 2 -I {} bash -c 'mkdir -p "$built/{}" && go test -c -vet=off "$covered" -o "$built/{}/test" {}' <<<"$dirs"
	while read -r dir target; do
		for try in 1 2 3; do
			{ time { (cd "$dir" && "$built/$dir/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${share}s" -test.fuzzcachedir "$built/corpus/$dir") >"$built/out" 2>&1; }; } 2>"$built/took" && break
			# Go before 1.27 sometimes takes the end of its time for a failure
			# (go.dev/issue/75804): an input that fails says otherwise, and is written.
			if [ $try = 3 ] || grep -q 'Failing input' "$built/out" || ! grep -A1 "^--- FAIL: $target " "$built/out" | grep -qx ' *context deadline exceeded'; then
				cat "$built/out"
				echo "fuzz $dir $target failed"
				exit 1
			fi
		done
		passed=$((passed + 1))
		cpu=$(awk -v cpu="$cpu" '{ print cpu + $1 + $2 }' "$built/took")
		inputs=$((inputs + $(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$built/out" | tail -n 1 | grep . || echo 0)))
	done <<<"$targets"
	echo "tally: {\"fuzz_targets\":$passed,\"fuzz_cpu_seconds\":${cpu%.*},\"fuzz_inputs\":$inputs}"
	echo "fuzz: $passed passed, 0 failed"
}
hour() {
	SOAK=${SOAK:-60} SEEDS=${SEEDS:-20} go test -count=1 -vet=off -timeout 100m -v -run Hour ./test/hour ./roles/controller
}
seeds() {
	# In a soak, those that have a suite of their own are left to it.
	go test -count=1 -vet=off -tags grpcnotrace,seeds -timeout 200m -v ${SOAK:+-skip "$drills"} ./test/seeds
}
drills='^Test(PowerCutsOfAllLoseNothing|LeadersThatAreGoneAckNothing)$'
cuts() {
	GOGC=400 go test -count=1 -vet=off -tags grpcnotrace,seeds -timeout 200m -v -run '^TestPowerCutsOfAllLoseNothing$' ./test/seeds
}
leaders() {
	GOGC=400 go test -count=1 -vet=off -tags grpcnotrace,seeds -timeout 200m -v -run '^TestLeadersThatAreGoneAckNothing$' ./test/seeds
}
docs() {
	make -s generate
	git diff --exit-code --stat -- '*.pb.go' docs configs || { echo "generated files are stale: run make generate"; exit 1; }
	test/docs/shipped-configs.sh
	python3 test/docs/pages.py
	test/docs/blocks.sh
	command -v promtool >/dev/null || [ -x build/monitoring/promtool ] || lacking "promtool is not installed (scripts/deps.sh)"
	test/docs/monitoring.sh
	[ -x build/mkdocs/bin/mkdocs ] && [ -f build/iframe-worker/shim/index.js ] || lacking "what builds the site is not installed (scripts/deps.sh)"
	scripts/site.sh
	python3 test/docs/pages.py build/site
}
api() {
	[ -x build/api/bin/schemathesis ] || lacking "Schemathesis is not installed (scripts/deps.sh)"
	test/api/api.sh bin/rustmq build/api/bin/schemathesis
}
packages() {
	[ -x build/packages/hadolint/bin/hadolint ] && [ -e build/packages/golang.made ] && [ -x build/buckets/versitygw ] && [ -x build/monitoring/prometheus ] ||
		lacking "roots of Debian and what runs in them are not installed (scripts/deps.sh)"
	make -s build/tools/nfpm build/tools/sbom build/tools/composefile
	build/packages/hadolint/bin/hadolint deploy/docker/Dockerfile
	build/tools/composefile deploy/docker/compose.yaml >build/packages/compose.json
	(cd deploy/docker && ../../build/monitoring/promtool check config --syntax-only prometheus.yml >/dev/null)
	# Side by side: either has processes that wait for each other.
	chart=$(mktemp)
	test/packages/helm.sh bin/rustmq >"$chart" 2>&1 &
	local rendered=$! failed=0
	go test -count=1 -vet=off -tags grpcnotrace,packages -timeout 10m -v ./test/packages || failed=1
	wait "$rendered" || failed=1
	cat "$chart"
	rm -f "$chart"
	[ $failed = 0 ] || { echo "suite packages failed"; exit 1; }
}
console() {
	command -v node >/dev/null || lacking "Node is not installed"
	command -v chromium >/dev/null && [ -d build/console/node_modules/playwright-core ] || lacking "Chromium or what drives it is not installed (scripts/deps.sh)"
	scripts/console.sh check
	node --test-reporter=spec test/console/main.mjs bin/rustmq build/console
}
batteries() {
	[ -d /usr/lib/rustlib/wasm32-unknown-unknown ] || lacking "Debian's Rust for wasm32 is not installed (scripts/deps.sh)"
	scripts/batteries.sh check
}
sdk() {
	scripts/rust.sh >/dev/null || lacking "Rust is not installed, or too old"
	for tool in kcat javac java python3; do
		command -v $tool >/dev/null || lacking "$tool is not installed (scripts/deps.sh)"
	done
	[ -d build/java/lib ] || lacking "the Java client is not installed (scripts/deps.sh)"
	CARGO_NET_OFFLINE=true scripts/test-rust.sh
	mkdir -p build/sdk
	go build -o build/sdk/go ./test/compat/sdk/go
	test/compat/sdk/interchange.sh bin/rustmq build/sdk/go build/rust/debug/examples/interchange build
}
case $name in
compat | kgo | chaos | buckets | mutants | fuzz | bits | sdk | docs | api | console | batteries | packages | hour | seeds | power | stalls | full | cuts | leaders) "$name" ;;
*) echo "suite.sh: no suite $name" >&2; exit 2 ;;
esac
echo "suite $name: $((SECONDS - start)) s"
