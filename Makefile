# `make help` lists what can be done. Everything works on a fresh clone with Rust and a C compiler;
# ci/setup installs (on Debian 12) the databases and servers that the tests talk to.

SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build everything
	cargo build --locked --workspace --all-targets

.PHONY: test
test: ## run every test this machine can run, and list what was skipped and why
	ci/test

.PHONY: soak
soak: ## what takes long: thousands of tables, a month of each fleet, two hundred killed runs
	cargo test --locked --workspace -- --ignored --nocapture soak_
	cargo test --locked --package firedrill-scenarios --test pipeline -- --ignored --nocapture

.PHONY: lint
lint: ## formatting, clippy without warnings, and the house rules of tidy.rs
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo test --locked --quiet --package firedrill-core --test tidy

.PHONY: demo
demo: ## make a fleet with a week of backups and a mirror, restore-test it, break it, test it again
	cargo build --locked --bin firedrill --bin firedrill-demo
	target/debug/firedrill-demo

.PHONY: fmt
fmt: ## format the code
	cargo fmt --all

.PHONY: deny
deny: ## licences and sources of all dependencies, by cargo-deny (tidy.rs checks licences without it)
	@cargo deny --version >/dev/null 2>&1 || { echo 'make deny: cargo-deny is not installed: cargo install cargo-deny --locked' >&2; exit 1; }
	cargo deny --locked check bans licenses sources

.PHONY: bench
bench: ## compare with restic (backing up, restoring every tag) and with loading databases by hand (as root)
	cargo build --locked --release --bin firedrill
	ci/bench
	ci/bench-backup
	ci/bench-engines

.PHONY: setup
setup: ## install what the tests need (Debian 12, as root)
	ci/setup

.PHONY: clean
clean: ## remove everything that was built
	cargo clean
