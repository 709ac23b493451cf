"""What each part of a ViT is: paths, class, shapes and equation as data, and the lookup of a module's role.

A role belongs to a full path and a class, never to a name alone: ``attention.output.dense`` and
``output.dense`` are two things. Covers the trees of transformers 4.45 and ≤ 5.8 (``old``) and ≥ 5.9
(``live``), in the order in which the data flows. What no role covers is unknown; nothing is guessed.
The explanations are in ``en`` and ``zh``.

Equations are those of Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929:
(1) embedding, (2) attention with its residual, (3) MLP with its residual, (4) the CLS token normalised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from .en import TEXTS as _EN
from .zh import TEXTS as _ZH

TEXTS = {"en": _EN, "zh": _ZH}
LANGUAGES = tuple(TEXTS)

_LINEAR = "Linear NonDynamicallyQuantizableLinear Linear8bitLt Linear4bit"
_ACTIVATIONS = (
    "GELUActivation GELU GELUTanh PytorchGELUTanh NewGELUActivation FastGELUActivation QuickGELUActivation "
    "AccurateGELUActivation ClippedGELUActivation ReLU ReLU6 ReLUSquaredActivation SiLU SiLUActivation Mish "
    "MishActivation Tanh Sigmoid Hardswish LeakyReLU LaplaceActivation LinearActivation "
    "SqrtSoftplusActivation"
)

# Paths: "#" is a layer, layers.0 since 5.9 and encoder.layer.0 before; two old paths where one module does
# the work of two. Shapes, in → out, for one image: I H W image, G K its rows and columns of patches,
# P patches, N tokens (with CLS), D width, A all heads together, M width of the MLP, C classes.
_TABLE: tuple[tuple[str, str, str | None, tuple[str, ...], str, str], ...] = (
    # role, classes, path since 5.9, paths before, shapes, equation
    ("model", "ViTForImageClassification", None, (), "I H W → C", "Eq. 1–4"),
    ("backbone", "ViTModel", "vit", ("vit",), "I H W → N D", "Eq. 1–4"),
    ("embeddings", "ViTEmbeddings", "embeddings", ("embeddings",), "I H W → N D", "Eq. 1"),
    (
        "patch_embeddings",
        "ViTPatchEmbeddings",
        "embeddings.patch_embeddings",
        ("embeddings.patch_embeddings",),
        "I H W → P D",
        "Eq. 1",
    ),
    (
        "projection",
        "Conv2d",
        "embeddings.patch_embeddings.projection",
        ("embeddings.patch_embeddings.projection",),
        "I H W → D G K",
        "Eq. 1",
    ),
    ("mask_token", "", "embeddings.mask_token", ("embeddings.mask_token",), "P D → P D", ""),
    ("cls_token", "", "embeddings.cls_token", ("embeddings.cls_token",), "P D → N D", "Eq. 1"),
    (
        "position_embeddings",
        "",
        "embeddings.position_embeddings",
        ("embeddings.position_embeddings",),
        "N D → N D",
        "Eq. 1",
    ),
    ("embedding_dropout", "Dropout", "embeddings.dropout", ("embeddings.dropout",), "N D → N D", ""),
    ("encoder", "ViTEncoder", None, ("encoder",), "N D → N D", "Eq. 2, 3"),
    ("layers", "ModuleList", "layers", ("encoder.layer",), "N D → N D", "Eq. 2, 3"),
    ("layer", "ViTLayer", "#", ("#",), "N D → N D", "Eq. 2, 3"),
    ("layernorm_before", "LayerNorm", "#.layernorm_before", ("#.layernorm_before",), "N D → N D", "Eq. 2"),
    ("attention", "ViTAttention ViTSdpaAttention", "#.attention", ("#.attention",), "N D → N D", "Eq. 2"),
    (
        "self_attention",
        "ViTSdpaSelfAttention ViTSelfAttention",
        None,
        ("#.attention.attention",),
        "N D → N A",
        "Eq. 2",
    ),
    ("query", _LINEAR, "#.attention.q_proj", ("#.attention.attention.query",), "N D → N A", "Eq. 2"),
    ("key", _LINEAR, "#.attention.k_proj", ("#.attention.attention.key",), "N D → N A", "Eq. 2"),
    ("value", _LINEAR, "#.attention.v_proj", ("#.attention.attention.value",), "N D → N A", "Eq. 2"),
    ("split_heads", "", None, (), "", "Eq. 2"),
    ("attention_core", "", None, (), "", "Eq. 2"),
    ("attention_dropout", "Dropout", None, ("#.attention.attention.dropout",), "", ""),
    ("attention_output", "ViTSelfOutput", None, ("#.attention.output",), "N A → N D", "Eq. 2"),
    ("attention_dense", _LINEAR, "#.attention.o_proj", ("#.attention.output.dense",), "N A → N D", "Eq. 2"),
    ("attention_output_dropout", "Dropout", None, ("#.attention.output.dropout",), "N D → N D", ""),
    (
        "layer_dropout",
        "Dropout",
        "#.dropout",
        ("#.attention.output.dropout", "#.output.dropout"),
        "N D → N D",
        "",
    ),
    ("residual_attention", "", None, (), "", "Eq. 2"),
    ("layernorm_after", "LayerNorm", "#.layernorm_after", ("#.layernorm_after",), "N D → N D", "Eq. 3"),
    ("mlp", "ViTMLP", "#.mlp", ("#.intermediate", "#.output"), "N D → N D", "Eq. 3"),
    ("intermediate", "ViTIntermediate", None, ("#.intermediate",), "N D → N M", "Eq. 3"),
    ("fc1", _LINEAR, "#.mlp.fc1", ("#.intermediate.dense",), "N D → N M", "Eq. 3"),
    (
        "activation",
        _ACTIVATIONS,
        "#.mlp.activation_fn",
        ("#.intermediate.intermediate_act_fn",),
        "N M → N M",
        "Eq. 3",
    ),
    ("output", "ViTOutput", None, ("#.output",), "N M → N D", "Eq. 3"),
    ("fc2", _LINEAR, "#.mlp.fc2", ("#.output.dense",), "N M → N D", "Eq. 3"),
    ("mlp_dropout", "Dropout", None, ("#.output.dropout",), "N D → N D", ""),
    ("residual_mlp", "", None, (), "", "Eq. 3"),
    ("final_layernorm", "LayerNorm", "layernorm", ("layernorm",), "N D → N D", "Eq. 4"),
    ("pooler", "ViTPooler", "pooler", ("pooler",), "N D → D", ""),
    ("pooler_dense", _LINEAR, "pooler.dense", ("pooler.dense",), "D → D", ""),
    ("pooler_activation", _ACTIVATIONS, "pooler.activation", ("pooler.activation",), "D → D", ""),
    ("take_cls", "", None, (), "N D → D", "Eq. 4"),
    ("classifier", f"{_LINEAR} Identity", "classifier", ("classifier",), "D → C", ""),
)


@dataclass(frozen=True)
class Role:
    """One kind of part: a module, or (``classes`` empty) a parameter or a step that never prints."""

    key: str
    classes: frozenset[str]
    live: str | None  #: path in transformers ≥ 5.9; None where it has no such module
    old: tuple[str, ...]  #: path or paths in transformers ≤ 5.8, which checkpoint files still use
    shapes: tuple[tuple[str, ...], tuple[str, ...]] | None  #: input and output, in symbols
    equation: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths at which this role is found (not those of the two modules that it replaced)."""
        own = () if self.live and len(self.old) > 1 else self.old
        return tuple(dict.fromkeys(path for path in (self.live, *own) if path))

    def brief(self, lang: str) -> str:
        """What it does in at most 31 columns."""
        return TEXTS[lang][self.key][0]

    def text(self, lang: str) -> str:
        """What it does and what it is for, in one sentence."""
        return TEXTS[lang][self.key][1]


