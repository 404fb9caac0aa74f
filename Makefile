# make reproduce [DATA_ROOT=folder] [CORES=n] [SOURCE=stored|weights|train]    the whole reproduction, into build/
# make test [DATA_ROOT=folder] [CORES=n]                                        linters, types, tests, notebooks
# make slow                                                                     tests of minutes: kills, a cluster, the whole site
# make env · make clean · make help; TESTS='tests/test_x.py -k name' narrows pytest
# Needs only Python 3.11 to 3.13, make and a C compiler. PYTHON=/path/to/python picks the interpreter.

SHELL = /bin/sh
.DEFAULT_GOAL := help
.PHONY: help env test slow reproduce clean
.DELETE_ON_ERROR:

PYTHON ?=
DATA_ROOT ?= $(CROWDLOC_DATA)
CORES ?=
SOURCE ?= weights
TESTS ?=
export DATA_ROOT PYTHON

PY := .venv/bin/python
# The stamp's name holds a hash of what the installation depends on (also its own place), so file times play no part.
STAMP := .venv/installed-$(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d ' ' -f 1)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# Recipes start with this: the data root as an absolute path for everything that is called.
WITH_DATA = if [ -n "$$DATA_ROOT" ]; then \
	CROWDLOC_DATA=$$(cd "$$DATA_ROOT" 2>/dev/null && pwd) || { echo "DATA_ROOT: no folder $$DATA_ROOT"; exit 2; }; \
	export CROWDLOC_DATA; fi
# $(call step,title,command): announce, run, say how long it took.
step = @$(WITH_DATA); echo "== $(1)"; start=$$(date +%s); $(2) || exit $$?; echo "   $(1): $$(($$(date +%s) - start)) s"

# One notebook against its stored output: a line if it is as stored, else what differs; several run side by side.
NBVAL = sh -c 'log=build/nbval/$$(basename "$$0" .ipynb).log; \
	$(PY) -m pytest -p no:cacheprovider --nbval --nbval-cell-timeout=240 --nbval-sanitize-with tests/nbval.cfg "$$0" \
	    >"$$log" 2>&1 && echo "   $$0: $$(tail -n 1 "$$log" | tr -d =)" || { cat "$$log"; exit 1; }'
CPUS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

help:
	@sed -n '1,5s/^# //p' Makefile

env: $(STAMP)

$(STAMP):
	@set -e; \
	if ! $(PY) -c 'import pip; $(SUPPORTED)' >/dev/null 2>&1; then \
	    found=; bare=; \
	    set -- python3 python3.13 python3.12 python3.11 python; \
	    if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; fi; \
	    for python do \
	        "$$python" -c '$(SUPPORTED)' >/dev/null 2>&1 || continue; \
	        if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$python; break; fi; \
	        bare=$${bare:-$$python}; \
	    done; \
	    if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	        echo "$$bare has no venv module: install it (Debian, Ubuntu: apt install python3-venv), then run make again"; exit 2; \
	    elif [ -z "$$found" ]; then \
	        echo "no Python 3.11, 3.12 or 3.13 on PATH: install one, or name it: make PYTHON=/path/to/python3.12"; exit 2; \
	    fi; \
	    echo "== creating .venv with $$found ($$("$$found" --version 2>&1))"; \
	    rm -rf .venv; "$$found" -m venv .venv; \
	fi; \
	echo "== installing about 190 packages into .venv: 3 to 10 minutes, 7 GB (log: .venv/install.log)"; \
	start=$$(date +%s); rm -f .venv/installed-* .venv/failed; \
	{ $(PY) -m pip install --disable-pip-version-check --no-input --progress-bar off \
	    --constraint constraints.txt --editable '.[test]' 2>&1 || echo failed >.venv/failed; } \
	| tee .venv/install.log \
	| awk '/^Collecting/ { if (++n % 20 == 0) print "   " n " packages found" } \
	       /^Installing collected/ { print "   downloaded, now unpacking " NF - 3 " packages" } \
	       /^ERROR/ { print } { fflush() }'; \
	if [ -f .venv/failed ]; then \
	    echo "installation failed: see .venv/install.log; with a network connection and 7 GB free, run make again"; exit 2; \
	fi; \
	echo "   installed in $$(($$(date +%s) - start)) s"; touch $@

test: $(STAMP)
	$(call step,ruff check,$(PY) -m ruff check .)
	$(call step,ruff format,$(PY) -m ruff format --check .)
	$(call step,mypy,$(PY) -m mypy)
	$(call step,pytest,$(PY) -m pytest -p no:nbval $(if $(TESTS),$(TESTS),-m "not slow"))
	$(call step,notebooks,mkdir -p build/nbval; ls notebooks/*.ipynb | OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 xargs -n 1 -P $(or $(CORES),$(CPUS)) $(NBVAL))

slow: $(STAMP)
	$(call step,slow tests,$(PY) -m pytest -p no:nbval -m slow $(TESTS))

reproduce: $(STAMP)
	@$(WITH_DATA); exec $(PY) -m crowdloc run all --source $(SOURCE) $(if $(CORES),--cores $(CORES))

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .snakemake
	find crowdloc tests notebooks -name __pycache__ -prune -exec rm -rf {} +
