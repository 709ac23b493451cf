"""The inside of an answer: where the evidence is, what a patch attends to, what each layer would have said.

The page sends the image as the model saw it, so nothing of a visitor has to be kept: what is kept of the last
images only saves time. Leaves out how it is drawn (``inside.js``).
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import asdict
from typing import Any

from ..checkpoints.config import pair
from ..errors import ArgumentError
from ..explain import Explanation, explain
from ..explain.figure import WEAK
from ..pipeline import ViTPipeline
from .serving import Places
from .views import named, words

KEPT, MAX_WAITING = 8, 8  #: explanations in memory; requests that may wait for one
Data = dict[str, Any]


class Insides:
    """Explains one image at a time, in a thread."""

    def __init__(self) -> None:
        self._places, self._one = Places(MAX_WAITING), asyncio.Semaphore(1)
        self._kept: dict[Any, Explanation] = {}  # the one that was not used for longest first

    async def look(self, pipe: ViTPipeline, lang: str, asked: Data) -> Data:
        """A map, (rows × cols) numbers, what it shows in a sentence, and more if asked for.

        ``asked``: ``image``, a data: URL of what the model saw; ``target``, the index of a class;
        ``method``; for attention ``layer``, ``head`` (-1: their mean) and ``token`` (0: CLS); ``lens`` and
        ``trust``, whether to add them. Raises Busy, ImageError, ArgumentError.
        """
        with self._places:
            async with self._one:
                return await asyncio.to_thread(self._look, pipe, lang, asked)

    def _look(self, pipe: ViTPipeline, lang: str, asked: Data) -> Data:
        e, method, t = self._explanation(pipe, asked), str(asked.get("method")), words(lang)
        if method == "attention":
            layer, head, token = (_whole(asked, name) for name in ("layer", "head", "token"))
            where = {"layer": layer, "heads": t("every_head") if head < 0 else t("one_head", head=head)}
            of: Data = {"layer": layer, "head": None if head < 0 else head}
            scores = e.attention(**of, token=token)  # (rows, cols)
            said = t("said_attention", **where)
            if token:
                places = [divmod(n, e.grid[1]) for n in (token - 1, int(scores.argmax()))]
                (row, column), (to_row, to_column) = [(row + 1, column + 1) for row, column in places]
                to = {"to_row": to_row, "to_column": to_column, "most": f"{scores.max():.1%}"}
                said = t("said_patch", row=row, column=column, **to, **where)
        else:
            of, scores = {}, e.heatmap(method)
            said = t("said_evidence", label=named(lang, e.target.label)) if e.target else ""
            said = t("said_rollout") if method == "rollout" else said
        weak = t("weak") if method in WEAK and not asked.get("token") else ""
        found: Data = {"map": scores.ravel().tolist(), "said": said + weak}
        if asked.get("lens"):
            after = [t("embeddings"), *(t("after_layer", layer=n) for n in range(len(e.lens) - 1))]
            found["lens"] = [
                asdict(at.top[0]) | {"label": named(lang, at.label), "after": a}
                for a, at in zip(after, e.lens, strict=True)
            ]
        if asked.get("trust"):
            own, *others = e.faithfulness(method, **of), e.yardstick("centre"), e.yardstick("random")
            gains = [f"{one.gain:+z.2f}".replace("-", "−") for one in (own, *others)]
            found["trust"] = t("trust_numbers", own=gains[0], centre=gains[1], random=gains[2])
            found["trust"] += t("trust_no") if own.gain <= max(one.gain for one in others) else ""
        return found

    def _explanation(self, pipe: ViTPipeline, asked: Data) -> Explanation:
        image, target = str(asked.get("image")), _whole(asked, "target")
        key = pipe, target, hashlib.sha256(image.encode()).digest()
        if (found := self._kept.pop(key, None)) is None:
            if not image.startswith("data:"):
                raise ArgumentError("image must be a data: URL")
            seen = pipe.read(image)
            if seen.size[::-1] != pair(pipe.model.config.image_size):
                raise ArgumentError("image must be the image as the model saw it")
            options = {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"}
            found = explain(pipe, pipe.processor(images=[seen], **options).pixel_values, target=target)
        self._kept[key] = found
        for unused in [*self._kept][:-KEPT]:
            del self._kept[unused]
        return found


def _whole(asked: Data, name: str) -> int:
    value = asked.get(name)
    if not isinstance(value, int):
        raise ArgumentError(f"{name} must be a whole number")
    return value