def _layer(path: str, name: str) -> str:
    return name + path[1:] if path.startswith("#") else path


def _roles() -> tuple[Role, ...]:
    roles = []
    for key, classes, live, old, shapes, equation in _TABLE:
        live = _layer(live, "layers.#") if live else None
        old = tuple(_layer(path, "encoder.layer.#") for path in old)
        into, _, out = shapes.partition(" → ")
        symbols = (tuple(into.split()), tuple(out.split())) if shapes else None
        roles.append(Role(key, frozenset(classes.split()), live, old, symbols, equation))
    return tuple(roles)


ROLES = _roles()
BY_KEY = {role.key: role for role in ROLES}
FLOW = {role.key: place for place, role in enumerate(ROLES)}  #: the order in which the data flows
# known by their class alone, whatever they are called and wherever they are
_ANCHORS = {"ViTForImageClassification": BY_KEY["model"], "ViTModel": BY_KEY["backbone"]}


def find_role(path: str, class_name: str | None, parent_known: bool = True) -> Role | None:
    """The role of a module, or (``class_name`` None) of a parameter of its own; None: unknown.

    ``parent_known``: the module around it has a role itself, or is the root. A familiar name below an
    unknown module means nothing.
    """
    if class_name in _ANCHORS:
        return _ANCHORS[class_name]
    if not parent_known:
        return None
    found: dict[int, Role] = {}
    for role in ROLES:
        if class_name in role.classes if class_name is not None else not role.classes:
            found |= {len(pattern): role for pattern in role.patterns if _regex(pattern).search(path)}
    return found[max(found)] if found else None


def other_names(role: Role, path: str) -> tuple[tuple[str, ...], str | None]:
    """The same part's path, or paths, in transformers ≤ 5.8 (and on disk), and its path in ≥ 5.9."""
    here = max(
        (m for p in role.patterns if (m := _regex(p).search(path))), key=lambda m: len(m[0]), default=None
    )
    if here is None:
        return (path,), path
    index = here.groupdict().get("index") or ""
    before = path[: here.start()]
    old = tuple(before + name.replace("#", index) for name in role.old)
    return old, before + role.live.replace("#", index) if role.live else None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(r"(?:(?<=\.)|^)" + re.escape(pattern).replace(r"\#", r"(?P<index>\d+)") + "$")
