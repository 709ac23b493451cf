"""ViT as a backbone: features of many images, to a file, or compared with each other.

Everything streams over its input; what an image lacks does not stop the others. Leaves out: one image's
features (``ViTPipeline.features``), and training anything on them.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import ArgumentError, ImageError, OutputError, VitPipelineError, check_installed
from .images import source_name
from .pipeline import Pool, ViTPipeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

OnError = Callable[[VitPipelineError], None]
SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class Neighbour:
    """An image and its cosine similarity to the query, -1 to 1."""

    source: str
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """As it stands in JSON output."""
        return {"source": self.source, "similarity": self.similarity}


def stream_features(
    pipe: ViTPipeline,
    sources: Iterable[Any],
    *,
    pool: Pool = "cls",
    batch_size: int = 8,
    on_error: OnError | None = None,
) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Names and features, batch by batch: (B, D), or (B, N, D) for ``pool="patches"``.

    An image that cannot be read is left out and its error given to ``on_error``; without ``on_error`` it is
    raised. Raises ArgumentError for an unknown ``pool``.
    """
    names: list[str] = []
    images: list[Any] = []
    for source in sources:
        try:
            images.append(pipe.read(source))
            names.append(source_name(source))
        except ImageError as error:
            if on_error is None:
                raise
            on_error(error)
        if len(images) == batch_size:
            yield names, pipe.features(images, pool, batch_size)
            names, images = [], []
    if images:
        yield names, pipe.features(images, pool, batch_size)


def save_features(
    pipe: ViTPipeline,
    sources: Iterable[Any],
    output: str | Path,
    *,
    pool: Pool = "cls",
    batch_size: int = 8,
    on_error: OnError | None = None,
) -> int:
    """Write features with the images' names; the file appears when it is whole. Returns how many there are.

    Args:
        output: ``.npz`` (arrays ``source`` (B,), ``features`` (B, D) or (B, N, D), and ``model``; held in
            memory until the end) or ``.parquet`` (columns ``source`` and ``features``; streamed).

    The other arguments are those of :func:`stream_features`. Raises OutputError where nothing can be written
    and ArgumentError for another ending, or Parquet without pyarrow.
    """
    path = Path(output)
    if path.suffix not in SUFFIXES:
        raise ArgumentError(f"{path}: the name must end in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        check_installed("pyarrow", path.name)
    batches = stream_features(pipe, sources, pool=pool, batch_size=batch_size, on_error=on_error)
    write = _write_npz if path.suffix == ".npz" else _write_parquet
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                count = write(file, batches, pipe)
            os.chmod(partial, 0o666 & ~_umask())  # noqa: PTH101 (mkstemp made it private)
            os.replace(partial, path)  # noqa: PTH105
        except BaseException:
            os.unlink(partial)  # noqa: PTH108
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return count


def _write_npz(file: Any, batches: Iterator[tuple[list[str], torch.Tensor]], pipe: ViTPipeline) -> int:
    names: list[str] = []
    values: list[NDArray[np.float32]] = []
    for batch_names, features in batches:
        names += batch_names
        values.append(features.numpy())
    table = np.concatenate(values) if values else np.zeros((0, pipe.model.config.hidden_size), np.float32)
    np.savez(
        file, source=np.array(names, dtype=np.str_), features=table, model=np.array(pipe.provenance.name)
    )
    return len(names)


def _write_parquet(file: Any, batches: Iterator[tuple[list[str], torch.Tensor]], pipe: ViTPipeline) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    vector = pa.list_(pa.float32(), pipe.model.config.hidden_size)
    count, writer = 0, None
    try:
        for names, features in batches:
            flat = pa.FixedSizeListArray.from_arrays(pa.array(features.numpy().reshape(-1)), type=vector)
            if features.ndim == 3:  # (B, N, D): a list of N vectors for each image
                offsets = pa.array(range(0, len(flat) + 1, features.shape[1]), pa.int32())
                flat = pa.ListArray.from_arrays(offsets, flat)
            table = pa.table({"source": pa.array(names, pa.string()), "features": flat})
            if writer is None:
                model = {b"model": pipe.provenance.name.encode()}
                writer = parquet.ParquetWriter(file, table.schema.with_metadata(model))
            writer.write_table(table.replace_schema_metadata({b"model": pipe.provenance.name.encode()}))
            count += len(names)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        schema = pa.schema({"source": pa.string(), "features": vector})
        parquet.write_table(schema.empty_table(), file)
    return count


def similar(
    pipe: ViTPipeline,
    query: Any,
    sources: Iterable[Any],
    *,
    top_k: int = 10,
    pool: Pool = "cls",
    batch_size: int = 8,
    on_error: OnError | None = None,
) -> list[Neighbour]:
    """The ``top_k`` images nearest to ``query`` by cosine similarity of their features, nearest first.

    The query itself is left out where it is among ``sources`` under the same name. Memory does not grow with
    the number of sources. The other arguments are those of :func:`stream_features`.
    """
    if pool == "patches":
        raise ArgumentError("pool is 'patches'; one vector an image is compared: use 'cls' or 'mean'")
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ArgumentError(f"top_k is {top_k!r}; a whole number of at least 1 is needed")
    wanted = torch.nn.functional.normalize(pipe.features(query, pool), dim=-1)[0]  # (D,)
    itself = _resolved(query)
    best: list[tuple[float, int, str]] = []  # a heap, the least similar first
    order = 0
    others = (source for source in sources if itself is None or _resolved(source) != itself)
    for names, features in stream_features(pipe, others, pool=pool, batch_size=batch_size, on_error=on_error):
        scores = torch.nn.functional.normalize(features, dim=-1) @ wanted  # (B,)
        for name, score in zip(names, scores.tolist(), strict=True):
            order -= 1  # of equals, the first stays
            (heapq.heappush if len(best) < top_k else heapq.heappushpop)(best, (score, order, name))
    return [Neighbour(name, score) for score, _, name in sorted(best, reverse=True)]


def _resolved(source: Any) -> str | None:
    return os.path.realpath(source) if isinstance(source, str | Path) else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
