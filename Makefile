# Everything that a person or CI does with this project. `make help` lists it.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
CLUSTER := e2e/cluster/cluster
TARGET := x86_64-unknown-linux-gnu
export RUST_BACKTRACE ?= 0

.PHONY: bench bench-checks bench-scale fuzz model help prepare build binaries release-binary tools images generate verify lint fmt test test-all test-fast test-docs e2e e2e-estate demo demo-clean cluster cluster-down deny

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

demo: binaries cluster images ## Play the whole story on a local cluster; leaves it up
	@echo "demo         the program that plays the story (a few minutes the first time)"
	@cargo build --quiet --package repave-e2e --bin demo
	@$(CLUSTER) run target/debug/demo

demo-clean: cluster-down ## Remove the demo's cluster and all that it made
	@rm -rf target/e2e

cluster: tools ## Start the local cluster (kubeconfig: target/cluster/kubeconfig)
	@$(CLUSTER) up

cluster-down: ## Remove the local cluster; the built tools stay
	@$(CLUSTER) down

test: prepare lint verify test-all e2e ## Every test; installs what it needs

test-fast: ## What needs no cluster, with few cases of the random walks
	@PROPTEST_CASES=$${PROPTEST_CASES:-12} $(MAKE) --no-print-directory test-all

test-all: ## What needs no cluster, with all cases of the random walks
	@cargo test --workspace --lib --bins
	@cargo test --package repave --test crates --test imports --test writes
	@cargo test --package repave --features fuzzing --test fuzz_seeds

# The first is one of `ls fuzz/fuzz_targets`; what is found is kept in fuzz/artifacts.
fuzz: TARGET = goss
fuzz: SECONDS = 60
fuzz: ## Search for bad input with coverage: make fuzz TARGET=goss SECONDS=60 (needs nightly Rust, cargo-fuzz, clang)
	@cargo +nightly --version >/dev/null 2>&1 || { echo "make fuzz needs nightly Rust: rustup toolchain install nightly"; exit 1; }
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { echo "make fuzz needs cargo-fuzz: cargo install --locked cargo-fuzz"; exit 1; }
	@test -f "fuzz/fuzz_targets/$(TARGET).rs" || { echo "expected TARGET to be one of: $$(ls fuzz/seeds | tr '\n' ' ')"; exit 1; }
	@mkdir -p "fuzz/corpus/$(TARGET)"
	@cargo +nightly fuzz run "$(TARGET)" "fuzz/corpus/$(TARGET)" "fuzz/seeds/$(TARGET)" -- -max_total_time="$(SECONDS)" -rss_limit_mb=1024 -timeout=10

e2e: binaries cluster images ## The tests on a real cluster
	@e2e/tools/build cosign
	@REPAVE_TOOLS="$(CURDIR)/target/tools/bin" REPAVE_COSIGN="$(CURDIR)/target/tools/bin/cosign" cargo test --package repave-oci --lib
	@cargo test --package repave --test chart_rbac
	@$(CLUSTER) run cargo test --package repave-e2e --test story -- --test-threads=1
	@$(CLUSTER) run cargo test --package repave-e2e --test gate --test kill_everywhere --test missing_inputs --test refusals -- --test-threads=1
	@$(CLUSTER) down

e2e-estate: binaries cluster images ## The table of special cases on a real cluster
	@$(CLUSTER) run cargo test --package repave-e2e --test estate -- --test-threads=1 --nocapture

bench: ## Figures of the demo that was just played, and of an idle minute after it
	@cargo build --quiet --package repave-e2e --bin bench
	@$(CLUSTER) run target/debug/bench

bench-checks: binaries images ## Figures of the checks, without a cluster (needs root); writes docs/benchmarks.md and docs/detection.md
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile e2e --target $(TARGET) --package repave-e2e --bin bench-checks
	@target/$(TARGET)/e2e/bench-checks

# The figures of docs/benchmarks.md: SCALE=1000, then SCALE=1000 SCALE_EMPTY=4000, with SCALE_BASES=5000 SCALE_TAGS=100
# SCALE_IDLE=300; the defaults are a smoke run. PARTS="roll kill" leaves the others out.
bench-scale: release-binary ## Figures of thousands of workloads: make bench-scale SCALE=1000 (no cluster needed); writes docs/benchmarks.md
	@e2e/tools/build kube etcd crane kwok
	@cargo build --quiet --package repave-e2e --bin bench-scale
	@target/debug/bench-scale

model: ## Walk every decision through all its states, and find the planted bugs
	@e2e/model/run

build: ## Build everything for this machine
	@cargo build --workspace --all-targets

binaries: prepare ## The static binary that goes into the images
	@echo "binary       repave, static"
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --profile e2e --target $(TARGET) --bin repave --bin kubectl-repave
	@mkdir -p target/e2e-bin target/tools/bin
	@cmp -s target/$(TARGET)/e2e/repave target/e2e-bin/repave || cp target/$(TARGET)/e2e/repave target/e2e-bin/repave
	@cp target/$(TARGET)/e2e/kubectl-repave target/tools/bin/kubectl-repave

release-binary: prepare ## The static binary as people run it: small, and slow to build
	@echo "binary       repave, static, release profile"
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target $(TARGET) --bin repave

tools: prepare ## The programs of the cluster and the checks, from their Go modules
	@e2e/tools/build cluster grype syft trivy helm

images: tools ## The images of the story, from Debian packages
	@e2e/images/build

prepare: ## Install what is missing on this machine (needs root)
	@e2e/prepare

generate: ## Write crds/, the chart's copy and the schema of the reports from the types
	@cargo run --quiet --bin repave -- crds --out crds
	@cp crds/repave.dev_*.yaml charts/repave-crds/files/
	@cargo run --quiet --bin repave -- report-schema --out docs/report.schema.json

verify: generate ## Fail if generated files are not committed
	@git diff --exit-code -- crds charts/repave-crds/files docs/report.schema.json || { echo "generated files differ: commit what make generate wrote"; exit 1; }

lint: ## Formatting, lints, what each crate may see, and circles of imports
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@cargo test --quiet --package repave --test crates --test imports --test writes

fmt: ## Format
	@cargo fmt --all

deny: ## Licences, bans and advisories (needs cargo-deny)
	@cargo deny check
