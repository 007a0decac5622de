# rustmq: build, test, measure. `make help` lists the targets.
# Go, gcc and make are enough for build, demo and test; what needs root, other
# languages or much time lives in `make suites`.

GO        ?= go
PKG       ?= ./...
RUN       ?= .
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -X rustmq.dev/rustmq/roles.version=$(VERSION)
# gRPC's request traces pull in html/template, for which the linker keeps every method.
TAGS      := grpcnotrace
# One compilation serves build, lint and suites, in whatever directory a clone lies: what
# differs in a flag, or in a file that a tag selects, is compiled once more.
export GOFLAGS := -trimpath -tags=$(TAGS)
MODULES   := . sdk/go sdk/go/rustmqtest sdk/go/examples sdk/go-etl bench
TOOLS     := build/tools
SUITES    := compat chaos seeds buckets mutants fuzz sdk docs api console batteries packages

.DEFAULT_GOAL := help
.PHONY: help build build-debug console demo test test-rust lint vuln generate man site batteries bench suites soak release release-check image clean $(addprefix suite-,$(SUITES)) prerequisites

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prerequisites:
	@scripts/prerequisites.sh

build: prerequisites ## Build bin/rustmq (release: trimmed paths, no symbols)
	@scripts/console.sh maybe
	$(GO) build -ldflags '-s -w $(LDFLAGS)' -o bin/rustmq .

build-debug: prerequisites ## Build bin/rustmq with symbols, no inlining, race detector
	$(GO) build -race -gcflags 'all=-N -l' -ldflags '$(LDFLAGS)' -o bin/rustmq .

console: ## Build the web console into console/dist, for make build (Node 20 or newer)
	@scripts/console.sh

demo: build ## Produce over QUIC, consume over TCP, kill -9, prove that nothing acked was lost
	@scripts/demo.sh

test: ## Test every module with the race detector; PKG=./storage/wal RUN=TestName narrow it
	@scripts/prerequisites.sh test
	@scripts/test.sh '$(PKG)' '$(RUN)'

test-rust: build ## Test the Rust SDK against bin/rustmq (Rust 1.85 or later)
	@scripts/test-rust.sh

lint: prerequisites $(TOOLS)/staticcheck $(TOOLS)/gosec $(TOOLS)/houselint ## gofmt, vet, staticcheck, gosec, and the rules of this house
	@scripts/lint.sh

vuln: prerequisites $(TOOLS)/govulncheck ## Look for known vulnerabilities of what is linked (needs the network; not in CI)
	@for module in $(MODULES); do echo "$$module:"; (cd $$module && $(CURDIR)/$(TOOLS)/govulncheck ./...) || exit 1; done

generate: $(TOOLS)/protogen ## Remake generated files (protobuf, reference docs); CI compares
	@scripts/generate.sh

man: ## Write a page of the manual for each command into build/man
	$(GO) run ./roles/reference man build/man

site: ## Build docs/ as a static site into build/site (python3, npm; the first time also pip's packages)
	@scripts/site.sh

batteries: ## Build the transforms that come with rustmq (Rust 1.63 of Debian 12; scripts/deps.sh)
	@scripts/batteries.sh

bench: prerequisites ## Measure against peers and floors; writes bench/results and docs/performance.md
	@scripts/bench.sh

suites: build ## Run all suites: other languages, root, time
	@scripts/suites.sh compat,seeds,fuzz chaos sdk+batteries buckets+docs+api+mutants console+packages

$(addprefix suite-,$(SUITES)): suite-%: build
	@scripts/suite.sh $*

soak: build ## The suites that gain from time, for longer (SOAK=minutes, default 60); adds to docs/reliability.md
	@SOAK=$${SOAK:-60} scripts/soak.sh hour bits chaos seeds power stalls full cuts leaders fuzz kgo mutants

release: $(TOOLS)/nfpm $(TOOLS)/sbom ## Make what is released into build/release: VERSION=1.2.3 make release
	@scripts/release.sh '$(VERSION)'

release-check: $(TOOLS)/nfpm $(TOOLS)/sbom ## Build a release twice from nothing, in two folders, and compare (minutes)
	@scripts/release-check.sh

image: ## Build the image rustmq:VERSION (needs Docker): VERSION=1.2.3 make image
	docker build -f deploy/docker/Dockerfile -t 'rustmq:$(VERSION)' --build-arg 'VERSION=$(VERSION)' --build-arg "SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct)" .

$(TOOLS)/staticcheck: tools/go.mod tools/go.sum
	cd tools && GOWORK=off $(GO) build -o ../$@ honnef.co/go/tools/cmd/staticcheck

$(TOOLS)/gosec: tools/go.mod tools/go.sum
	cd tools && GOWORK=off $(GO) build -o ../$@ github.com/securego/gosec/v2/cmd/gosec

$(TOOLS)/govulncheck: tools/go.mod tools/go.sum
	cd tools && GOWORK=off $(GO) build -o ../$@ golang.org/x/vuln/cmd/govulncheck

$(TOOLS)/nfpm: tools/go.mod tools/go.sum
	cd tools && GOWORK=off $(GO) build -o ../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm

$(TOOLS)/sbom: tools/go.mod $(wildcard tools/sbom/*.go)
	cd tools && GOWORK=off $(GO) build -o ../$@ ./sbom

$(TOOLS)/composefile: tools/go.mod $(wildcard tools/composefile/*.go)
	cd tools && GOWORK=off $(GO) build -o ../$@ ./composefile

$(TOOLS)/houselint: tools/go.mod $(wildcard tools/houselint/*.go)
	cd tools && GOWORK=off $(GO) build -o ../$@ ./houselint

$(TOOLS)/protogen: tools/go.mod $(wildcard tools/protogen/*.go)
	cd tools && GOWORK=off $(GO) build -o ../$@ ./protogen

clean: ## Remove what was built
	rm -rf bin build
