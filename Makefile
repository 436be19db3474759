# Two commands for newcomers: `make demo` and `make test`. Both set up .venv by themselves.

# The first interpreter that runs; a version manager's shim may be there and not run.
PYTHON ?= $(shell for p in python3.12 python3.11; do $$p -c '' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := $(RUN) main.py --config=configs/demo.py
SEED ?= 0
WORK := work/demo_seed$(SEED)

.PHONY: demo test browser clean

demo: $(VENV)/installed
	$(DEMO) --mode=prepare
	$(DEMO):baseline --workdir=$(WORK)_baseline --config.seed=$(SEED)
	$(DEMO):multigrid --workdir=$(WORK)_multigrid --config.seed=$(SEED)
	$(RUN) -m mg_jax.compare $(WORK)_baseline $(WORK)_multigrid
	$(RUN) main.py --mode=report --runs=$(WORK)_baseline,$(WORK)_multigrid --workdir=$(WORK)_report

test: browser $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m pytest -n 2 --dist worksteal

# Before anything is installed or run.
browser:
	@$(PYTHON) tests/browser.py

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "mg_jax needs Python 3.11 or 3.12; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "creating a virtual environment failed; on Debian: apt-get install python3-venv"; exit 1; }
	touch $@

$(VENV)/installed: requirements.txt | $(VENV)/python
	$(VENV)/bin/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements.txt requirements-dev.txt | $(VENV)/python
	$(VENV)/bin/pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf work .cache
