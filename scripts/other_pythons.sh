#!/usr/bin/env bash
# Python 3.12 and 3.13, as far as that goes without torch: the tested versions resolve, --help and what needs no torch runs.
# usage: scripts/other_pythons.sh [PYTHON ...]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- python3.12 python3.13
for python in "$@"; do
    "$python" --version
    folder=$(mktemp -d)
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --upgrade pip
    "$folder/bin/python" -m pip install --quiet --dry-run -c constraints.txt .
    "$folder/bin/python" -m pip install --quiet -c constraints.txt \
        pillow==13.0.0 numpy requests certifi filelock jinja2 typer rich safetensors pytest hypothesis
    PYTHONPATH=. "$folder/bin/python" -m vit_pipeline --help >/dev/null
    PYTHONPATH=. "$folder/bin/python" -m pytest -p no:cacheprovider \
        tests/unit/test_fetch.py tests/unit/test_sources.py tests/fuzz/test_fuzz_urls.py
    rm -rf "$folder"
done
