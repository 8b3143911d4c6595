# Two commands do everything from a fresh clone: `make train` and `make test`.
# They need python3 (3.11 or newer) and make; the rest installs into $(VENV).

PYTHON ?= python3
VENV   ?= .venv
WORKDIR ?= runs/digits_losses
BIN    := $(VENV)/bin

.PHONY: train test test-quick test-long lint docs clean

train: $(VENV)/installed
	$(BIN)/python -m train.compare --config configs/digits.py \
	  --losses softmax,as_softmax --seeds 0,1,2 --workdir $(WORKDIR)

test: lint test-quick

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-quick: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-long: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m long

docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python -m pdoc --docformat google --math --output-directory build/docs as_softmax_jax

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "as_softmax_jax needs Python 3.11 or newer; $(PYTHON) is older. Say which one to use: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,test]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
