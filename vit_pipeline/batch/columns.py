"""Columns in, columns out: a step of somebody else's pipeline, such as Ray Data, datasets, Daft or Spark.

Leaves out reading and writing data sets, and who runs where: theirs to do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import torch

from .. import engine
from ..errors import ArgumentError, VitPipelineError
from ..names import DEFAULT_MODEL
from ..pipeline import Options, ViTPipeline, kept_pipeline

_IMPORTED = os.getpid()
IMAGES = "bytes", "path"  #: the columns that images are taken from, the first that is there


class Classifier:
    """A batch of images in, their classes out; the model is loaded with the first batch, once a process.

    >>> classifier = Classifier("demo")
    >>> classifier({"path": ["examples/cat.png"]})["label"]
    ['cat']

    ``ray.data.Dataset.map_batches`` takes the class itself, ``datasets.Dataset.map(…, batched=True)`` an
    instance; in a pandas UDF of Spark or a function of Daft it is called with ``{"path": paths}``.

    Args:
        model: as for :meth:`ViTPipeline.from_pretrained`, or a pipeline of your own.
        top_k: how many classes ``top`` lists.
        batch_size: images in one forward pass.
        threads: how many decode; the cores are usually others' too.
        prefix: of the names of the new columns, where theirs are taken.
        options: those of :meth:`ViTPipeline.from_pretrained`.
    """

    def __init__(
        self,
        model: str | Path | ViTPipeline = DEFAULT_MODEL,
        *,
        top_k: int = 5,
        batch_size: int = 8,
        threads: int = 1,
        prefix: str = "",
        **options: Unpack[Options],
    ) -> None:
        self._model, self._options, self._prefix = model, options, prefix
        self._top_k = engine.positive("top_k", top_k)
        self._batch_size = engine.positive("batch_size", batch_size)
        self._threads = engine.positive("threads", threads)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of ``batch``, and for each image ``label``, ``score``, ``top`` and ``error``.

        Args:
            batch: with a column ``bytes`` (an encoded image a row; it is not returned) or ``path`` (files or
                URLs), or both: then ``path`` has the names.

        ``error`` is empty, or says what is wrong with an image; then ``label`` and ``top`` are empty, and
        ``score`` is NaN: a column has one type in every batch, as datasets and Parquet need it. ``top`` has
        the likeliest classes as ``{"label", "score", "index"}``. Raises ArgumentError for other columns,
        and what loading the model raises.
        """
        images = next((batch[name] for name in IMAGES if name in batch), None)
        if images is None:
            raise ArgumentError(f"no column bytes or path: the batch has {', '.join(batch) or 'none'}")
        added = {name: self._prefix + name for name in ("label", "score", "top", "error")}
        if taken := [name for name in added.values() if name in batch]:
            raise ArgumentError(
                f"the batch has a column {taken[0]!r} already; give a prefix, such as 'predicted_'"
            )
        if os.getpid() != _IMPORTED:  # forked, without torch's threads, for which it would wait forever
            torch.set_num_threads(1)
        names = batch["path"] if "path" in batch else [f"row {number}" for number in range(len(images))]
        pipe = self._model
        if not isinstance(pipe, ViTPipeline):
            pipe = kept_pipeline(pipe, **self._options)
        batches = engine.run(
            ((str(name), image) for name, image in zip(names, images, strict=True)),
            pipe.preparer(),
            pipe.predictor(self._top_k),
            batch_size=self._batch_size,
            threads=self._threads,
        )
        rows = [_row(result) for done in batches for _, result in done]
        columns = {added[name]: [row[name] for row in rows] for name in added}
        return {name: values for name, values in batch.items() if name != "bytes"} | columns


def _row(result: Any) -> dict[str, Any]:
    if isinstance(result, VitPipelineError):
        return {"label": "", "score": math.nan, "top": [], "error": str(result)}
    top = [entry.to_dict() for entry in result.top]
    return {"label": result.label, "score": result.score, "top": top, "error": ""}
