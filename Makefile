# mixrate: `make demo` from a bare checkout. Needs python3 (3.11 or newer, with venv), make and git.

PYTHON ?= python3
TORCH  := 2.13.0
BIN    := .venv/bin
READY  := .venv/.installed
PIP    := $(BIN)/python -m pip -qq --no-input --disable-pip-version-check
PARTS  := targets samplers laws metrics theory experiments

export PYTHONNOUSERSITE := 1

.PHONY: help demo install test bench bench-peers lint format typecheck targets-page kinetic-page diffusion-page rdmc-page clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile

demo: $(READY) ## install and check a first set of theorems: prints the verdicts and where the report is
	$(BIN)/mixrate verify --tier smoke

install: $(READY) ## create .venv with everything mixrate needs (done once; the other targets call it)

test: $(READY) ## run the tests (slower ones: .venv/bin/pytest -m full)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

bench: $(READY) ## time our own parts against each other
	$(BIN)/pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds -p no:xdist

# The peers live in an environment of their own. ARGS is passed on: make bench-peers ARGS='--quick --only gmm2'.
bench-peers: $(READY) .venv-peers/.installed ## time the samplers against other libraries, side by side (minutes, on a quiet machine)
	$(BIN)/python benchmarks/peers/table.py $(ARGS)

.venv-peers/.installed: benchmarks/peers/requirements.txt
	@echo "installing the peers into .venv-peers: a minute"
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip -qq --no-input --disable-pip-version-check install --no-deps -r $< && touch $@ || \
	  echo "not all peers could be installed: the rows of those that were not will say so" >&2

lint: $(READY) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## put the code into the format that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy does not read the package-dir table of pyproject.toml: it gets the package as a tree of links.
typecheck: $(READY) ## check the types
	@rm -rf .mypy && mkdir -p .mypy/mixrate
	@ln -s $(patsubst %,../../%,$(wildcard mixrate/*.py) $(PARTS)) .mypy/mixrate/
	MYPYPATH=.mypy $(BIN)/mypy -p mixrate

targets-page: $(READY) ## write docs/targets.md and its pictures from the targets themselves
	$(BIN)/python docs/build_targets.py

kinetic-page: $(READY) ## write docs/kinetic.md and its pictures: friction in pictures, samplers side by side (minutes)
	$(BIN)/python docs/build_kinetic.py

diffusion-page: $(READY) ## write docs/diffusion.md and its pictures: reverse diffusions, term by term (minutes)
	$(BIN)/python docs/build_diffusion.py

# ARGS is passed on: make rdmc-page ARGS=--compare runs the long comparisons, ARGS=--kept measures nothing.
rdmc-page: $(READY) ## write docs/rdmc.md and its pictures: scores estimated on the way back (minutes)
	$(BIN)/python docs/build_rdmc.py $(ARGS)

clean: ## remove what can be made again (.venv, caches); runs of experiments are kept
	rm -rf .venv .venv-peers .mypy .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every install is without dependencies: constraints.txt is the whole list, so nothing can bring CUDA along or replace torch.
# A torch $(TORCH) that is there already and imports (say, one you put into .venv yourself) is left alone.
TORCH_WORKS := $(BIN)/python -c 'import torch, sys; sys.exit(torch.__version__.split("+")[0] != "$(TORCH)")' 2>/dev/null

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "mixrate needs Python 3.11 or newer, and '$(PYTHON)' is none: try make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "'$(PYTHON)' lacks venv: install it (Debian and Ubuntu: the package python3-venv) and run make again" >&2; exit 1; }
	@echo "installing mixrate into .venv: a minute or two"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install 'setuptools>=77.0.3'
	@$(PIP) install --no-deps -r constraints.txt
	@$(TORCH_WORKS) || $(PIP) install --no-deps 'torch==$(TORCH)+cpu' 2>/dev/null || $(PIP) install --no-deps 'torch==$(TORCH)' || true
	@$(TORCH_WORKS) || { $(PIP) uninstall --yes torch; \
	  echo "no torch $(TORCH) that works without CUDA came from this package index: install a CPU build of torch $(TORCH)" \
	       "into .venv, using $(BIN)/pip with the command that pytorch.org gives, and run make again" >&2; exit 1; }
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
