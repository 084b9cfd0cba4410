# Every target runs from a fresh clone with Go, git and make; test and check also need a C compiler,
# for the race detector.

GO      ?= go
ARGS    ?=
MINUTES ?= 10
SECONDS ?= 3
SEED    ?= $(shell date +%s)
RELEASE ?= $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: build run test check fmt bench bench-compare bench-targets bench-peers bench-plots scale interop typescript fuzz soak hostile

build: ## build bin/hub
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.release=$(RELEASE)' -o bin/hub ./cmd/hub

run: build ## run the hub, ready for spokes at :8080 and events at 127.0.0.1:8081; flags in ARGS
	@exec ./bin/hub serve $(ARGS)

test: ## all tests: once with the race detector and every invariant checked, once as users run it
	HUB_VERIFY=1 $(GO) test -race ./...
	$(GO) test ./...

check: ## what a commit has to pass
	scripts/check

bench: ## the short benchmarks
	$(GO) test -run '^$$' -bench . -short ./bench

bench-targets: ## the hub beside what it is to reach: pairs of turns, and a table
	scripts/bench-targets

bench-compare: ## ten counts against another commit: make bench-compare BASE=<ref>
	scripts/bench-compare $(BASE)

bench-peers: ## a table of the hub beside other WebSocket servers and the kernel's floor
	scripts/bench-peers

scale: ## 60,000 spokes on hubs that act as one, beside one hub alone
	scripts/scale

bench-plots: ## how cost grows with spokes, payload and rate, drawn to docs/plots
	scripts/bench-plots

interop: ## spokes written by others: Node's ws, Python's websockets, headless Chromium, coder/websocket
	scripts/interop

typescript: ## the TypeScript client: its types, its size, and real hubs from Node and headless Chromium
	scripts/typescript

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz $(FUZZTIME)

soak: ## the randomized fault run: make soak MINUTES=60 SEED=7
	HUB_VERIFY=1 $(GO) test -count=1 -timeout 0 -v -run '^TestSoak$$' ./cmd/hub -args -soak.minutes=$(MINUTES) -soak.seed=$(SEED)

hostile: ## attacks on the daemon, with their bounds and what was seen: make hostile SECONDS=3
	$(GO) test -v -count=1 -timeout 0 ./hostile -args -hostile.seconds=$(SECONDS)
