# Everything a checkout needs, from a fresh machine: `make app`, `make test`.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

# a line for each package; modules are compiled when they are first imported, many of them never
PIP = $(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt

# without compiled modules on disk each test process compiles the package and rewrites pytest's plugins again: 5 s CPU
unexport PYTHONDONTWRITEBYTECODE

.PHONY: app test test-thorough test-fast lint notebooks pictures bench bench-validation soak constraints clean

app: $(VENV)/.app  ## the app at a printed URL, on the embedded database; demo data is made meanwhile
	$(BIN)/usage-explore app

test: $(VENV)/.dev  ## the tests of a commit, in a real database and a real browser
	.ci/browser $(BIN)/python
	.ci/nginx $(VENV)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-thorough: export USAGE_EXPLORE_TEST_THOROUGH = 1
test-thorough: test  ## every test, with all random cases: before a release

test-fast: $(VENV)/.dev  ## the tests without database, browser or slow parts: under 30 s
	$(BIN)/python -m pytest -q -m "not database and not browser and not slow"

lint: $(VENV)/.dev  ## linter, formatter, types, layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

notebooks: $(VENV)/.dev  ## JupyterLab on the first notebook, with demo data
	$(BIN)/usage-explore demo
	$(BIN)/jupyter lab notebooks/01-explore.ipynb

pictures: $(VENV)/.dev  ## renew the pictures of the app in docs/
	$(BIN)/usage-explore demo
	$(BIN)/python docs/pictures.py

soak: $(VENV)/.dev  ## 50 clients for 10 minutes over app and API; SOAK="--clients 50 --minutes 10" changes that
	.ci/browser $(BIN)/python
	$(BIN)/python benchmarks/soak.py $(SOAK)

bench: $(VENV)/.bench  ## usage-explore beside a dashboard's statement, DuckDB and chDB; BENCH="--rows 1000000" is quicker
	$(BIN)/python -m benchmarks $(BENCH)

bench-validation: $(VENV)/.dev  ## how many planted incidents a validation names, and in how many findings: 10 minutes
	$(BIN)/python -m benchmarks.planted_histories

constraints: $(VENV)/.dev  ## renew the pins in constraints.txt
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --upgrade --no-annotate --no-header --no-emit-index-url \
		--extra bench --extra dev --quiet --output-file constraints.txt pyproject.toml

clean:  ## remove the virtual environment and what the tools left
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis src/*.egg-info

$(VENV)/.app: pyproject.toml constraints.txt | $(VENV)/.python
	@echo "Installing usage-explore and about 65 packages (640 MB on disk) into $(VENV): usually 1 to 3 minutes, once."
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	@echo "Installing what development needs into $(VENV): usually 2 to 5 minutes, once."
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.app

$(VENV)/.bench: $(VENV)/.app
	@echo "Installing what the benchmarks need into $(VENV): usually 1 to 3 minutes, once."
	$(PIP) --editable '.[bench]'
	touch $@

$(VENV)/.python:
	@echo "Creating the virtual environment $(VENV): some seconds."
	.ci/venv $(PYTHON) $(VENV)
	touch $@
