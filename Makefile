# make demo      classify the example photos, offline after the install
# make webui     the page in the browser, http://127.0.0.1:7860
# make test      the test-suite;  make check: ruff, mypy, import-linter;  make fuzz: the fuzz tests, long
# make notebooks runs both notebooks again;  make screenshots: those of the READMEs
PYTHON ?= python3
BIN := .venv/bin
# Gradio still declares pillow<13; Pillow 13 fixes two critical decoder bugs, and the WebUI is tested on it.
PILLOW := pillow==13.0.0

.PHONY: demo test webui notebooks screenshots check fuzz format clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/vit-pipeline predict --model demo examples/*.png examples/*.jpg

webui: .venv/installed
	$(BIN)/python app.py

notebooks: .venv/installed-dev
	$(BIN)/python notebooks/build.py

screenshots: .venv/installed-dev
	$(BIN)/python scripts/screenshots.py

test: .venv/installed-dev
	$(BIN)/python -m pytest

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: .venv/installed-dev
	VIT_PIPELINE_FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/fuzz

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info

.venv/installed: requirements.txt constraints.txt setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	$(BIN)/python -m pip install --quiet --no-deps $(PILLOW)
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps $(PILLOW)
	touch $@
