# Knobs: VERSION (stamped into the binary), GO (the go command).
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TAGS     = nolibopusfile
GOFLAGS_ = -tags $(TAGS)
LDFLAGS  = -X main.version=$(VERSION)
LINT     = $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: build run test race fuzz e2e lint bench demo farms crash-demo clean help deps
.DEFAULT_GOAL := build

build: deps ## bin/rtcedge (with Opus by libopus; CGO_ENABLED=0 make build does without)
	$(GO) build $(GOFLAGS_) -trimpath -ldflags '$(LDFLAGS)' -o bin/rtcedge ./cmd/rtcedge

run: build ## the whole edge on 127.0.0.1 with embedded defaults; Ctrl-C ends it (ARGS="--listen-ip ..." for more)
	@exec bin/rtcedge up $(ARGS)

test: deps ## unit and package tests, over real loopback sockets
	$(GO) test $(GOFLAGS_) ./...

race: deps ## the same tests under the race detector
	$(GO) test $(GOFLAGS_) -race ./...

fuzz: deps ## each fuzz target for FUZZTIME (default 20s)
	sh tools/fuzz.sh $(or $(FUZZTIME),20s)

e2e: build ## real peers: baresip, SIPp, Asterisk 22; installs them (about 2 minutes the first time); RUN=REGEXP for some tests
	sh e2e/peers.sh install
	RTCEDGE_BIN=$(CURDIR)/bin/rtcedge $(GO) test -tags '$(TAGS) e2e' -count=1 -timeout 40m -v $(if $(RUN),-run '$(RUN)') ./e2e
	$(GO) test -tags '$(TAGS) e2e' -count=1 -run Peer -v ./recovery/hep

lint: ## go vet and golangci-lint, pinned in tools/go.mod
	$(GO) mod tidy -diff
	$(GO) vet -tags '$(TAGS) e2e' ./...
	$(LINT) run

bench: deps ## benchmarks beside the code
	$(GO) test $(GOFLAGS_) -run '^$$' -bench . -benchmem ./...

demo: build ## calls through a running `make run`, or through one of its own: prints a table, ends with 1 on a FAIL
	$(GO) run $(GOFLAGS_) ./bench/demo $(ARGS)

farms: build ## three real Asterisks, edge, media and bridge on 127.0.0.1 (FARMS=5: two call and two conference nodes); Ctrl-C ends them
	sh e2e/peers.sh install
	@$(GO) build $(GOFLAGS_) -o bin/farms ./bench/farms
	@exec bin/farms -binary bin/rtcedge -nodes $(or $(FARMS),3) $(ARGS)

crash-demo: build ## real Asterisks die under 20 calls and a conference of five, and every call lives (ARGS="-run F1" for others)
	sh e2e/peers.sh install
	@exec $(GO) run $(GOFLAGS_) ./bench/crash -binary bin/rtcedge $(ARGS)

clean: ## remove what was built
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 12

deps: # what the build needs from the system
	@sh tools/deps.sh
