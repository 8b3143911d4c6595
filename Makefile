# Two commands do everything from a fresh clone: `make train` and `make test`.
# They need python3 (3.11 or newer) and make; the rest installs into $(VENV).

PYTHON  ?= python3
VENV    ?= .venv
WORKDIR ?= runs/digits_losses
BIN     := $(VENV)/bin

# The oldest Python and the lowest versions that pyproject.toml allows.
OLDEST_PYTHON ?= python3.11
LOWEST        := .venv-lowest

.PHONY: train test test-quick test-long test-every lint lowest wheel docs clean

train: $(VENV)/installed
	$(BIN)/python -m train.compare --config configs/digits.py \
	  --losses softmax,as_softmax --seeds 0,1,2 --workdir $(WORKDIR)

test: lint test-quick

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-quick: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-long: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'long and not every'

# The long tests with those of each night: whatever compiles much, for every loss.
test-every: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

# The quick tests on the lowest versions of what `train`, `hub` and `test` need.
lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal

# The wheel on its own: built, installed alone, its examples run.
wheel: $(VENV)/installed
	$(BIN)/python tests/wheel.py

# The site: every page, its notebooks executed, its names, links and search checked.
docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going \
	  -b html -d build/doctrees docs build/docs
	$(BIN)/python docs/check_site.py build/docs

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "as_softmax_jax needs Python 3.11 or newer; $(PYTHON) is older. Say which one to use: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,test]'
	@touch $@

# From nothing each time: uv keeps what is installed where a lowered floor allows it too.
$(LOWEST)/installed: pyproject.toml
	@$(OLDEST_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "make lowest needs Python 3.11; say where it is: make lowest OLDEST_PYTHON=PATH"; exit 2; }
	$(OLDEST_PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python \
	  --resolution lowest-direct --editable '.[train,hub,test]'
	@touch $@

clean:
	rm -rf .venv .venv-newest $(VENV) $(LOWEST) build dist \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis
