# `make run` starts a gateway, `make test` proves it, `make check` is the quick look (under a minute), `make fuzz` looks
# for input that breaks it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run native test check fuzz bench format clean

run: $(VENV)/.run
	@$(BIN)/gatepost run

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Gatepost needs Python 3.11 or newer; try: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,fast]'
	@touch $@

# the plugin hosts, for every system there is a compiler for (tests/needs.sh installs them)
native: $(VENV)/.run
	@$(BIN)/python native/build.py

test: $(VENV)/.dev
	@sh tests/needs.sh
	@$(BIN)/python native/build.py
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n 2 -rs tests

check: $(VENV)/.dev native
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 tests/unit tests/laws tests/scenes --ignore tests/unit/plugins_host

# a minute for each target of tests/fuzz, or FUZZ_S seconds
FUZZ_S ?= 60
fuzz: $(VENV)/.dev
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	@for target in tests/fuzz/fuzz_*.py; do \
		echo "$$target"; \
		PYTHONPATH=tests $(BIN)/python $$target -max_total_time=$(FUZZ_S) -timeout=20 -artifact_prefix=$(VENV)/ -verbosity=0 -print_final_stats=1 || exit 1; \
	done

# Wants two idle processors and Postfix's smtp-source and smtp-sink; about a quarter of an hour.
bench: $(VENV)/.dev
	$(BIN)/python bench/run.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf src/gatepost/plugins/host/built .wine $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
