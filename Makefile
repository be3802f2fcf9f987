# Every target sets up .venv first. Nothing is installed again until pyproject.toml or constraints.txt changes.
PYTHON ?= python3
STORE ?= mlruns
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench ui screenshots

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(READY)  ## install the project and its tested dependencies into .venv

demo: $(READY)  ## run a sweep of 12 trials over optimizer settings, on images that come with scikit-learn
	@echo '== sweep "digits": 12 trials over optimizer settings, then the best 3 and the default settings over 3 seeds'
	@echo '== store: $(STORE)/'
	@$(BIN)/workbench sweep digits --store $(STORE)
	@echo '== done: "make ui" opens the dashboard'

test: $(READY)  ## run the whole test suite
	@echo '== pytest'
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(READY)  ## run ruff (check and format) and mypy in strict mode
	@echo '== ruff check'
	@$(BIN)/ruff check .
	@echo '== ruff format --check'
	@$(BIN)/ruff format --check .
	@echo '== mypy --strict'
	@$(BIN)/mypy

bench: $(READY)  ## compare the workbench with textbook versions of the same job; ARGS=--full: everything
	@$(BIN)/python -m benchmarks $(ARGS)

ui: $(READY)  ## open MLflow's dashboard on the store, on 127.0.0.1
	@$(BIN)/workbench ui --store $(STORE)

screenshots: $(READY)  ## take the pictures in docs/ from the store that make demo left (needs Debian's chromium-driver)
	@$(BIN)/python docs/screenshots.py --store $(STORE)

$(READY): pyproject.toml constraints.txt
	@echo '== installing into .venv (takes some minutes the first time: torch and mlflow are large)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --editable '.[dev,browser,int8,onnx,postgres,ray,serve]' --constraint constraints.txt
	@touch $@
