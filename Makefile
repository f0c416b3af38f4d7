# Everything on a fresh machine with Python >= 3.11, make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint docs clean

setup: $(READY)

$(READY): requirements.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: $(READY)
	rm -rf demo
	$(BIN)/cordlesion demo demo/bids
	$(BIN)/python run.py demo/bids demo/derivatives participant
	$(BIN)/python run.py demo/bids demo/derivatives group
	$(BIN)/cordlesion demo demo/bids --score demo/derivatives

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not browser and not container and not hpc"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site of docs/, in site/; an environment of its own, as it shares nothing with the app.
docs: .venv-docs/.ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/.ready: Makefile
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check mkdocs==1.6.1 mkdocs-material==9.8.1
	touch $@

clean:
	rm -rf $(VENV) .venv-docs site demo build dist *.egg-info
