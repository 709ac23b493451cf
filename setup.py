"""Dependencies are read from requirements.txt: what stands above the first ``# [name]`` line is needed by
the library; what stands below such a line makes the extra of that name."""

import re
from pathlib import Path

from setuptools import setup

sections: dict[str, list[str]] = {"": []}
section = ""
for line in Path(__file__).with_name("requirements.txt").read_text(encoding="utf-8").splitlines():
    if heading := re.match(r"# \[(\w+)\]", line):
        section = heading[1]
        sections[section] = []
    elif line.strip() and not line.startswith(("#", "-")):
        sections[section].append(line.strip())

needed = sections.pop("")
dev = [
    "ruff>=0.17",
    "mypy>=2.4",
    "types-requests",
    "import-linter>=2.16",
    "pytest>=9.2",
    "hypothesis>=6.170",
    "playwright>=1.65",
    "nbclient>=0.11",
    "nbconvert>=7.17",
]
setup(install_requires=needed, extras_require={**sections, "heic": ["pi-heif>=1.4"], "dev": dev})
