# Keeps to GNU make 3.81, bash 3.2 and BSD tools, so that it runs on macOS.
SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# The offline tool keeps its symbols: anybody may look what is not in it.
OFFLINE_LDFLAGS := -X main.version=$(VERSION)
PLATFORMS ?= linux/amd64 linux/arm64 darwin/arm64
DIST ?= dist
FUZZTIME ?= 60s
LINTER := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help abuse house mutants build run test setup-test race faults fuzz bench bench-keys bench-revocation lint generate verify docs release image clean bench-batch bench-devices devices

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

build: ## build ./bin/privyseal and ./bin/privyseal-ceremony
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/privyseal ./cmd/privyseal
	$(GO) build -trimpath -ldflags '$(OFFLINE_LDFLAGS)' -o bin/privyseal-ceremony ./cmd/privyseal-ceremony

run: build ## build and start `privyseal dev` in ./privyseal-dev (ARGS='--flag …')
	./bin/privyseal dev $(ARGS)

test: setup-test ## run every test: units, both engines, scripts, real clients
	@test/run.sh -timeout 15m ./...

setup-test: ## install what the tests need, or say what is missing
	@test/setup.sh

race: ## run the packages' tests under the race detector
	$(GO) test -race -shuffle=on -timeout 20m ./internal/... ./api/... ./migrations/...

faults: ## break things on purpose, 20 rounds on each engine (long)
	$(GO) test -count=1 -timeout 2h -v ./test/faults -rounds 20
	$(GO) test -count=1 -timeout 2h -v -run 'TestOCSP_O10' ./internal/ocsp -revocations 1000

fuzz: ## fuzz every parser of strangers' bytes (FUZZTIME=60s each)
	@test/fuzz.sh $(FUZZTIME)

bench: ## measure a full ACME flow on both engines (long)
	$(GO) run ./test/load $(ARGS)

bench-keys: ## signatures/s in a token, beside the raw PKCS#11 library (long)
	$(GO) test -run '^$$' -bench Keys -benchtime 1x ./test/bench/keys $(ARGS)

bench-revocation: ## measure OCSP beside nginx, lists, and revocations (long)
	$(GO) run ./test/bench/ocsp
	$(GO) run ./test/bench/crl
	$(GO) run ./test/bench/revoke

bench-devices: ## EST and SCEP on both engines beside their key operations (long)
	$(GO) run ./test/load -devices -clients 16 -duration 10s $(ARGS)

devices: ## 1,000 devices over EST and SCEP on both engines, the server killed in the middle (long)
	$(GO) test -count=1 -timeout 1h -v -run TestDevices ./test/e2e -devices 1000

abuse: ## attack a server of 256 open files beside honest clients (long)
	$(GO) run ./test/abuse $(ARGS)

bench-batch: ## a batch of 100,000, its client killed twice, the server once (long)
	$(GO) test -count=1 -timeout 4h -v -run TestBatch ./test/e2e -batch 100000

lint: ## gofmt, go vet, golangci-lint with staticcheck
	@test -z "$$(gofmt -s -l $$(git ls-files '*.go'))" || { gofmt -s -l $$(git ls-files '*.go'); echo 'gofmt -s -w these files'; exit 1; }
	$(GO) vet ./...
	$(GO) run $(LINTER) run --timeout 10m ./...

generate: ## write generated files anew
	$(GO) generate ./...

docs: ## write the configuration's JSON Schema from its types and comments
	$(GO) test ./internal/config -run TestSchemaIsCurrent -update

mutants: ## find refusals that no test notices (ARGS='./internal/acme'; an hour and more)
	$(GO) run ./test/mutants $(ARGS)

house: ## count the tree: a row per package (ARGS='-long -names')
	$(GO) run ./test/house $(ARGS)

verify: generate docs ## fail when generated files are not the committed ones
	git diff --exit-code

release: ## build static binaries for PLATFORMS into DIST (./dist)
	@mkdir -p $(DIST)
	@for p in $(PLATFORMS); do \
	  on=$${p%/*}-$${p#*/}; echo "$(DIST)/privyseal-$$on $(DIST)/privyseal-ceremony-$$on"; \
	  export CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/}; \
	  $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(DIST)/privyseal-$$on ./cmd/privyseal || exit 1; \
	  $(GO) build -trimpath -ldflags '$(OFFLINE_LDFLAGS)' -o $(DIST)/privyseal-ceremony-$$on ./cmd/privyseal-ceremony || exit 1; \
	done

image: ## build the container image privyseal:VERSION (needs Docker)
	docker build --build-arg VERSION=$(VERSION) -t privyseal:$(VERSION) .

clean: ## remove ./bin and ./dist
	rm -rf bin $(DIST)
