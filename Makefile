# Everything that is done to this repository from a command line. `make help` lists it.
# CARGO_TARGET_DIR is honoured where it is set.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# Tools that `tools/setup.sh` builds for this repository alone come first.
export PATH := $(abspath $(TARGET_DIR))/tools/bin:$(PATH)
export TARGET_DIR

# How many seeds `make soak` simulates, and how long `make demo` runs (0: until Ctrl-C).
SEEDS ?= 100000
# In how many seeds of each kind `make soak-mutants` looks for a planted bug before it gives up.
SEEDS_MUTANTS ?= 5000
SECONDS_MAX ?= 0
# What `make demo` keeps equal: salesforce, or postgres for two databases.
PAIR ?= salesforce

.PHONY: help test setup fmt lint deny advisories demo soak soak-mutants bench bench-one-way bench-two-way bench-profile clean

help: ## lists the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

test: ## sets up what the tests need and runs all of them, the linters and the simulation
	@tools/test.sh

setup: ## installs what the tests need (PostgreSQL's server, cargo-deny)
	@tools/setup.sh

fmt: ## formats the code
	@cargo fmt --all

lint: ## the formatter's and the linter's findings, as the gate sees them
	@cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings

deny: setup ## licences, bans and sources of every dependency
	@cargo deny --log-level error check licenses bans sources

advisories: setup ## known vulnerabilities in the dependencies; needs the network
	@cargo deny check advisories

demo: ## Salesforce (simulated) and PostgreSQL kept equal, live, in the terminal; Ctrl-C leaves nothing running
	@tools/setup.sh --server-only || { command -v cc >/dev/null && echo "demo: no PostgreSQL server here, so SQLite takes its place"; }
	cargo build --quiet --package concord --package concord-simulators
	exec "$(TARGET_DIR)/debug/concord" demo --pair $(PAIR) --seconds $(SECONDS_MAX)

soak: ## the simulation over SEEDS=… seeds
	@cargo run --quiet --release --package concord-simulation -- --count $(SEEDS) --jobs $$(nproc)

soak-mutants: ## shows that the simulation finds every planted bug, and which tests show those that take a script
	@cargo run --quiet --release --package concord-simulation -- --mutants --count $(SEEDS_MUTANTS) --jobs $$(nproc)

bench: ## both tables beside their peers, which are installed: one way, then both ways (an hour and more)
	@bench/run.sh --one-way
	bench/run.sh

bench-one-way: ## mirror mode beside COPY, loaders, PostgreSQL's own replication, pglogical, Debezium
	@bench/run.sh --one-way

bench-two-way: ## a two-way sync beside pglogical: latency, throughput and memory
	@bench/run.sh

bench-profile: ## where the time goes one way, by process and function (Linux's perf)
	@bench/profile.sh

clean: ## removes what was built
	@cargo clean
