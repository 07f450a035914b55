# Every task of the project; `make help` lists them. Each one makes the environment it needs, so
# that a fresh clone with python3, a C++17 compiler and a package index is enough for all of them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDEXPANSION:

PYTHON ?= python3
ARGS ?=
INFALL_WERROR ?= OFF
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Directories count as well, so that a removed file rebuilds the package.
SOURCES := CMakeLists.txt pyproject.toml \
    $(shell find csrc python -not -name '*.pyc' -not -name __pycache__)
CSRC := tests/digests.cpp $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu')

.PHONY: help
help:  ## List the tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  Options are handed on with ARGS, for example: make test ARGS="-k rows -x"'

# Environments. A stamp in the environment stands for each thing installed into it.
# pip builds in the environment itself rather than in a fresh one of its own: only then do paths
# stay the same from one build to the next and only what changed is compiled again.

# Python compiles what it imports, which is little of SciPy and scikit-learn: pip need not.
INSTALL = $(@D)/bin/python -m pip install --quiet --no-compile
CMAKE = PATH="$$PWD/.venv/bin:$$PATH" cmake

define BUILD_REQUIREMENTS
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["build-system"]["requires"], sep="\n")
endef
export BUILD_REQUIREMENTS

.venv/build-requirements .venv-sanitize/build-requirements .venv-clang/build-requirements \
.venv-tsan/build-requirements: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -c "$$BUILD_REQUIREMENTS" > $@.txt
	$(INSTALL) -r $@.txt cmake ninja
	touch $@

.venv-clang/package .venv-sanitize/package .venv-tsan/package: BUILD_SETTINGS = \
    --config-settings=cmake.define.INFALL_CUDA=OFF \
    --config-settings=cmake.define.INFALL_EMULATE_CUDA=$(EMULATE) \
    --config-settings=cmake.define.INFALL_SANITIZE='$(SANITIZERS)' \
    --config-settings=build-dir=build/$(@D:.venv-%=%) \
    --config-settings=cmake.build-type=$(BUILD_TYPE) \
    --config-settings=install.strip=false
.venv-clang/package .venv-sanitize/package: EMULATE := ON
.venv-tsan/package: EMULATE := OFF
.venv/native .venv-tsan/package: ISAS := NATIVE
.venv-sanitize/package: SANITIZERS := address,undefined
.venv-tsan/package: SANITIZERS := thread
.venv-clang/package: BUILD_TYPE := Release
.venv-sanitize/package .venv-tsan/package: BUILD_TYPE := RelWithDebInfo

# For this machine alone (.venv/native) or with every instruction set, which is more than native.
ISAS := ALL
.venv/native .venv/package .venv-clang/package .venv-sanitize/package .venv-tsan/package: \
    $$(@D)/build-requirements $(SOURCES)
	@echo "building infall into $(@D)"
	$(INSTALL) --no-build-isolation \
	    --config-settings=cmake.define.INFALL_ISAS=$(ISAS) \
	    --config-settings=cmake.define.INFALL_WERROR=$(INFALL_WERROR) $(BUILD_SETTINGS) .
	touch $(@D)/native $@

# The tests also run the CUDA kernels, emulated by the host; nothing else needs them.
SITE_PACKAGES = $$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
.venv/emulated: .venv/build-requirements $(filter-out python/%,$(SOURCES)) | .venv/package
	$(CMAKE) --preset emulated -DINFALL_WERROR=$(INFALL_WERROR)
	$(CMAKE) --build --preset emulated
	$(CMAKE) --install build/emulated --component emulated --prefix "$(SITE_PACKAGES)"
	touch $@
.venv/test: .venv/emulated

.venv/cli .venv/lint: .venv/native
.venv/test .venv-clang/test .venv-sanitize/test .venv-tsan/test: $$(@D)/package
.venv/cli .venv/test .venv/lint .venv-clang/test .venv-sanitize/test .venv-tsan/test:
	$(INSTALL) 'infall[$(@F)]'
	touch $@

# The libraries whose arrays are taken are large and not there for every machine.
.venv/interop .venv/bench: .venv/package
	if $(INSTALL) 'infall[$(@F)]'; then touch $@; \
	else echo 'WARNING: infall[$(@F)] could not be installed: its tests are skipped'; fi

.PHONY: run
run: .venv/cli  ## Run the main experiment: width 2^25, depth 8, handwritten digits
	.venv/bin/infall run $(ARGS)

.PHONY: figures
figures: .venv/cli  ## Reproduce every figure of the paper; writes infall-figures/index.html
	.venv/bin/infall figure all $(ARGS)

.PHONY: test
test: .venv/test .venv/interop  ## Run all tests (GPU tests where there is a GPU)
	.venv/bin/python -m pytest $(ARGS)

.PHONY: timing
timing: .venv/test  ## Hold Ctrl-C and import to their limits of time, on a machine at rest
	INFALL_STRICT_TIMING=1 .venv/bin/python -m pytest -k 'interrupt or quickly' $(ARGS)

# Python's own allocator would hide overruns of small objects. The preloaded libraries are those
# that must be there before the interpreter: the sanitizer, and the C++ runtime it intercepts.
# An abort makes pytest say in which test it happened; its capture must leave the report alone.
.PHONY: sanitize
sanitize: export CXX := $(CXX)
sanitize: .venv-sanitize/test  ## Run the tests of compiled code under AddressSanitizer and UBSan
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 \
	UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1 \
	PYTHONMALLOC=malloc \
	.venv-sanitize/bin/python -m pytest --capture=sys -m 'sanitize and not slow' $(ARGS)

