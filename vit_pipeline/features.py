"""ViT as a backbone: features of many images, to a file, or compared with each other.

Memory does not grow with the number of images; one that cannot be read does not stop the others. Leaves out:
one image's features (``ViTPipeline.features``), and training anything on them.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import engine
from .errors import ArgumentError, VitPipelineError, check_installed
from .files import replacing
from .pipeline import Pool, ViTPipeline
from .sources import find_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    items = find_images([sources] if isinstance(sources, str | Path) else sources)
    yield from _features(items, pipe, pool, batch_size, on_error)


def _features(
    items: Iterable[tuple[str, Any]], pipe: ViTPipeline, pool: Pool, batch_size: int, on_error: OnError | None
) -> Batches:
    for batch in engine.run(
        items, pipe.preparer(), lambda pixels, _: list(pipe.pooled(pixels, pool)), batch_size=batch_size
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
        output: ``.npz`` (arrays ``source`` (B,), ``features`` (B, D) or (B, N, D), and ``model``; held in
            memory until the end) or ``.parquet`` (columns ``source`` and ``features``; streamed).

    The other arguments are those of :func:`stream_features`. Raises OutputError where nothing can be written
    and ArgumentError for another ending, or Parquet without pyarrow.
    """
    path = Path(output)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"{path}: the name must end in {' or '.join(SUFFIXES)}")
    if suffix == ".parquet":
        check_installed("pyarrow", path.name)
    batches = stream_features(sources, pipe, pool=pool, batch_size=batch_size, on_error=on_error)
    with replacing(path) as partial:
        write = _write_npz if suffix == ".npz" else _write_parquet
        count = write(partial, batches, pipe)
        if not count:
            partial.unlink()
    return count


def _write_npz(partial: Path, batches: Batches, pipe: ViTPipeline) -> int:
    names: list[str] = []
    values: list[NDArray[np.float32]] = []
    for batch_names, features in batches:
        names += batch_names
        values.append(features.numpy())
    table = np.concatenate(values) if values else np.zeros((0, pipe.model.config.hidden_size), np.float32)
    with partial.open("wb") as file:  # by its name, numpy would add to it
        np.savez(file, source=np.array(names, dtype=np.str_), features=table, model=np.array(pipe.name))
    return len(names)


def _write_parquet(partial: Path, batches: Batches, pipe: ViTPipeline) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    vector = pa.list_(pa.float32(), pipe.model.config.hidden_size)
    schema = pa.schema({"source": pa.string(), "features": vector}, metadata={"model": pipe.name})
    writer, count = None, 0
    try:
        for names, features in batches:
            values = pa.FixedSizeListArray.from_arrays(pa.array(features.numpy().reshape(-1)), type=vector)
            if features.ndim == 3:  # (B, N, D): a list of N vectors for each image
                offsets = pa.array(range(0, len(values) + 1, features.shape[1]), pa.int32())
                values = pa.ListArray.from_arrays(offsets, values)
                schema = schema.set(1, pa.field("features", values.type))
            writer = writer or parquet.ParquetWriter(partial, schema)
            writer.write_table(pa.table([pa.array(names, pa.string()), values], schema=schema))
            count += len(names)
    finally:
        (writer or parquet.ParquetWriter(partial, schema)).close()
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
    wanted = torch.nn.functional.normalize(pipe.features(query, pool), dim=-1)[0]  # (D,)
    itself = _resolved(query)
    best: list[tuple[float, int, str]] = []  # a heap, the least similar first
    order = 0
    items = find_images([sources] if isinstance(sources, str | Path) else sources)
    others = (item for item in items if itself is None or _resolved(item[1]) != itself)
    for names, features in _features(others, pipe, pool, batch_size, on_error):
        scores = torch.nn.functional.normalize(features, dim=-1) @ wanted  # (B,)
        for name, score in zip(names, scores.tolist(), strict=True):
            order -= 1  # of equals, the first stays
            (heapq.heappush if len(best) < top_k else heapq.heappushpop)(best, (score, order, name))
    return [Neighbour(name, score) for score, _, name in sorted(best, reverse=True)]


def _resolved(source: Any) -> str | None:
    return os.path.realpath(source) if isinstance(source, str | Path) else None
