# make demo       classify the example photos, offline after the install
# make webui      the page in the browser, http://127.0.0.1:7860
# make test       the tests;  make test-quick: those that answer in under a minute;  make check-all: also the long ones
# make docs       builds the site, strictly, offline: docs/_build/index.html
# make explorer   writes docs/explorer.html, the cat followed through the embedded model
# make check      ruff, mypy, import-linter
# make notebooks  runs the course again;  make screenshots: those of the READMEs
PYTHON ?= python3
BIN := .venv/bin
# Gradio still declares pillow<13; Pillow 13 fixes two critical decoder bugs, and everything is tested on it.
PILLOW13 := $(BIN)/python -m pip install --quiet --no-deps pillow==13.0.0
PREDICT := $(BIN)/vit-pipeline predict --model demo
# A file's tests share what they load; the files with few tests are not the quick ones.
# One process more than cores: some tests wait, for a server or a time limit.
PARALLEL := --numprocesses $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-quick check-all webui notebooks screenshots docs explorer check fuzz format clean
.DELETE_ON_ERROR:

demo: .venv/installed
	@echo "Four photos of things that the embedded model knows:"
	$(PREDICT) examples/airplane.jpg examples/parrots.jpg examples/boat.jpg examples/cat.png
	@echo
	@echo "A cup, a rocket and an astronaut are none of its 10 classes; it must name one of them all the same:"
	$(PREDICT) examples/coffee.png examples/rocket.jpg examples/astronaut.png

webui: .venv/installed-all
	$(BIN)/python app.py

notebooks: .venv/installed-dev
	$(BIN)/python notebooks/build.py $(ONLY)

screenshots: .venv/installed-dev
	$(BIN)/python scripts/screenshots.py

docs: .venv/installed-dev
	$(BIN)/python scripts/build_docs.py

explorer: .venv/installed
	$(BIN)/vit-pipeline explore --model demo -o docs/explorer.html examples/cat.png

test: .venv/installed-dev
	$(BIN)/python -m pytest -m "not long" $(PARALLEL)

test-quick: .venv/installed-dev
	$(BIN)/python -m pytest -m "unit and not slow" $(PARALLEL)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-all: check fuzz
	$(BIN)/python -m pytest $(PARALLEL)

fuzz: .venv/installed-dev
	VIT_PIPELINE_FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/fuzz

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build docs/_build *.egg-info

# What predict needs, and nothing else.
.venv/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable .
	touch $@

# The course and the page in the browser too.
.venv/installed-all: .venv/installed requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(PILLOW13)
	touch $@

.venv/installed-dev: .venv/installed-all
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	$(PILLOW13)
	touch $@
