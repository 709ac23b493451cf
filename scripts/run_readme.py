"""Run what the READMEs say, as they say it.

python3 scripts/run_readme.py            from nothing: a fresh clone of HEAD, one bash for each README
python scripts/run_readme.py --update    write what vit-pipeline prints now into the READMEs of this checkout

The ``console`` and ``python`` blocks run in order. Every command must succeed, and where a block shows what
it prints, print that. A block below ``<!-- not run: reason -->`` is passed over. The second README has the
same commands (tests/unit/test_readme.py) and runs in the same clone: of those, it runs what it shows
differently, and what changes the shell itself. Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh-CN.md")
_BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command of a console block, or a python block."""

    text: str
    shown: str = ""  # what the README says that it prints; empty: nothing is said
    language: str = "console"
    not_run: str = ""  # why not; empty: it runs


def read_steps(readme: str) -> list[Step]:
    """All steps of a README, in order."""
    steps = []
    for why, language, body in _BLOCK.findall(readme):
        if language == "python":
            steps.append(Step(body, language=language, not_run=why))
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                steps.append(Step(command, shown.strip("\n"), not_run=why))
    return steps


def script(steps: list[Step], outputs: Path) -> str:
    """The steps as one bash script, which stops at the first that fails.

    Braces run in the shell itself: what a command exports or activates holds for all that follow.
    """
    lines = []
    for number, step in enumerate(steps):
        if step.not_run:
            continue
        command = step.text
        if step.language == "python":
            command = f"python - <<'END OF BLOCK'\n{step.text}END OF BLOCK"
        lines += [
            f"echo {shlex.quote(f'[{number}] {step.text.splitlines()[0]}')}",
            f"{{\n{command}\n}} >{shlex.quote(str(outputs / str(number)))} || exit",
        ]
    return "\n".join(lines)


def differences(steps: list[Step], outputs: Path) -> list[str]:
    """Where something else was printed than is shown; the version of transformers aside."""
    found = []
    for number, step in enumerate(steps):
        if step.shown and not step.not_run:
            shown, printed = (
                re.sub(r"transformers \d+\.\d+\.\d+", "transformers", text).strip("\n").splitlines()
                for text in (step.shown, (outputs / str(number)).read_text(encoding="utf-8"))
            )
            found += difflib.unified_diff(shown, printed, step.text, "printed", lineterm="")
    return found


def without(steps: list[Step], before: list[Step]) -> list[Step]:
    """The steps; those that ran before are not run again, unless they change the shell itself."""
    return [
        replace(step, not_run=step.not_run or "seen")
        if step in before and not re.search(r"activate|export|cd ", step.text)
        else step
        for step in steps
    ]


def run(readme: str, steps: list[Step], clone: Path, outputs: Path) -> int:
    """Run a README's steps in a clone; 0, or what went wrong as an exit code."""
    outputs.mkdir()
    program = outputs / "script"
    program.write_text(script(steps, outputs), encoding="utf-8")
    active = str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else None
    path = [place for place in os.environ["PATH"].split(os.pathsep) if place != active]
    environment = os.environ | {"PATH": os.pathsep.join(path)}
    for name in ("VIRTUAL_ENV", "PYTHONPATH"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", program], cwd=clone, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        last = max(int(path.name) for path in outputs.iterdir() if path != program)
        print((outputs / str(last)).read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
        print(f"{readme}: exit code {done.returncode} from: {steps[last].text}", file=sys.stderr)
        return done.returncode
    if different := differences(steps, outputs):
        print(f"{readme}: something else was printed:", *different, sep="\n", file=sys.stderr)
        return 1
    ran = sum(not step.not_run for step in steps)
    seen = sum(step.not_run == "seen" for step in steps)
    marked = len(steps) - ran - seen
    print(f"{readme}: {ran} steps ran, {seen} were seen before, {marked} are marked as not run", flush=True)
    return 0


def update(readme: Path) -> None:
    """Write what the shown vit-pipeline commands print now, in this checkout and this environment."""
    text = readme.read_text(encoding="utf-8")
    for step in read_steps(text):
        if step.shown and step.text.startswith("vit-pipeline ") and not step.not_run:
            command = [sys.executable, "-m", "vit_pipeline", *shlex.split(step.text, comments=True)[1:]]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True)
            printed = done.stdout.strip("\n")
            text = text.replace(f"$ {step.text}\n{step.shown}\n", f"$ {step.text}\n{printed}\n")
    readme.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="write, instead of comparing")
    parser.add_argument("--repository", type=Path, default=ROOT, help=argparse.SUPPRESS)  # for the tests
    options = parser.parse_args()
    if options.update:
        for name in READMES:
            update(ROOT / name)
        return
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", options.repository, clone], check=True)
        before: list[Step] = []
        for number, readme in enumerate(READMES):
            steps = read_steps((clone / readme).read_text(encoding="utf-8"))
            if code := run(readme, without(steps, before), clone, Path(name) / str(number)):
                sys.exit(code)
            before += steps


if __name__ == "__main__":
    main()
