# What people type here. Needs git and Python 3.11 or newer; .ci/prepare gets the rest by itself.

PYTHON := .venv/bin/python

.PHONY: help demo test lint clean

help: ## say what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

demo: .venv/stamp ## show what the gate does; DIR=… where, KEEP=1 leaves it running, ARGS=… for anything else
	@$(PYTHON) demo/run.py $(if $(KEEP),--keep) $(ARGS) $(if $(DIR),-- "$(DIR)")

test: .venv/stamp ## run all tests
	@.ci/prepare programs
	@$(PYTHON) -m pytest -n auto $(ARGS)

lint: .venv/stamp ## ruff and mypy, as .ci/run does
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	MYPYPATH=demo $(PYTHON) -m mypy demo/run.py demo/stage.py

clean: ## remove the environment and all caches
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/stamp: requirements/dev.txt pyproject.toml .ci/prepare
	@.ci/prepare python
