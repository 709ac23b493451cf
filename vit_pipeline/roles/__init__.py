"""What each part of a ViT is: its path and class in every version of transformers, its equation, its meaning.

A role belongs to a full path and a class, never to a name alone: ``attention.output.dense`` and
``output.dense`` are two things. What no role covers is unknown; nothing is guessed. The table is
``roles.toml``, the explanations are ``en.toml`` and ``zh.toml``. Leaves out: finding modules, shapes, costs.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files(__name__).joinpath(name).read_text(encoding="utf-8"))


LANGUAGES = ("en", "zh")
TEXTS = {
    lang: {key: (e["brief"], e["text"]) for key, e in _read(f"{lang}.toml").items()} for lang in LANGUAGES
}


@dataclass(frozen=True)
class Role:
    """One kind of part: a module, or (``classes`` empty) a parameter or a step that never prints."""

    key: str
    classes: frozenset[str]
    paths: tuple[str, ...]  #: where it is found, in any version of transformers
    old: tuple[str, ...]  #: path or paths in transformers ≤ 5.8, which checkpoint files still use
    equation: str  #: number in Dosovitskiy et al. 2021; empty where it has none
    part: str  #: of the model: "embed", "attend", "mlp", "classify" or none


def _roles() -> dict[str, Role]:
    table = _read("roles.toml")
    roles = {}
    for key, entry in table["role"].items():
        classes = " ".join(table["classes"].get(name, name) for name in entry.get("classes", "").split())
        live = [entry["path"]] if "path" in entry else []
        old = entry.get("old", live)
        paths = live if live and len(old) > 1 else dict.fromkeys([*live, *old])  # it replaced two modules
        equation, part = entry.get("equation", ""), entry.get("part", "")
        roles[key] = Role(key, frozenset(classes.split()), tuple(paths), tuple(old), equation, part)
    return roles


ROLES = _roles()
FLOW = {key: place for place, key in enumerate(ROLES)}  #: the order in which the data flows


def find_role(path: str, class_name: str | None, parent_known: bool = True) -> Role | None:
    """The role of a module, or (``class_name`` None) of a parameter of its own; None: unknown.

    ``parent_known``: the module around it has a role itself, or is the root. A familiar name below an
    unknown module means nothing.
    """
    for key in ("model", "backbone"):  # known by their class alone, wherever they are
        if class_name in ROLES[key].classes:
            return ROLES[key]
    found: dict[int, Role] = {}
    for role in ROLES.values() if parent_known else ():
        if class_name in role.classes if class_name is not None else not role.classes:
            found |= {len(known): role for known in role.paths if _regex(known).search(path)}
    return found[max(found)] if found else None


def older_paths(role: Role, path: str) -> tuple[str, ...]:
    """The same part's path, or paths, in transformers ≤ 5.8 and in checkpoint files."""
    matches = [match for known in role.paths if (match := _regex(known).search(path))]
    if not matches:
        return (path,)
    here = max(matches, key=lambda match: len(match[0]))
    index = here.groupdict().get("index") or ""
    return tuple(path[: here.start()] + name.replace("#", index) for name in role.old)


@cache
def _regex(path: str) -> re.Pattern[str]:
    return re.compile(r"(?:(?<=\.)|^)" + re.escape(path).replace(r"\#", r"(?P<index>\d+)") + "$")
