"""A model's structure as one self-contained page: collapsible, light and dark, no script, no network.

Every name that comes from a model or its config is escaped. Leaves out: the text table (``text``).
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from .style import STYLE
from .text import difference_titles, row_name, shape_text, shown_steps, step_cells
from .text_table import dims, human
from .words import WORDS

if TYPE_CHECKING:
    from . import ModelStructure
    from .rows import Row

# colour of the bar beside a row: what the part belongs to
_FAMILIES = {
    "embed": "embeddings patch_embeddings projection mask_token cls_token position_embeddings "
    "embedding_dropout",
    "attend": "attention self_attention query key value split_heads attention_core attention_dropout "
    "attention_output attention_dense attention_output_dropout layernorm_before residual_attention",
    "mlp": "mlp intermediate fc1 activation output fc2 mlp_dropout layernorm_after residual_mlp",
    "classify": "final_layernorm take_cls classifier pooler pooler_dense pooler_activation",
}
_FAMILY = {role: family for family, roles in _FAMILIES.items() for role in roles.split()}


def to_html(structure: ModelStructure, *, fragment: bool = False) -> str:
    """The page, or only its part inside ``<body>`` (with its style) for a notebook."""
    body = "\n".join(_body(structure))
    section = (
        f'<section class="vit-structure" lang="{structure.lang}">\n<style>{STYLE}</style>\n{body}\n</section>'
    )
    if fragment:
        return section
    return (
        f'<!doctype html>\n<html lang="{structure.lang}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(structure.name)}</title>\n</head>\n"
        f'<body class="vit-structure-page">\n{section}\n</body>\n</html>\n'
    )


def _body(structure: ModelStructure) -> Iterator[str]:
    words, cost = WORDS[structure.lang], structure.cost
    yield f"<header><h1>{escape(structure.name)}</h1>"
    order = [words["execution"]] if structure.order == "execution" else []
    ends = f"{dims(structure.input_shape)} → {dims(structure.output_shape)}"
    yield f"<p>{' · '.join(map(escape, (structure.class_name, structure.library, ends, *order)))}</p>"
    yield '<dl class="vs-facts">'
    memory = " · ".join(f"{dtype} {human(size)}B" for dtype, size in structure.weight_bytes.items())
    yield _fact(words["params"], f"{structure.params:,}", f"{words['weights']}: {memory}")
    for macs, activations, how in (
        (cost.macs, cost.activations, words["counted"]),
        (cost.macs_timm, cost.activations_timm, words["timm"]),
    ):
        yield _fact("MACs", human(macs, 3), f"{human(activations, 2)} {words['activations']} · {how}")
    yield "</dl></header>"
    titles = (("module", ""), ("shape", ""), ("params", "vs-n"), ("macs", "vs-n"), ("role", ""))
    heads = "".join(f'<span class="{css}">{escape(words[key])}</span>' for key, css in titles)
    yield f'<div class="vs-row vs-head">{heads}</div>'
    yield '<div class="vs-tree">'
    yield from _tree(structure)
    yield "</div><footer>"
    if structure.not_counted:
        yield f"<p>{escape(words['not_counted'] + ', '.join(structure.not_counted))}</p>"
    yield f"<p>{escape(words['legend'])} {escape(words['convention'])}</p>"
    yield f"<p>{escape(words['source'])}</p></footer>"
    if structure.steps:
        yield from _walk(structure)


def _fact(name: str, value: str, note: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"


def _tree(structure: ModelStructure) -> Iterator[str]:
    rows = structure.rows
    open_depths: list[int] = []
    for place, row in enumerate(rows):
        while open_depths and row.depth <= open_depths[-1]:
            open_depths.pop()
            yield "</details>"
        following = rows[place + 1].depth if place + 1 < len(rows) else 0
        if following > row.depth:
            open_depths.append(row.depth)
            yield f"<details open><summary>{_row(row, structure)}</summary>"
        else:
            yield _row(row, structure)
    yield "</details>" * len(open_depths)


def _row(row: Row, structure: ModelStructure) -> str:
    words = WORDS[structure.lang]
    family = _FAMILY.get(row.role or "", "")
    kind = " ".join(
        filter(None, ["vs-row", f"vs-part vs-{family}" if family else "", "vs-inert" if row.inert else ""])
    )
    name = f"<b>{escape(row_name(row))}</b>"
    if row.layers:
        name += f' <span class="vs-times">× {row.layers[1] - row.layers[0] + 1}</span>'
    if row.kind == "module" and row.class_name != row_name(row):
        name += f" <i>{escape(row.class_name)}</i>"
    badges = [words["never_prints"]] if row.kind != "module" else []
    badges += [words["does_nothing"]] if row.inert else []
    badges += [words["call"].format(*row.call)] if row.call else []
    tags = "".join(f'<em class="vs-tag">{escape(badge)}</em>' for badge in badges)
    tags += f'<em class="vs-tag vs-unknown">{escape(words["unknown"])}</em>' if row.role is None else ""
    return (
        f'<div class="{kind}" style="--depth:{row.depth}">'
        f'<span class="vs-name"><span>{name}{tags}</span>{_paths(row, words)}</span>'
        f'<span class="vs-shape">{escape(shape_text(row)).replace("→", " → ")}</span>'
        f"{_number(row.params_total, row, structure.params, words['params'])}"
        f"{_number(row.cost_total.macs, row, structure.cost.macs, words['macs'])}"
        f'<span class="vs-text">{escape(row.text)}{_equation(row)}</span></div>'
    )


def _paths(row: Row, words: dict[str, str]) -> str:
    if row.kind == "step" or not row.path:
        return ""
    older = [_ranged(path, row) for path in row.tutorial_paths] if row.role else []
    key = [_ranged(row.checkpoint_key, row)] if row.checkpoint_key else []
    if older == key or not older or not key:
        title = ", ".join(filter(None, ["≤ 5.8" if older else "", words["key"] if key else ""]))
        named = [(title, older or key)]
    else:
        named = [("≤ 5.8", older), (words["key"], key)]
    lines = [f"<span>{_path(row.shown_path)}</span>"]
    for title, paths in named:
        same = paths == [row.shown_path]
        value = escape(words["same"]) if same else " + ".join(map(_path, paths))
        lines.append(f"<span>{escape(title)}: {value}</span>" if paths else "")
    return f'<small class="vs-paths">{"".join(lines)}</small>'


def _path(path: str) -> str:
    """A path that breaks only behind its dots."""
    return f"<code>{'.<wbr>'.join(f'<span>{escape(part)}</span>' for part in path.split('.'))}</code>"


def _ranged(path: str, row: Row) -> str:
    """The path with the folded layers as a range, as in ``row.shown_path``."""
    here = zip(row.path.split("."), row.shown_path.split("."), strict=True)
    changed = dict(pair for pair in here if pair[0] != pair[1])
    return ".".join(changed.get(part, part) for part in path.split("."))


def _number(value: int, row: Row, total: int, label: str) -> str:
    """A number, and a bar for its share of the whole model (all equal layers together)."""
    summed = "Σ " if row.params_total != row.params or row.cost_total != row.cost else ""
    share = 100 * row.repeat * value / total if total else 0
    bar = f'<span class="vs-bar" style="--share:{share:.2f}%" title="{share:.1f} %"></span>' if value else ""
    text = f"{summed}{value:,}" if value else '<span class="vs-zero">0</span>'
    return f'<span class="vs-n" data-label="{escape(label)}">{text}{bar}</span>'


def _equation(row: Row) -> str:
    return f' <em class="vs-tag vs-eq">{escape(row.equation)}</em>' if row.equation else ""


def _walk(structure: ModelStructure) -> Iterator[str]:
    words = WORDS[structure.lang]
    titles = [words[key] for key in ("step", "output", "mean", "std", "cls")] + difference_titles(structure)
    yield f"<h2>{escape(words['walk'].format(source=structure.source))}</h2>"
    yield '<div class="vs-scroll"><table><thead><tr>'
    kinds = ["" if place < 2 else ' class="vs-n"' for place in range(len(titles))]
    yield "".join(f"<th{kind}>{escape(title)}</th>" for kind, title in zip(kinds, titles, strict=True))
    yield "</tr></thead><tbody>"
    for step in shown_steps(structure):
        name, shape, *numbers = step_cells(step)[: len(titles)]
        result = ' class="vs-result"' if step.difference is not None else ""
        yield f"<tr{result}><td><code>{escape(name)}</code></td><td>{shape}</td>"
        yield "".join(f'<td class="vs-n">{number}</td>' for number in numbers) + "</tr>"
    yield f"</tbody></table></div><p>{escape(words['walk_legend'])}</p>"
