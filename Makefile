# What people run; `make help` lists it. CI runs .ci/run, which uses the same commands.

# Where `make install` puts things.
PREFIX ?= /usr/local
# Put before PREFIX while files are copied, for those who make packages.
DESTDIR ?=

CARGO ?= cargo
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help setup demo test build install check matrix clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

# What everything here is built with.
tools := cc verbs

setup: ## install the few system packages that building needs
	@.ci/setup $(tools)

demo: ## train handwritten digits on 2 processes, from C
	@.ci/setup $(tools) readelf
	@bindings/capi/examples/digits/demo.sh

test: ## run the tests
	@.ci/setup $(tools) c++ ip pkg-config python3 readelf unshare
	@$(CARGO) build --locked -p dure-capi
	@status=0; { \
	    $(CARGO) test --workspace --locked --no-fail-fast || status=1; \
	    bindings/python/check "$(TARGET)/debug" || status=1; \
	    exit $$status; \
	} 2>&1 | .ci/totals

build: ## build libdure.so, libnccl.so.2, the plug-ins for NCCL and oneCCL and the program `dure`
	@.ci/setup $(tools)
	@$(CARGO) build --locked --release -p dure-capi -p dure-nccl -p dure-nccl-net -p dure-oneccl -p dure-perf
	@ls "$(TARGET)/release/"{libdure.so,libnccl.so,libnccl_net_dure.so,libdure_oneccl.so,dure}

install: build ## install them, with headers, pkg-config and CMake files, under PREFIX
	@DESTDIR="$(DESTDIR)" bindings/capi/install.sh "$(PREFIX)" "$(TARGET)/release"
	@DESTDIR="$(DESTDIR)" bindings/nccl/install.sh "$(PREFIX)" "$(TARGET)/release"
	@DESTDIR="$(DESTDIR)" bindings/nccl-net/install.sh "$(PREFIX)" "$(TARGET)/release"
	@DESTDIR="$(DESTDIR)" bindings/oneccl/install.sh "$(PREFIX)" "$(TARGET)/release"
	@install -D -m 755 "$(TARGET)/release/dure" "$(DESTDIR)$(PREFIX)/bin/dure"
	@echo "installed under $(DESTDIR)$(PREFIX)"

check: ## format, lints, documentation
	@.ci/setup $(tools)
	@$(CARGO) fmt --all -- --check --files-with-diff
	@$(CARGO) clippy --quiet --workspace --all-targets --locked -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --workspace --no-deps --locked
	@echo clean

matrix: build ## every collective, type and operation on 1 to 8 ranks, results checked (20 minutes)
	@perftests/matrix.sh "$(TARGET)/release/dure"

clean: ## remove what was built
	@$(CARGO) clean
	@rm -rf build fuzz/target fuzz/corpus fuzz/artifacts bindings/python/build bindings/python/dure.egg-info
