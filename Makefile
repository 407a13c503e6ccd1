# Two commands are enough: `make demo` and `make test`. Both set up .venv first.
# Another interpreter: make setup PYTHON=python3.13
PYTHON ?= python3.11
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
SHELL := bash

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/ready  ## a virtual environment with the exact versions of constraints.txt

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: setup  ## phantoms → U-Net → masks → features → LSTM → report, in minutes
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh demo

test: setup  ## all tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy --platform win32  # names that Windows and macOS lack
	$(BIN)/mypy --platform darwin

reference: setup  ## docs/reference/ from the code, after a change of commands, settings or error codes
	$(BIN)/python scripts/make_reference.py

docs: setup  ## the documentation as a site, in site/, which asks the network for nothing
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python scripts/check_site.py site

torture: setup  ## kills at random moments, thousands of files, a volume of 512×512×800; a quarter of an hour
	$(BIN)/python -m pytest -q -n 2 --dist load -m torture

bench: setup  ## speed and memory on this machine, side by side with a naive way
	$(BIN)/python scripts/bench.py

accuracy: export PATH := $(CURDIR)/$(BIN):$(PATH)
accuracy: setup  ## every recipe on real data: make accuracy DATA=folder [OUT=runs/accuracy]; hours
	@test -n "$(DATA)" || { echo "DATA=folder with brain/ breast/ lung/ retina/ skin/"; exit 2; }
	whole=0; for part in accuracy accuracy_diagnosis; do \
	  $(BIN)/python scripts/$$part.py $(DATA) $(or $(OUT),runs/accuracy) || whole=1; done; exit $$whole

.PHONY: help setup demo test torture lint types reference docs bench accuracy
