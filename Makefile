# The front door. Everything below is run in the private place that tools/setup
# makes and tools/enter opens, so nothing but root, Debian and its package mirror
# is needed. `make help` lists what there is.

.NOTPARALLEL:
.DEFAULT_GOAL := help
SHELL := /bin/bash

# release, asan, tsan or fuzz: see CMakePresets.json
PRESET ?= release
DIR    := build/$(PRESET)
ENTER  := tools/enter
# How many unit tests at once: they wait a lot
UNIT_AT_ONCE   ?= 2
# Any pytest options, e.g. make e2e T='-k hibernate -x'; of unit tests a name: make unit T=test_node_hold
T      ?=
# A machine so slow that this many seconds have gone before is not to look for races as well
TSAN_WITHIN    ?= 1800
export BEGUN   := $(or $(BEGUN),$(shell date +%s))
# How long `make fuzz` gives each target
FUZZ_SECONDS ?= 20

.PHONY: help setup build build-asan build-tsan build-fuzz test unit unit-all e2e fuzz bench package \
        demo demo-spot fmt tidy shell clean distclean

help: ## this list
	@awk -F':.*## ' '/^[a-z][^:=]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is needed (minutes at first, then nothing)
	@tools/setup

build: setup ## compile into build/PRESET (PRESET=release)
	@$(ENTER) -- bash -ec '[[ -e $(DIR)/build.ninja ]] || cmake --preset $(PRESET) -S . -B $(DIR); ninja -C $(DIR)'

build-asan build-tsan build-fuzz: build-%: ## the same with sanitizers, or the fuzz targets
	@$(MAKE) --no-print-directory build PRESET=$*

# End-to-end tests leave processors idle.
test: build ## all unit tests, with sanitizers, beside all end-to-end tests
	@tools/e2e --beside unit-all

# What is in the sources is looked at without sanitizers; all else is run with them.
unit-all: build
	@$(ENTER) -- ctest --test-dir $(DIR) --output-on-failure --no-tests=error -R '^includes'
	@$(MAKE) --no-print-directory unit PRESET=asan
	@if (( $$(date +%s) - BEGUN < $(TSAN_WITHIN) )); then $(MAKE) --no-print-directory unit PRESET=tsan; \
	 else echo "Not run with the sanitizer for races: more than $(TSAN_WITHIN) s have gone (make unit PRESET=tsan)"; fi

unit: build ## unit tests of build/PRESET (T=test_node_hold for one)
	@$(ENTER) -- ctest --test-dir $(DIR) --output-on-failure --no-tests=error -j $(UNIT_AT_ONCE) $(if $(T),-R '$(T)')

e2e: build ## end-to-end tests: real Hub, real CRIU (T='-k name' for some)
	@tools/e2e $(T)

# What is found is kept: new inputs in build/fuzz/corpus, failing ones in build/fuzz/failures.
fuzz: build-fuzz ## run each fuzz target for FUZZ_SECONDS=20
	@$(ENTER) -- tests/fuzz/run build/fuzz $(FUZZ_SECONDS)

bench: build ## measure into build/bench.json (GROUP=core for one group)
	@$(ENTER) --net=private -- bench/run

# The interactive demo shows a page to this machine's browser, so it uses this
# machine's network; the other one tells its story alone.
demo: build ## start everything and stay up (ONCE=1: drive the whole story)
	@$(ENTER) --net=$(if $(filter-out 0,$(ONCE)),private,host) -- tools/demo

demo-spot: build ## three people on a spot machine that is taken away, told once
	@$(ENTER) --net=private -- tools/demo-spot

package: build ## Debian packages into build/*.deb
	@$(ENTER) -- bash -ec 'cpack --config $(DIR)/CPackConfig.cmake -B $(DIR)/packages >$(DIR)/cpack.log || { cat $(DIR)/cpack.log; exit 1; }'
	@cp $(DIR)/packages/*.deb build/ && ls -1 build/*.deb

SOURCES = find . \( -path ./build -o -path ./.git \) -prune -o \
          \( -name '*.[ch]' -o -name '*.cpp' \) -print0

fmt: setup ## format the C sources (CHECK=1: only say what is not)
	@$(ENTER) -- bash -ec '$(SOURCES) | xargs -0r clang-format $(if $(CHECK),--dry-run -Werror,-i)'

tidy: build ## clang-tidy over all C sources
	@$(ENTER) -- run-clang-tidy -quiet -p $(DIR) -extra-arg=-Wno-unknown-warning-option

shell: setup ## a shell in the private place
	@$(ENTER) -- bash

clean: ## remove what was built
	rm -rf build

distclean: clean ## remove also the root and everything set up for it
	@tools/setup --clean
