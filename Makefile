# The commands a person needs. `make help` lists them.
CARGO ?= cargo
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

packages: ## Install the Debian packages that tests and demo need (root)
	./.ci/install-packages

check: ## Format, lints, documentation: no warning allowed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

build: ## The two programs, optimised
	$(CARGO) build --release -p layerfs -p bakery

test: packages build check test-rust test-shell test-benches test-boot-short ## Everything CI runs

test-rust: build ## Unit, property, semantics, crash and end-to-end tests (root: they mount)
	$(CARGO) test --workspace --no-fail-fast

test-shell: ## The initrd's shell: its tests and shellcheck
	./initrd/tests/run

test-benches: ## Benches compile and run once
	$(CARGO) bench -p layerfs-benches -- --test

deny: ## Licences, sources and forbidden dependencies (installs cargo-deny)
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

clean-lab: ## Remove what demo and boot tests made
	rm -rf lab

.PHONY: help packages check build test test-rust test-shell test-benches deny clean-lab
