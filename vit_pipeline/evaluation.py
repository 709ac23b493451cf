"""How good a model is on labelled images, as a report for people and programs.

Leaves out: what the numbers are (``measures``), folders and their labels (``labelled``).
"""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import __version__, engine, measures
from .checkpoints.files import CALIBRATION, sha256_of
from .errors import (
    ArgumentError,
    CheckpointError,
    ImageError,
    OutputError,
    VitPipelineError,
    check_installed,
    printable,
    reason,
)
from .files import checked_suffix, file_state, kept_arrays, replacing, template
from .labelled import Labelled, match_labels, read_labelled
from .names import KNOWN_MODELS
from .pipeline import ViTPipeline

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = NDArray[Any]

OnError = Callable[[VitPipelineError], None]
_MISTAKES, _ERRORS, _GRID = 24, 100, 24  # in a report
_CHUNK = 64  # batches in one file of those that are kept
_LOGITS = 10_000_000  # kept for the temperature, 40 MB; beyond, those of every second, third, … image


@dataclass(frozen=True)
class Mistake:
    """An image with a wrong label."""

    source: str
    truth: str
    predicted: str
    confidence: float  #: the probability that the model gives its label
    seen: str  #: the image as the model saw it, a data: URL; not in JSON


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` finds. ``print`` it, or :meth:`save` a report."""

    model: str  #: its name, where it is from, its dtype
    sha256: Mapping[str, str]  #: of its files; none of a model in memory
    source: str  #: the images'
    split: str | None
    matched: Mapping[str, str | None]  #: label of the images → of the model; None: left out
    images: int  #: that could be read
    unread: int  #: that could not
    errors: tuple[str, ...]  #: of these, the first 100
    top1: measures.Rate
    top5: measures.Rate | None  #: None: there are no more than five classes
    classes: tuple[measures.ClassScores, ...]  #: those that have images
    confusion: tuple[measures.Pair, ...]  #: the cells that are not empty, the fullest first
    mistakes: tuple[Mistake, ...]  #: the most confident first
    reliability: measures.Reliability
    calibration: measures.Calibration | None  #: None: too few images
    published: Mapping[str, Any] | None  #: top1, on which images, source; is it inside the interval?
    comparison: measures.Comparison | None
    images_per_second: float

    @property
    def macro(self) -> dict[str, float]:
        """Means over the classes, each counting the same however many images it has."""
        names = ("precision", "recall", "f1")
        return {name: sum(getattr(c, name) for c in self.classes) / len(self.classes) for name in names}

    @property
    def confused(self) -> list[measures.Pair]:
        """Classes that are taken for each other, the most frequent first."""
        return [pair for pair in self.confusion if pair.indices[0] != pair.indices[1]]

    def to_dict(self) -> dict[str, Any]:
        """Everything but images, ready for JSON."""
        found = asdict(self) | {"macro": self.macro}
        for mistake in found["mistakes"]:
            del mistake["seen"]
        return found | {"version": __version__}

    def __str__(self) -> str:
        return self._render("evaluation.txt.j2")

    def save(self, path: str | Path) -> None:
        """Write a report: ``.html``, a page without scripts or network, or ``.json``. Raises OutputError."""
        html = checked_suffix(path, (".html", ".json")) == ".html"
        text = self._render("evaluation.html.j2") if html else json.dumps(self.to_dict(), ensure_ascii=False)
        with replacing(path) as file:
            file.write_text(text, encoding="utf-8", errors="backslashreplace")  # names that are not UTF-8

    def write_calibration(self, folder: str | Path) -> Path:
        """Write temperature, threshold and where they are from into the model's folder; return the file.

        From then on its predictions say how often such answers are right, and which images are unlike these.
        Raises ArgumentError: too few images, or another model is there; OutputError.
        """
        if self.calibration is None:
            raise ArgumentError(f"{self.source}: too few to calibrate with; give {measures.ENOUGH} images")
        own = {name: digest for name, digest in self.sha256.items() if name != CALIBRATION}
        files = [Path(folder) / name for name in own]
        if not own or any(not file.is_file() or sha256_of(file) != own[file.name] for file in files):
            raise ArgumentError(f"{folder}: not the files of {self.model}; save it there, and evaluate that")
        found = asdict(self.calibration) | {"top1": asdict(self.top1), "sha256": own, "version": __version__}
        found |= {f"ece_{name}": found.pop(name)["ece"] for name in ("before", "after")}
        found |= {"source": Path(self.source).name, "split": self.split, "images": self.images}
        with replacing(Path(folder) / CALIBRATION) as file:
            file.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")
        return Path(folder) / CALIBRATION

    def _render(self, name: str) -> str:
        shown = [scores.index for scores in self.classes]
        if len(shown) > _GRID:
            shown = sorted([*dict.fromkeys(i for pair in self.confused for i in pair.indices)][:_GRID])
        page = template(Path(__file__).with_name(name), line=printable, percent="{:.2%}".format)
        return page.render(e=self, shown=shown, cells={pair.indices: pair for pair in self.confusion})


def evaluate(
    source: str | Path,
    pipe: ViTPipeline | None = None,
    *,
    against: ViTPipeline | None = None,
    mapping: Mapping[str, Any] | str | Path | None = None,
    split: str | None = None,
    batch_size: int = 8,
    seed: int = 0,
    work: str | Path | None = None,
    on_error: OnError | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure how good a model is on labelled images.

    Any of its classes can be its answer, also those that no image here shows: so is top-1 published.

    Args:
        source: a folder of class folders or a table; with ``split``, see :func:`.labelled.read_labelled`.
        pipe: the model; None: the default one.
        against: another model, to compare with.
        mapping: what the labels mean, see :func:`.labelled.match_labels`.
        batch_size: images in one forward pass.
        seed: draws the half of the images to calibrate on.
        work: a folder that keeps what is computed: the same call resumes there. Delete it when you are done.
        on_error: called for each image that cannot be read; it counts neither as right nor as wrong.
        progress: called after every batch: images so far, images in all (twice as many with ``against``).

    Raises ArgumentError: a label means none of the classes, no image can be read, scipy is missing.
    """
    check_installed("scipy", "evaluate")
    pipe = pipe or ViTPipeline.from_pretrained()
    data = read_labelled(source, split)
    this = _Pass(pipe, data, mapping)
    other = _Pass(against, data, mapping) if against else None  # where its labels do not fit, nothing runs
    total, say = this.total * (2 if other else 1), progress or (lambda done, total: None)
    keep = Path(work) if work is not None and pipe.provenance.files else None
    if keep:
        try:
            keep.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{keep}: cannot be made a folder: {reason(error)}") from error
    this.run(batch_size, on_error or (lambda error: None), lambda done: say(done, total), keep)
    if other:
        keep = keep if other.pipe.provenance.files else None
        other.run(batch_size, lambda error: None, lambda done: say(this.total + done, total), keep)
        if not np.array_equal(this.rows["name"], other.rows["name"]):
            raise ArgumentError(f"{source}: has changed between the two models; evaluate again")
    rows = this.rows[this.rows["truth"] >= 0]
    if not len(rows):
        raise ArgumentError(f"{source}: no image can be read, of {len(this.rows):,}")
    truth, predicted, right = rows["truth"], rows["predicted"], rows["rank"] == 0
    top1 = measures.rate(right)
    published = None
    for known in KNOWN_MODELS.values():
        if known.top1 and pipe.name in (known.name, known.repo):
            value, said = known.top1 / 100, {"on": known.top1_on, "source": known.top1_source}
            published = said | {"top1": value, "inside": top1.low <= value <= top1.high}
    return Evaluation(
        model=_name(pipe),
        sha256=pipe.provenance.sha256,
        source=str(source),
        split=data.split,
        matched={label: None if i is None else pipe.labels[i] for label, i in this.meant.items()},
        images=len(rows),
        unread=len(this.rows) - len(rows),
        errors=tuple(this.errors),
        top1=top1,
        top5=measures.rate(rows["rank"] < 5) if len(pipe.labels) > 5 else None,
        classes=measures.class_scores(truth, predicted, pipe.labels),
        confusion=measures.confusion(truth, predicted, pipe.labels),
        mistakes=this.mistakes(),
        reliability=measures.reliability(np.exp(rows["confidence"]), right),
        calibration=measures.calibrate(this.rows, this.logits, seed),
        published=published,
        comparison=measures.compare(this.rows, other.rows, _name(other.pipe)) if other else None,
        images_per_second=this.computed / max(this.clock.wait + this.clock.model, 1e-9),
    )


class _Part(NamedTuple):
    """What is known of some images."""

    rows: Array  #: of ``OBSERVED``
    places: Array  #: of those whose logits are kept, among all images
    logits: Array  #: (…, C)
    errors: Array  #: of those that could not be read, why


class _Pass:
    """One model going over all images; it keeps a row of ``OBSERVED`` for each."""

    def __init__(self, pipe: ViTPipeline, data: Labelled, mapping: Any) -> None:
        problem = pipe.model.config.problem_type
        if len(pipe.labels) < 2 or problem in ("regression", "multi_label_classification"):
            raise ArgumentError(f"{pipe.name}: does not choose one of several classes, so it has no accuracy")
        self.pipe, self.data = pipe, data
        counts = data.counts
        self.meant = match_labels([label for label in counts if counts[label]], pipe.labels, mapping)
        for label in counts.keys() - self.meant.keys():  # an empty folder may be called anything
            with suppress(ArgumentError):
                self.meant |= match_labels([label], pipe.labels, mapping)
        self.total = sum(counts[label] for label, meant in self.meant.items() if meant is not None)
        self.rows = np.zeros(0, measures.OBSERVED)
        self.logits: dict[int, Array] = {}  # place among the rows → (C,)
        self.errors: list[str] = []
        self.wrong: list[tuple[float, int, str, Any, int, int]] = []  # the most confident first
        self.clock, self.computed = engine.Clock(), 0

    def run(
        self, batch_size: int, on_error: OnError, progress: Callable[[int], None], work: Path | None
    ) -> None:
        every = 1 + self.total * len(self.pipe.labels) // _LOGITS
        labelled = ((name, image, self.meant.get(label)) for name, image, label in self.data)
        images = ((name, image, truth) for name, image, truth in labelled if truth is not None)
        parts, place = [self.rows], 0
        while part := [*islice(images, _CHUNK * batch_size)]:
            path = work / f"{self._digest(part, batch_size, every)}.npz" if work else None
            compute = partial(self._compute, part, place, batch_size, every, progress)
            found = _Part(**kept_arrays(path, compute, "; make room, and run it again"))
            progress(place + len(part))
            for text in found.errors.tolist():
                self.errors += [text] * (len(self.errors) < _ERRORS)
                on_error(ImageError(text))
            self.logits |= dict(zip(found.places.tolist(), found.logits, strict=True))
            for offset in np.flatnonzero(found.rows["rank"]):
                (name, image, truth), row = part[offset], found.rows[offset]
                mistake = row["confidence"], -place - int(offset), name, image, truth, int(row["predicted"])
                self.wrong.append(mistake)
            self.wrong = heapq.nlargest(_MISTAKES, self.wrong)
            parts.append(found.rows)
            place += len(part)
        self.rows = np.concatenate(parts)

    def _compute(
        self,
        part: list[tuple[str, Any, int]],
        place: int,
        batch_size: int,
        every: int,
        progress: Callable[[int], None],
    ) -> dict[str, Array]:
        """A ``_Part``: some images, the first of which is number ``place``."""

        def compute(pixel_values: torch.Tensor, _: list[str]) -> list[Array]:
            return [*self.pipe.forward(pixel_values).float().cpu().numpy()]  # B of (C,)

        rows, errors = np.zeros(len(part), measures.OBSERVED), list[str]()
        logits: dict[int, Array] = {}
        pairs, prepare = ((name, image) for name, image, _ in part), self.pipe.preparer()
        each = zip(count(place), rows, part, strict=False)
        run = engine.run(pairs, prepare, compute, batch_size=batch_size, clock=self.clock)
        with closing(run):  # whatever happens, its threads end
            for batch in run:
                for (_, found), (number, row, (name, _, truth)) in zip(batch, each, strict=False):
                    row["name"] = zlib.crc32(name.encode("utf-8", "surrogatepass"))
                    if isinstance(found, VitPipelineError):
                        row["truth"] = -1
                        errors.append(str(found))
                        continue
                    if not np.isfinite(found).all():
                        raise CheckpointError(f"{self.pipe.name}: logits are not finite: use dtype float32")
                    measures.observe(row, found, truth)
                    if number % every == 0:
                        logits[number] = found.copy()  # not the whole batch
                if number + 1 < place + len(part):
                    progress(number + 1)
        self.computed += len(part)
        table = np.stack([*logits.values()]) if logits else np.zeros((0, len(self.pipe.labels)), np.float32)
        places = np.array([*logits], np.int64)
        return {"rows": rows, "places": places, "logits": table, "errors": np.array(errors, str)}

    def _digest(self, part: list[tuple[str, Any, int]], batch_size: int, every: int) -> str:
        """Of all that these rows depend on; images are told apart as ``finetune`` does."""
        pipe = self.pipe
        settings = _name(pipe), pipe.provenance.sha256, str(pipe.device), batch_size, every, __version__
        found = blake2b(repr(settings).encode(), digest_size=16)
        for name, image, truth in part:
            found.update(repr((name, truth, file_state(image))).encode())
        return found.hexdigest()

    def mistakes(self) -> tuple[Mistake, ...]:
        """The most confident ones; read once more to be shown."""
        again = self.pipe([image for _, _, _, image, _, _ in self.wrong], 1, on_error="return")
        shown = [getattr(found, "seen", "") for found in again]
        names = self.pipe.labels
        return tuple(
            Mistake(name, names[truth], names[said], float(np.exp(confidence)), seen)
            for (confidence, _, name, _, truth, said), seen in zip(self.wrong, shown, strict=True)
        )


def _name(pipe: ViTPipeline) -> str:
    return f"{pipe.provenance}, {pipe.backend}"
