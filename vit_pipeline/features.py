"""ViT as a backbone: features of many images, to a file, or compared with each other.

Memory does not grow with the number of images; one that cannot be read does not stop the others. Leaves out:
one image's features (``ViTPipeline.features``), and training anything on them.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from . import engine
from .errors import ArgumentError, VitPipelineError, check_installed
from .files import checked_suffix, replacing
from .images import source_name
from .pipeline import Pool, ViTPipeline
from .sources import find_images

OnError = Callable[[VitPipelineError], None]
Batches = Iterator[tuple[list[str], torch.Tensor]]
SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class Neighbour:
    """An image and its cosine similarity to the query, -1 to 1."""

    source: str
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        return asdict(self)


def stream_features(
    sources: str | Path | Iterable[Any],
    pipe: ViTPipeline,
    *,
    pool: Pool = "cls",
    batch_size: int = 8,
    on_error: OnError | None = None,
) -> Batches:
    """Names and features, batch by batch: (B, D), or (B, N, D) for ``pool="patches"``.

    Args:
        sources: folders, globs, files, URLs, lists: see :func:`vit_pipeline.sources.find_images`.
        pool: as for ``ViTPipeline.features``.
        batch_size: images in one forward pass.
        on_error: called for an image that cannot be read, which is left out; None: its error is raised.

    Raises ArgumentError for an unknown ``pool``.
    """
    for batch in engine.run(
        find_images(sources),
        pipe.preparer(),
        lambda pixels, _: list(pipe.pooled(pixels, pool)),
        batch_size=batch_size,
    ):
        names, found = [], []
        for name, result in batch:
            if isinstance(result, torch.Tensor):
                names.append(name)
                found.append(result)
            elif on_error is None:
                raise result
            else:
                on_error(result)
        if found:
            yield names, torch.stack(found)


def save_features(
    sources: str | Path | Iterable[Any],
    output: str | Path,
    pipe: ViTPipeline,
    *,
    pool: Pool = "cls",
    batch_size: int = 8,
    on_error: OnError | None = None,
) -> int:
    """Write features with the images' names, and return how many; the file appears when it is complete.

    Where no image could be read there is nothing to write, and no file.

    Args:
        output: ``.npz`` (arrays ``source`` (B,), ``features`` (B, D) or (B, N, D), ``model`` and
            ``computed``, such as float32; held in memory until the end) or ``.parquet`` (columns ``source``
            and ``features``; streamed).

    The other arguments are those of :func:`stream_features`. Raises OutputError where nothing can be written
    and ArgumentError for another ending, or Parquet without pyarrow.
    """
    path = Path(output)
    suffix = checked_suffix(path, SUFFIXES)
    if suffix == ".parquet":
        check_installed("pyarrow", path.name)
    batches = stream_features(sources, pipe, pool=pool, batch_size=batch_size, on_error=on_error)
    with replacing(path) as partial:
        if suffix == ".npz":
            count = _write_npz(partial, batches, pipe)
        else:
            count = _write_parquet(partial, batches, pipe, pool)
        if not count:
            partial.unlink()
    return count


def _write_npz(partial: Path, batches: Batches, pipe: ViTPipeline) -> int:
    names: list[str] = []
    values: list[torch.Tensor] = []
    for batch_names, features in batches:
        names += batch_names
        values.append(features)
    if names:
        with partial.open("wb") as file:  # by its name, numpy would add to it
            listed, features = np.array(names, np.str_), torch.cat(values)
            np.savez(file, source=listed, features=features, model=pipe.name, computed=str(pipe.backend))
    return len(names)


def _write_parquet(partial: Path, batches: Batches, pipe: ViTPipeline, pool: Pool) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    column = pa.list_(pa.float32(), pipe.model.config.hidden_size)  # one vector
    if pool == "patches":
        column = pa.list_(column)
    schema = pa.schema(
        {"source": pa.string(), "features": column},
        metadata={"model": pipe.name, "computed": str(pipe.backend)},
    )
    count = 0
    with parquet.ParquetWriter(partial, schema) as writer:
        for names, features in batches:
            vectors = [list(image) if pool == "patches" else image for image in features.numpy()]
            writer.write_table(pa.table({"source": names, "features": vectors}, schema))
            count += len(names)
    return count


def similar(
    query: Any,
    sources: str | Path | Iterable[Any],
    pipe: ViTPipeline,
    *,
    top_k: int = 10,
    pool: Pool = "cls",
    batch_size: int = 8,
    on_error: OnError | None = None,
) -> list[Neighbour]:
    """The ``top_k`` images nearest to ``query`` by cosine similarity of their features, nearest first.

    The query itself is left out where it is among ``sources`` under the same name. The other arguments are
    those of :func:`stream_features`.
    """
    if pool == "patches":
        raise ArgumentError("pool is 'patches'; one vector an image is compared: use 'cls' or 'mean'")
    top_k = engine.positive("top_k", top_k)
    wanted = normalize(pipe.features(query, pool), dim=-1)[0]  # (D,)
    itself = os.path.realpath(source_name(query)) if isinstance(query, str | Path) else None

    def neighbours() -> Iterator[Neighbour]:
        for names, features in stream_features(
            sources, pipe, pool=pool, batch_size=batch_size, on_error=on_error
        ):
            for name, similarity in zip(names, (normalize(features, dim=-1) @ wanted).tolist(), strict=True):
                if os.path.realpath(name) != itself:
                    yield Neighbour(name, similarity)

    return heapq.nlargest(top_k, neighbours(), key=attrgetter("similarity"))
