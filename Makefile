# Two commands for newcomers: `make demo` and `make test`. Both set up .venv by themselves, with the
# versions of requirements.lock; PYTHON=python3.13 chooses an interpreter and gets a .venv of its own.

# The first interpreter that runs; a version manager's shim may be there and not run.
first = $(shell for p in $(1); do $$p -c '' 2>/dev/null && echo $$p && exit; done; echo python3)
ifeq ($(origin PYTHON),undefined)
PYTHON := $(call first,python3.12 python3.13 python3.11)
VENV := .venv
else
VENV := .venv-$(notdir $(PYTHON))
endif
RUN = $(VENV)/bin/python
# Most modules of the libraries are never imported. Those that are leave their bytecode the first time,
# also where the environment says that Python is not to write any.
INSTALL = $(RUN) -m pip install --quiet --no-compile
export PYTHONDONTWRITEBYTECODE :=
LOCKED := -r requirements.txt -c requirements.lock
# PyTorch differs from machine to machine, so it is not in the lock: the CPU's build where it is to
# be had, else PyPI's.
TORCH := torch==2.13.0
TORCH_INDEX := https://download.pytorch.org/whl/cpu

# LENGTH=0.05 trains a twentieth of the demo.
LENGTH ?= 1
SEED ?= 0
WORK ?= work/demo_seed$(SEED)$(if $(filter-out 1,$(LENGTH)),_length$(LENGTH))
DATA ?= work/data
DEMO = $(RUN) main.py --config=configs/demo.py
TRAIN := --config.seed=$(SEED) --config.schedule.scale=$(LENGTH) --config.data.dir=$(DATA)

.PHONY: demo test quick test-newest nightly install install-dev lock clean

demo: install
	$(DEMO) --mode=prepare --config.data.dir=$(DATA)
	$(DEMO):baseline --workdir=$(WORK)_baseline $(TRAIN)
	$(DEMO):multigrid --workdir=$(WORK)_multigrid $(TRAIN)
	$(RUN) -m mg_jax.report.terminal_table $(WORK)_baseline $(WORK)_multigrid
	$(RUN) main.py --mode=report --runs=$(WORK)_baseline,$(WORK)_multigrid --workdir=$(WORK)_report
	@[ "$(LENGTH)" = 1 ] || echo "LENGTH=$(LENGTH): the README's figures are of LENGTH=1; of much shorter runs most is compilation, and they compare nothing"

# Three workers on two cores, since tests also wait: for processes, and for what another one prepares.
test: install-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest -n 3 --dist worksteal

# For whoever is at work: lint, layers, and the tests that start no process and compile little.
quick: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) -m pytest -n 2 --dist worksteal -m "quick and not nightly"

# What takes too long for every change: all tests, each in its full size, with programs that LLVM
# optimises as it does those of runs, where `make test` leaves most unoptimised.
nightly: install-dev
	TESTS_OPTIMISED=1 $(RUN) -m pytest -n 2 --dist worksteal -m ""

# The newest release of everything on the newest Python, so that a break is seen where it happens.
test-newest: PYTHON := $(call first,python3.13 python3.12)
test-newest: VENV := .venv-newest
test-newest:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	sed -E '/^-r/d; s/[[:space:]]*#.*//; s/ *(==|>=|<=|~=|<|>)[^;]*//' requirements.txt requirements-dev.txt \
	  > $(VENV)/newest.txt
	$(INSTALL) --upgrade pip -r $(VENV)/newest.txt
	$(INSTALL) --index-url $(TORCH_INDEX) torch || $(INSTALL) torch
	$(RUN) -m pip freeze
	$(RUN) -m tests.browser
	$(RUN) -m mg_jax.accelerators | sh -e || true
	TESTS_OPTIMISED=1 $(RUN) -m pytest -n 3 --dist worksteal

# Installs what `demo` needs; what `test` needs.
install: $(VENV)/installed
install-dev: $(VENV)/installed-dev $(VENV)/compilers

# Renews requirements.lock: one file for all Pythons and machines, and where it can be one version of
# each package, so that what was measured with one Python holds with the others. On CPUs it matters:
# JAX 0.12, which Python 3.11 cannot have, compiles in 1.5 to 1.7 times the time (docs/programs.md).
lock: $(VENV)/python
	$(INSTALL) uv
	$(RUN) -m uv pip compile --quiet --upgrade --universal --fork-strategy fewest \
	  --python-version 3.11 --no-annotate --custom-compile-command "make lock" \
	  requirements-dev.txt requirements-gpu.txt -o requirements.lock

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "mg_jax needs Python 3.11, 3.12 or 3.13; choose: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "creating a virtual environment failed; on Debian: apt-get install python3-venv"; exit 1; }
	touch $@

$(VENV)/installed: requirements.txt requirements.lock | $(VENV)/python
	$(INSTALL) $(LOCKED)
	$(RUN) -c 'from mg_jax.machine import environment as e; e.set_defaults(); import mg_jax.training.loop'
	touch $@

# Without PyTorch or a browser the tests that need them are left out, by name.
$(VENV)/installed-dev: requirements-dev.txt requirements.lock | $(VENV)/installed
	$(INSTALL) -r requirements-dev.txt -c requirements.lock
	$(RUN) -c 'import torch' 2>/dev/null || \
	  $(INSTALL) --retries 1 --index-url $(TORCH_INDEX) $(TORCH) || \
	  $(INSTALL) $(TORCH) || echo "PyTorch could not be installed"
	$(RUN) -m tests.browser
	touch $@

# What compiles for GPUs and TPUs that are not there, 900 MB, for the JAX that is installed. Where it
# cannot be had, the tests that need it are left out, by name.
$(VENV)/compilers: requirements.lock | $(VENV)/installed
	$(RUN) -m mg_jax.accelerators | sh -e || echo "compilers could not be installed"
	mkdir -p $@
	touch $@

clean:
	rm -rf work .cache
