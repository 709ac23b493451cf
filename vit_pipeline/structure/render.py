"""What ``describe`` and ``compare`` return, as text (rich), and as Markdown and a page (jinja2).

The page has neither script nor network; names that come from a model or its config stay text everywhere.
Leaves out: what the rows say (``rows``), the looks (``*.md.j2``, ``*.html.j2``, ``style.css``).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table

from ..errors import printable
from ..roles import ROLES
from .measure import Cost
from .rows import WORDS, Row
from .text import Mosaic, Sheet, wrap
from .trace import Seen, Step

_LENSES = ("position_embeddings", "residual_mlp")  # the steps after which the lens looks


Block = str | Sheet | RenderableType


@cache
def _templates(escape: Callable[[Any], str] | None) -> Environment:
    """Of this folder, where every value is escaped: as HTML, or by the function given."""
    return Environment(
        loader=PackageLoader("vit_pipeline", "structure"),
        autoescape=escape is None,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def escape_markdown(text: Any) -> str:
    """Text that means nothing to Markdown or HTML, on one line."""
    return re.sub(r"[|<>&\[\]*_`\\]", lambda found: f"&#{ord(found[0])};", " ".join(str(text).split()))


class Shown:
    """What prints as text, and has a Markdown page, an HTML page and a view in notebooks."""

    _template: ClassVar[str]

    def _text(self, width: int) -> Iterator[Block]:
        """Its lines and tables, for a text of this width."""
        raise NotImplementedError

    def _view(self) -> dict[str, Any]:
        """The values for its templates."""
        raise NotImplementedError

    def to_text(self, width: int = 100) -> str:
        """In ``width`` columns, without colour: the wider, the more columns the table has."""
        file = io.StringIO()
        plain: dict[str, Any] = {"color_system": None, "legacy_windows": False, "force_jupyter": False}
        Console(file=file, width=width, **plain).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def to_markdown(self) -> str:
        """With every column, for a page in Markdown."""
        return _templates(escape_markdown).get_template(f"{self._template}.md.j2").render(self._view())

    def to_html(self, *, fragment: bool = False) -> str:
        """One self-contained page, collapsible, light and dark; ``fragment``: the part inside ``<body>``."""
        template = _templates(None).get_template(f"{self._template}.html.j2")
        return template.render(self._view(), fragment=fragment)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html(fragment=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        for block in self._text(width):
            if isinstance(block, Sheet):
                yield block.to_rich(width)
            else:
                yield wrap(block, width) if isinstance(block, str) else block


@dataclass(frozen=True, repr=False)
class ModelStructure(Shown):
    """A model's structure. ``print`` it, or take ``to_dict()``, ``to_markdown()``, ``to_html()``."""

    _template = "structure"

    name: str
    class_name: str
    lang: str
    order: str
    library: str  #: the installed transformers, whose tree this is
    settings: dict[str, Any]
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    params: int
    cost: Cost
    rows: tuple[Row, ...]
    not_counted: tuple[str, ...] = ()  #: modules with weights whose cost is not known
    steps: tuple[Step, ...] = ()  #: the trace of an image, if one was given
    source: str = ""  #: the image's name
    seen: Seen | None = None  #: the image; None for pixel values

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Memory of the weights in bytes, by dtype."""
        bytes_per_value = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
        return {dtype: self.params * size for dtype, size in bytes_per_value.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it; ``macs…`` as in :class:`vit_pipeline.structure.measure.Cost`."""
        entry: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for picture in ("image", "veil") if self.seen else ():
            del entry["seen"][picture]
        return entry | {"weight_bytes": self.weight_bytes}

    @property
    def _title(self) -> str:
        """What follows the name: class, version, shapes."""
        parts = [self.class_name] if self.class_name != self.name else []
        parts += [self.library, f"{_dims(self.input_shape)} → {_dims(self.output_shape)}"]
        return " · ".join(parts + [WORDS[self.lang]["declared"]] * (self.order == "module"))

    @property
    def _facts(self) -> list[tuple[str, str, str]]:
        """What, how much, and a note: parameters and memory, and the cost in each convention."""
        words = WORDS[self.lang]
        values = {key: _human(number, 2) for key, number in vars(self.cost).items()}
        values |= {dtype: f"{_human(size)}B" for dtype, size in self.weight_bytes.items()}
        values |= {"tables": _human(self.cost.macs_timm_tables, 3)}
        amounts = f"{self.params:,}", _human(self.cost.macs, 3), _human(self.cost.macs_timm, 3)
        keys = ("params", "macs", "macs_timm")
        notes = [words[f"{key}_note"].format_map(values) for key in keys]
        return [(words[key], amount, note) for key, amount, note in zip(keys, amounts, notes, strict=True)]

    @property
    def _headline(self) -> list[str]:
        facts = [WORDS[self.lang]["fact"].format(*fact) for fact in self._facts]
        return [f"{self.name} · {self._title}", *facts]

    def _shown(self) -> Iterator[tuple[Row, int]]:
        """Rows and depths, without the model itself, which the headline is about, and lists of layers."""
        above: list[int] = []
        for row, following in zip(self.rows, [*self.rows[1:], self.rows[0]], strict=True):
            above = [depth for depth in above if depth < row.depth]
            if following.depth > row.depth and (row.class_name == "ModuleList" or not row.depth):
                above.append(row.depth)
            else:
                yield row, row.depth - len(above)

    def _table(self) -> Sheet:
        rows = [_cells(row, self.lang) | {"depth": depth} for row, depth in self._shown()]
        keys = ("module", "class", "older", "in", "out", "params", "macs", "role")
        titles = {key: WORDS[self.lang][key] for key in keys}
        spare = ("older", "class", "in", "macs", "out", "params")
        return Sheet(titles, rows, right=("in", "params", "macs"), spare=spare)

    def _text(self, width: int) -> Iterator[Block]:
        """The image, headline, table, what columns that do not fit would say, the trace, the class."""
        words, table = WORDS[self.lang], self._table()
        if self.seen:
            captions, cells = (self._caption, words["attention"]), (self.seen.colours, self.seen.attention)
            if 4 * len(self.seen.attention[0]) + 4 <= width:  # side by side
                beside = Table.grid(padding=(0, 4), expand=True)
                beside.add_row(*(wrap(caption, width // 2 - 4) for caption in captions))
                beside.add_row(*map(Mosaic, cells))
                yield beside
            else:
                yield from (captions[0], Mosaic(cells[0]), captions[1], Mosaic(cells[1]))
            yield ""
        yield from self._headline
        yield table
        left = table.fit(width)
        classes, older = [], []
        for row in self.rows[1:]:
            said = row.layers or row.label.replace("_", "") in row.class_name.lower()  # by its name
            if "class" not in left and row.kind == "module" and row.class_name != "ModuleList" and not said:
                classes.append((row.label, row.class_name))
            if "older" not in left:
                older.append((row.label, _cells(row, self.lang)["older"]))
        yield words["sum"] + _legend(words["classes"], classes)
        if legend := _legend(words["names"], older):
            yield legend
        if self.not_counted:
            yield words["not_counted"] + " · ".join(self.not_counted)
        if self.steps:
            yield from ("", words["trace"].format(self.source), self._trace(), self._trace_legend)
        if self._answer:
            yield from ("", self._answer)

    @property
    def _caption(self) -> str:
        """Of the image as the model sees it."""
        assert self.seen is not None
        height, width = self.seen.patch
        rows, cols = len(self.seen.attention), len(self.seen.attention[0])
        given = {"rows": rows, "cols": cols, "height": height, "width": width}
        return WORDS[self.lang]["image"].format(name=printable(self.source), **given)

    @property
    def _answer(self) -> str:
        """The class and its probability; nothing of a backbone, or without an image."""
        if not self.seen or not self.seen.lens:
            return ""
        label, score = self.seen.lens[-1]
        return WORDS[self.lang]["answer"].format(label=printable(label), score=score)

    @property
    def _trace_legend(self) -> str:
        keys = ["trace_legend"] + ["lens_legend"] * bool(self._answer)
        keys += ["exactness_legend"] * any(step.difference is not None for step in self.steps)
        return "".join(WORDS[self.lang][key] for key in keys)

    def _trace(self) -> Sheet:
        """The trace of an image: of equal layers that are folded only the first step by step."""
        titles = {key: WORDS[self.lang][key] for key in ("step", "out", "mean", "std", "cls")}
        lens = iter(self.seen.lens if self.seen else ())
        exact = any(step.difference is not None for step in self.steps)
        titles |= {
            key: WORDS[self.lang][key] for key in ["lens"] * bool(self._answer) + ["difference"] * exact
        }
        folded = [row.layers for row in self.rows if row.layers and row.role == "layer"]
        brief = {index for first, last in folded for index in range(first + 1, last + 1)}
        rows = []
        for step in self.steps:
            label, score = next(lens, ("", 0.0)) if step.role in _LENSES else ("", 0.0)
            label = label.partition(",")[0]  # of several names the first
            if step.layer in brief and step.role != "residual_mlp":
                continue
            numbers = {"mean": (step.mean, ".4f"), "std": (step.std, ".4f"), "cls": (step.cls_norm, ".3f")}
            numbers["difference"] = step.difference, ".1e"
            texts = {
                key: "" if value is None else format(value, form) for key, (value, form) in numbers.items()
            }
            texts |= {"step": step.name, "out": _dims(step.shape), "lens": label and f"{label} {score:.2%}"}
            rows.append(texts | {"depth": 0, "marked": step.role in (*_LENSES, "classifier")})
        right = ("mean", "std", "cls", "lens", "difference")
        return Sheet(titles, rows, right=right, spare=("mean", "std", "cls"))

    def _view(self) -> dict[str, Any]:
        def share(part: int, total: int) -> str:  # in percent of the model
            return f"{100 * part / total:.1f}" if part else ""

        def shares(row: Row) -> dict[str, str]:
            params, macs = row.repeat * row.params_total, row.repeat * row.cost_total.macs
            return {"params": share(params, self.params), "macs": share(macs, self.cost.macs)}

        return vars(self) | {
            "words": WORDS[self.lang],
            "title": self._title,
            "facts": self._facts,
            "headline": self._headline,
            "lines": [(row, _cells(row, self.lang)) for row in self.rows],
            "tree": [(row, depth, _cells(row, self.lang), shares(row)) for row, depth in self._shown()],
            "trace": self._trace() if self.steps else None,
            "trace_legend": self._trace_legend,
            "caption": self._caption if self.seen else "",
            "answer": self._answer,
        }


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Two structures side by side. Print it; ``to_dict()``, ``to_markdown()``, ``to_html()``."""

    _template = "compare"

    left: ModelStructure
    right: ModelStructure

    @property
    def settings(self) -> dict[str, tuple[Any, Any]]:
        """The settings in which the two configs differ: name → (left, right)."""
        names = dict.fromkeys([*self.left.settings, *self.right.settings])
        pairs = {name: (self.left.settings.get(name), self.right.settings.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_dict(self) -> dict[str, Any]:
        """Both structures and the settings that differ, ready for JSON."""
        settings = {name: list(pair) for name, pair in self.settings.items()}
        return {"left": self.left.to_dict(), "right": self.right.to_dict(), "settings": settings}

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        """The rows of both tables in their order; None where a table lacks the row."""
        ours, theirs = self.left._table().rows, self.right._table().rows
        a_keys, b_keys = ([row["key"] for row in rows] for rows in (ours, theirs))
        for kind, a, a_end, b, b_end in SequenceMatcher(None, a_keys, b_keys, autojunk=False).get_opcodes():
            if kind == "equal":
                yield from zip(ours[a:a_end], theirs[b:b_end], strict=True)
            else:
                yield from ((row, None) for row in ours[a:a_end])
                yield from ((None, row) for row in theirs[b:b_end])

    def _view(self) -> dict[str, Any]:
        words, columns, rows = WORDS[self.left.lang], ("out", "params", "macs"), []
        for pair in self._pairs():
            cells = {"module": " | ".join(dict.fromkeys(side["module"] for side in pair if side))}
            for mark, side in zip("AB", pair, strict=True):
                cells |= {f"{mark} {key}": side[key] if side else "–" for key in columns}
            cells["differs"] = "" if pair[0] == pair[1] else "≠"
            rows.append(cells | {"depth": (pair[0] or pair[1])["depth"]})
        titles = {f"{mark} {key}": f"{mark} {words[key]}" for mark in "AB" for key in columns}
        titles = {"module": words["module"]} | titles | {"differs": ""}
        right = ("A params", "A macs", "B params", "B macs")
        sheets = [Sheet(titles, rows, right, spare=("B out", "A out", "B macs", "A macs"))]
        settings = [{"name": k, "A": str(a), "B": str(b), "depth": 0} for k, (a, b) in self.settings.items()]
        if settings:
            sheets.insert(0, Sheet({"name": words["setting"], "A": "A", "B": "B"}, settings))
        return {
            "lang": self.left.lang,
            "name": f"{self.left.name} · {self.right.name}",
            "heads": [("A", self.left._headline), ("B", self.right._headline)],
            "sheets": sheets,
        }

    def _text(self, width: int) -> Iterator[Block]:
        view = self._view()
        yield from (f"{mark} {line}" for mark, lines in view["heads"] for line in lines)
        for sheet in view["sheets"]:
            yield from ("", sheet)


def _human(number: float, digits: int = 1) -> str:
    """``17.6 G``: with a prefix, and as many digits after the point as asked for; 0 as a dot."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.{digits}f} {unit}"
    return str(number) if number else "·"


def _dims(shape: Sequence[int] | None) -> str:
    """``3×224×224``, without the batch of one; ``?`` where it is not known."""
    return "×".join(map(str, shape[1:])) if shape else "?"


def _cells(row: Row, lang: str) -> dict[str, Any]:
    """What each column says of a row; numbers are with those of the rows below."""
    # older names: without what all paths in a layer have in front, and only where they differ
    paths = (row.path, *row.tutorial_paths)
    here, *older = [re.sub(r"^.*\blayers?\.\d+\.|^vit\.", "", path) for path in paths]
    total = f"{row.params_total:,}" if row.params_total else "·"
    into, out = _dims(row.in_shape), _dims(row.out_shape)
    again = WORDS[lang]["call"].format(*row.call) + " · " if row.call and row.call[0] > 1 else ""
    return {
        "module": row.name,
        "class": row.class_name,
        "older": "" if older == [here] or row.role == "layer" else " + ".join(older),
        "in": f"{into} →" if row.in_shape else "",
        "out": out,
        "shape": f"{into} → {out}" if row.in_shape or row.out_shape else "",
        "params": total if row.params_total == row.params else f"Σ {total}",
        "macs": _human(row.cost_total.macs) if row.cost is not None else "?",
        "role": again + row.brief,
        "part": ROLES[row.role].part if row.role else "",
        "key": re.sub(r"\d+–\d+", "#", row.shown_path),  # the same for the same part of another model
    }


def _legend(intro: str, named: Iterable[tuple[str, str]]) -> str:
    """``intro q_proj, k_proj = Linear · …``; nothing where nothing is to be said."""
    labels: dict[str, dict[str, None]] = {}
    for label, meaning in named:
        labels.setdefault(meaning, {})[label] = None
    labels.pop("", None)
    said = " · ".join(f"{', '.join(names)} = {meaning}" for meaning, names in labels.items())
    return said and intro + said