# Only calls from several threads are of interest; the interpreter and NumPy are not instrumented,
# so that nothing they do is reported. A report ends the process at its exit with status 66.
.PHONY: tsan
tsan: export CXX := $(CXX)
tsan: .venv-tsan/test  ## Run the tests of concurrent calls under ThreadSanitizer
	LD_PRELOAD="$$($(CXX) -print-file-name=libtsan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1 \
	PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 \
	.venv-tsan/bin/python -m pytest --capture=sys tests/test_concurrency.py $(ARGS)

# Another compiler gives the same bits: those of the reference, and of kernels beside their twins.
CLANG ?= $(firstword $(shell command -v clang++ clang++-19 clang++-14 2>/dev/null) clang++)
.PHONY: clang
clang: export CXX := $(CLANG)
clang: .venv-clang/test  ## Build with Clang and run the tests of compiled code
	.venv-clang/bin/python -m pytest -m 'sanitize and not slow' $(ARGS)

# The engine without Python, built for this machine and for another one that qemu emulates.
DIGESTS := -DINFALL_PYTHON=OFF -DINFALL_CUDA=OFF -DINFALL_DIGESTS=ON \
    -DINFALL_WERROR=$(INFALL_WERROR) -DCMAKE_EXE_LINKER_FLAGS=-static
ARM64 := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
.PHONY: arm64
arm64: .venv/build-requirements  ## Compare the kernels' bits with those of arm64 (cross compiler, qemu-user)
	$(CMAKE) -S . -B build/digests -G Ninja $(DIGESTS)
	$(CMAKE) -S . -B build/digests-arm64 -G Ninja $(DIGESTS) $(ARM64)
	$(CMAKE) --build build/digests --target infall_digests
	$(CMAKE) --build build/digests-arm64 --target infall_digests
	.venv/bin/python tests/compare_digests.py 'build/digests/infall_digests' \
	    'qemu-aarch64 build/digests-arm64/infall_digests'

.PHONY: lint lint-python lint-types lint-csrc lint-tidy
lint: lint-python lint-types lint-csrc lint-tidy  ## Check style, types, the stub of the compiled part and formatting
lint-python: .venv/lint
	.venv/bin/ruff check
	.venv/bin/ruff format --check
lint-types: .venv/lint
	.venv/bin/mypy
	MYPYPATH=python .venv/bin/stubtest --mypy-config-file pyproject.toml \
	    --allowlist tests/stubtest_allowlist.txt --ignore-unused-allowlist infall._core \
	    $$(.venv/bin/python -c 'import infall._cuda as m; print(m.__name__)' 2>/dev/null || true)
lint-csrc: .venv/lint
	.venv/bin/clang-format --dry-run -Werror $(CSRC)
# The kernels are left out: they are mostly intrinsics.
lint-tidy: .venv/lint
	$(CMAKE) -S . -B build/tidy -G Ninja -DINFALL_PYTHON=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
	.venv/bin/clang-tidy --quiet -p build/tidy \
	    $(filter-out csrc/bindings/% %kernels.cpp,$(wildcard csrc/*/*.cpp))

.PHONY: format
format: .venv/lint  ## Format Python and C++ and apply the safe fixes
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format
	.venv/bin/clang-format -i $(CSRC)

.PHONY: bench
bench: .venv/test .venv/bench  ## Check limits of time, measure against peers; writes bench/results
	$(MAKE) timing ARGS=
	.venv/bin/python bench/run.py $(ARGS)

# A machine with a GPU often has no package index: these take what $(PYTHON) has, and build for
# the card that is there.
CUDA_SETTINGS := --no-build-isolation --no-deps --no-index \
    --config-settings=build-dir=build/cuda \
    --config-settings=cmake.define.INFALL_CUDA=ON \
    --config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES=native
ON_GPU = PYTHONPATH=build/cuda-site INFALL_REQUIRE_GPU=1

.PHONY: build/cuda-site
build/cuda-site:
	$(PYTHON) -m pip install --quiet $(CUDA_SETTINGS) --upgrade --target $@ .

.PHONY: test-gpu
test-gpu: build/cuda-site  ## Build with CUDA and run the GPU tests, with the packages PYTHON has
	$(ON_GPU) $(PYTHON) -m pytest tests/test_gpu.py $(ARGS)

.PHONY: cuda-all
cuda-all: .venv/build-requirements  ## Compile the CUDA kernels for every generation of cards (nvcc)
	$(CMAKE) --preset cuda -DINFALL_WERROR=$(INFALL_WERROR)
	$(CMAKE) --build --preset cuda

.PHONY: sanitize-gpu
sanitize-gpu: build/cuda-site  ## Run small GPU tests under compute-sanitizer
	for tool in memcheck racecheck; do \
	    $(ON_GPU) compute-sanitizer --tool $$tool --error-exitcode 1 \
	        $(PYTHON) -m pytest tests/test_gpu.py -k 'widths or codes or bfloat16' $(ARGS); \
	done

.PHONY: clean
clean:  ## Remove environments, builds and caches
	rm -rf .venv .venv-clang .venv-sanitize .venv-tsan build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
