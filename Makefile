# What the README and CI call. `make help` lists it.

BUILD_PACKAGES := gcc libc6-dev pkg-config libmnl-dev libnftnl-dev
TEST_PACKAGES  := conntrack curl dbus dnsmasq-base e2fsprogs faketime git gnome-keyring iproute2 \
                  iptables iputils-ping isc-dhcp-client libsecret-tools nftables nmap openssh-client openssh-server procps python3 \
                  python3-argon2 python3-cryptography rsync systemd ufw util-linux
PACKAGES       := $(BUILD_PACKAGES) $(TEST_PACKAGES)
# Who is measured beside us, and what one way to capture is built with; for `make bench` alone.
BENCH_PACKAGES := fwknop-client fwknop-server libpcap-dev
# What the packages are built and tried with; for `make deb` and `make deb-test` alone.
DEB_PACKAGES   := debhelper dh-apparmor git
DEB_TEST_PACKAGES := $(DEB_PACKAGES) apparmor lintian mmdebstrap systemd-container
TARGET         := $(or $(CARGO_TARGET_DIR),target)
# The programs that are measured: as they are published, and what runs beside them on the hosts.
MEASURED       := $(TARGET)/bench/programs
BENCH          := SPA_BIN_DIR=$(MEASURED) cargo run --quiet --release --package spa-bench --features captures --
PUBLISHED      := packaging/release $(MEASURED) && cargo build --quiet --release --package spa-tests \
                  --bin spa-lab-helper && install $(TARGET)/release/spa-lab-helper $(MEASURED)
DENY           := cargo-deny 0.20.2 --debug --no-default-features
# How long `make fuzz` takes for each target.
SECONDS        := 60

.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint deny deny-tool deb deb-test docs fuzz model reproducible bench order soak

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## Install what building and testing need (as root), or print the apt line
	@packaging/setup $(PACKAGES)

build: setup ## Build all programs
	cargo build --workspace --bins

demo: build ## Play the whole story between hosts that are network namespaces
	cargo run --quiet --package spa-tests --bin demo

test: build ## Run every test
	packaging/run-tests

lint: setup ## Format and clippy, warnings are errors; each program builds without the others
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@for one in spa-proto spa-keys spa-client spad; do echo "$$one alone"; cargo check --quiet --package $$one || exit; done
	@packaging/setup g++ libpcap-dev
	cargo clippy --package spa-fuzz --features libfuzzer --package spa-bench --features captures --all-targets -- -D warnings

deny-tool: setup
	@packaging/tool $(DENY) > /dev/null

deny: deny-tool ## Licences, sources, versions and build scripts of all dependencies
	tool=$$(packaging/tool $(DENY)) && "$$tool" check licenses bans sources

deb: ## Build the Debian packages spad and spa, into target/deb
	@packaging/setup $(BUILD_PACKAGES) $(DEB_PACKAGES)
	packaging/release $(TARGET)/deb/programs
	packaging/deb $(TARGET)/deb/programs $(TARGET)/deb

deb-test: build ## Install, upgrade, remove and purge the packages in a Debian of their own (as root)
	@packaging/setup $(DEB_TEST_PACKAGES)
	packaging/deb-test $(TARGET)/debug || [ $$? -eq 3 ]

docs: setup ## Check links and names in the documents, and the docstrings
	packaging/check-documents
	packaging/check-model
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

fuzz: setup ## Fuzz every target of fuzz/ for SECONDS=60 each
	@packaging/setup g++
	packaging/fuzz $(SECONDS)

bench: setup ## Measure us and fwknop side by side (as root), and write docs/performance.md
	@packaging/setup $(BENCH_PACKAGES)
	$(PUBLISHED)
	$(BENCH) order --check
	$(BENCH) all
	cargo bench --quiet --package spa-proto --package spad --bench '*' > target/bench/micro.txt
	$(BENCH) report

order: setup ## Step through a knock (as root), and write the order of functions for the linker
	@packaging/setup libpcap-dev
	$(PUBLISHED)
	$(BENCH) order

model: setup ## Look for attacks on the protocol with verifpal, and compare with what is expected
	tool=$$(packaging/tool verifpal 1.6.7 --ignore-rust-version) && packaging/check-model "$$tool"

reproducible: setup ## Build the programs twice from the last commit, and compare every byte
	packaging/check-reproducible

soak: setup ## All that takes too long for every change: hours
	packaging/soak
