# What the README and CI call. `make help` lists it.

BUILD_PACKAGES := gcc libc6-dev pkg-config libmnl-dev libnftnl-dev
TEST_PACKAGES  := conntrack curl dnsmasq-base faketime git iproute2 iptables iputils-ping isc-dhcp-client \
                  nftables nmap openssh-client openssh-server procps python3 \
                  python3-cryptography rsync ufw util-linux
PACKAGES       := $(BUILD_PACKAGES) $(TEST_PACKAGES)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint docs

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## Install what building and testing need (as root), or print the apt line
	@packaging/setup $(PACKAGES)

build: setup ## Build all programs
	cargo build --workspace --bins

demo: build ## Play the whole story between hosts that are network namespaces
	cargo run --quiet --package spa-tests --bin demo

test: build ## Run every test
	cargo test --workspace --no-fail-fast

lint: setup ## Format and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

docs: setup ## Check links and names in the documents, and the docstrings
	packaging/check-documents
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
