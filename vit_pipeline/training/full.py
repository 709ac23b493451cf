"""All weights of a model, trained by transformers' Trainer on accelerate.

Layer-wise learning-rate decay, cosine with warm-up, label smoothing, augmentation, early stopping. What is
drawn depends on seed, epoch and image only, so that a resumed run sees what an uninterrupted one does. Leaves
out: the head's first weights (``probe``).
"""

from __future__ import annotations

import math
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch.nn import functional as F
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from .. import engine
from ..checkpoints.processors import quiet_transformers
from ..errors import ArgumentError, DeviceError, OutputError, reason
from ..pipeline import or_raise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..pipeline import ViTPipeline
    from .data import Item

    Array = NDArray[Any]

Progress = Callable[[str, int, int, Mapping[str, float]], None]

LAYER_DECAY = 0.9  #: of the learning rate, from each layer to the one before it
WEIGHT_DECAY = 0.05  #: not of biases, LayerNorm, CLS and positions
WARM_UP = 0.3  #: of all steps: where they are few, a short one throws away what was learnt
SMOOTHING = 0.1  #: of the labels
PATIENCE = 10  #: epochs without a better validation before training ends
SHIFT, ZOOM = 0.1, 0.2  #: of augmentation, as shares of the image
#: what is the same in every run, for its records
FIXED = {"optimizer": "AdamW, cosine", "layer_decay": LAYER_DECAY, "weight_decay": WEIGHT_DECAY}
FIXED |= {
    "warm_up": WARM_UP,
    "label_smoothing": SMOOTHING,
    "patience": PATIENCE,
    "shift": SHIFT,
    "zoom": ZOOM,
}
_STATE = "trainer_state.json"  # what Trainer writes last into a checkpoint


def train(
    pipe: ViTPipeline,
    items: Sequence[Item],
    truth: Array,
    of: Mapping[str, Array],
    work: Path | None,
    progress: Progress,
    **recipe: Any,
) -> list[dict[str, float]]:
    """Train ``pipe.model`` in place; from the last checkpoint in ``work``, if there is one.

    Args:
        truth, of: as ``make_plan`` gives them. Without images in ``val`` the last weights are kept.
        work: where checkpoints are kept, the last and the best; None: the best in memory.
        progress: called after every step.
        recipe: seed, epochs, batch_size, accumulate, learning_rate, dtype, flip.

    Returns what was measured, an entry an epoch.
    """
    measured = len(of["val"]) > 0
    with _nothing_global_changed(), ExitStack() as stack:
        arguments = TrainingArguments(
            output_dir=str(work.resolve()) if work else stack.enter_context(tempfile.TemporaryDirectory()),
            seed=recipe["seed"],
            num_train_epochs=recipe["epochs"],
            per_device_train_batch_size=recipe["batch_size"],
            gradient_accumulation_steps=recipe["accumulate"],
            learning_rate=recipe["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=WARM_UP,
            bf16=recipe["dtype"] == "bfloat16",
            use_cpu=pipe.device.type == "cpu",
            eval_strategy="epoch" if measured else "no",
            save_strategy="epoch",
            save_total_limit=2,  # the best and the last
            metric_for_best_model="loss" if measured else None,  # accuracy is coarse where images are few
            greater_is_better=False,
            logging_strategy="epoch",
            disable_tqdm=True,
            ddp_find_unused_parameters=False,
            report_to="none",
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # several take part through ``accelerate launch``
        if arguments.device != pipe.device and arguments.world_size == 1:
            said = f"{pipe.device}: Trainer takes {arguments.device}"
            raise DeviceError(f"{said}; choose with CUDA_VISIBLE_DEVICES, or load the model there")
        batches = _Batches(pipe, items, truth, of["train"], arguments, recipe["flip"])
        stack.callback(batches.close)
        trainer = ViTTrainer(batches, of["val"], arguments, progress, in_memory=work is None)
        last = _last_checkpoint(Path(arguments.output_dir))
        try:
            if last and stopped(state := TrainerState.load_from_json(str(last / _STATE))):
                trainer.state = state  # killed after its last epoch
            else:
                trainer.train(resume_from_checkpoint=str(last) if last else None)
        except torch.OutOfMemoryError as error:
            what = f"a batch of {recipe['batch_size']} does not fit into the device's memory"
            raise DeviceError(f"{what}; use a smaller batch size, and accumulate more of them") from error
        if measured:
            trainer.load_best()
        pipe.model.eval()
    epochs: dict[int, dict[str, float]] = {}
    for entry in trainer.state.log_history:
        names = {"loss": "loss", "eval_loss": "val_loss", "eval_accuracy": "val_accuracy"}
        found = {name: float(entry[key]) for key, name in names.items() if key in entry}
        epochs.setdefault(round(entry["epoch"]), {"epoch": round(entry["epoch"])}).update(found)
    return [*epochs.values()]


class ViTTrainer(Trainer):  # type: ignore[misc] # untyped base
    """Trainer with this package's reading of images, and with a loader that restores what was saved.

    Trainer of transformers 5.23 writes checkpoints under the key names of older releases and reads them back
    as they are, ``strict=False``: most weights of a ViT stay what they were, without an error. Here they are
    read as ``from_pretrained`` reads them. tests/unit/test_finetune.py says when that is no longer needed.
    """

    def __init__(
        self, batches: _Batches, measured: Array, arguments: Any, progress: Progress, *, in_memory: bool
    ) -> None:
        images = {"train_dataset": batches, "eval_dataset": measured}
        super().__init__(batches.pipe.model, arguments, compute_loss_func=_loss_of_a_step, **images)
        self.batches, self.measured, self.in_memory = batches, measured, in_memory
        self.best: dict[str, torch.Tensor] = {}
        self.remove_callback(PrinterCallback)
        self.add_callback(_Watch(progress))

    def get_train_dataloader(self) -> Any:
        return self.batches

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW; layers learn the more slowly the nearer they are to the pixels (Clark et al. 2020)."""
        depth = self.model.config.num_hidden_layers + 1
        groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            layer = re.search(r"\blayers?\.(\d+)\.", name)
            below = depth - int(layer[1]) - 1 if layer else depth if "embeddings" in name else 0
            decays = parameter.ndim > 1 and not name.endswith(("cls_token", "position_embeddings"))
            groups.setdefault((below, decays), []).append(parameter)
        self.optimizer = torch.optim.AdamW(
            {
                "params": parameters,
                "lr": self.args.learning_rate * LAYER_DECAY**below,
                "weight_decay": WEIGHT_DECAY * decays,
            }
            for (below, decays), parameters in groups.items()
        )
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        self.model.eval()
        data, places = self.batches, self.measured
        logits = predict(data.pipe, [data.items[i] for i in places], data.size)
        truth = torch.from_numpy(data.truth[places])
        loss = F.cross_entropy(logits, truth).item()
        right = (logits.argmax(1) == truth).float().mean().item()
        if not math.isfinite(loss):
            rate = self.args.learning_rate
            raise ArgumentError(f"learning_rate is {rate:g}: the loss is not finite; use a smaller one")
        found: dict[str, float] = {"eval_loss": loss, "eval_accuracy": right}
        [found] = broadcast_object_list([found])  # processes agree on which is the best
        self.log(dict(found))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.in_memory:
            if self.state.best_global_step == self.state.global_step:
                self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            return
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch has its own for a full disk
            folder = Path(self.args.output_dir)
            shutil.rmtree(folder / f"checkpoint-{self.state.global_step}", ignore_errors=True)
            what = f"no checkpoint can be written, the disk may be full ({reason(error)})"
            raise OutputError(f"{folder}: {what}; make room, then resume") from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        loaded = type(self.model).from_pretrained(resume_from_checkpoint)
        self.model.load_state_dict(loaded.state_dict())

    def load_best(self) -> None:
        """The weights with the best validation."""
        if self.in_memory:
            self.model.load_state_dict(self.best)
        else:  # by its step: the folder may have been moved since
            self._load_from_checkpoint(f"{self.args.output_dir}/checkpoint-{self.state.best_global_step}")


def predict(pipe: ViTPipeline, items: Sequence[Item], batch_size: int) -> torch.Tensor:
    """Logits (N, C), in float32 on the CPU."""

    def compute(pixel_values: torch.Tensor, _: list[str]) -> list[torch.Tensor]:
        return [*pipe.forward(pixel_values).float().cpu()]  # B of (C,)

    pairs = ((item.name, item.image) for item in items)
    with closing(engine.run(pairs, pipe.preparer(), compute, batch_size=batch_size)) as batches:
        return torch.stack([or_raise(found) for batch in batches for _, found in batch])


def smoothed_loss(logits: Array, truth: Array) -> float:
    """What training makes smaller: of logits (N, C) and labels (N,), without augmentation."""
    wanted = torch.from_numpy(truth)
    return F.cross_entropy(torch.from_numpy(logits).double(), wanted, label_smoothing=SMOOTHING).item()


def _loss_of_a_step(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The mean over all batches of a step, whatever their sizes."""
    logits = outputs.logits.float()  # (B, C)
    summed = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING, reduction="sum")
    return summed / (len(labels) if num_items_in_batch is None else num_items_in_batch)


class _Batches:
    """What a process trains on in one epoch: a new order and new augmentation in each."""

    def __init__(
        self,
        pipe: ViTPipeline,
        items: Sequence[Item],
        truth: Array,
        places: Array,
        arguments: Any,
        flip: bool,
    ) -> None:
        self.pipe, self.items, self.truth, self.places, self.flip = pipe, items, truth, places, flip
        self.size, self.seed, self.epoch = arguments.per_device_train_batch_size, arguments.seed, 0
        self.rank, self.processes = arguments.process_index, arguments.world_size
        self.running: Generator[Any, None, None] | None = None
        self.each = -(-len(places) // int(self.processes))

    def __len__(self) -> int:
        return -(-self.each // int(self.size))

    def close(self) -> None:
        """End the threads of an epoch that was not gone through."""
        if self.running:
            self.running.close()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.places)
        # as many for each process: some images twice, where they do not divide evenly
        own = np.resize(order, self.each * self.processes)[self.rank :: self.processes]
        read, seed, epoch = self.pipe.preparer(), self.seed, self.epoch

        def prepare(name: str, place: int) -> torch.Tensor:
            draw = np.random.default_rng((seed, epoch, place))
            return augment(read(name, self.items[place].image), draw, flip=self.flip)

        pairs = ((self.items[place].name, int(place)) for place in own)
        self.running = engine.run(pairs, prepare, lambda pixels, _: [*pixels], batch_size=self.size)
        for number, batch in enumerate(self.running):
            chosen = own[number * self.size : (number + 1) * self.size]
            yield {
                "pixel_values": torch.stack([or_raise(found) for _, found in batch]),  # (B, 3, H, W)
                "labels": torch.from_numpy(self.truth[chosen]),  # (B,)
            }


def augment(pixel_values: torch.Tensor, draw: np.random.Generator, *, flip: bool) -> torch.Tensor:
    """(3, H, W), moved and zoomed a little, and mirrored half of the time where ``flip`` allows it."""
    zoom = 1 + draw.uniform(-ZOOM, ZOOM)
    x, y = draw.uniform(-2 * SHIFT, 2 * SHIFT, 2)  # the image goes from -1 to 1
    mirror = -1 if flip and draw.random() < 0.5 else 1
    to_source = torch.tensor([[[mirror * zoom, 0, x], [0, zoom, y]]], dtype=torch.float32)  # (1, 2, 3)
    grid = F.affine_grid(to_source, [1, *pixel_values.shape], align_corners=False)  # (1, H, W, 2)
    return F.grid_sample(pixel_values[None], grid, padding_mode="border", align_corners=False)[0]


class _Watch(TrainerCallback):  # type: ignore[misc] # untyped base
    """Says how far training is, and ends it early."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        seen: dict[str, float] = {}
        for entry in state.log_history[-2:]:
            names = {"loss": "loss", "eval_accuracy": "accuracy"}
            seen |= {name: entry[key] for key, name in names.items() if key in entry}
        self.progress("train", state.global_step, state.max_steps, seen)

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        control.should_training_stop |= stopped(state)


def stopped(state: TrainerState) -> bool:
    """Whether the best validation is ``PATIENCE`` epochs ago."""
    an_epoch = state.max_steps / state.num_train_epochs
    return state.best_global_step is not None and (
        state.global_step - state.best_global_step >= PATIENCE * an_epoch
    )


def _last_checkpoint(folder: Path) -> Path | None:
    """The last complete one; what a killed run had begun to write is deleted."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        try:
            found[TrainerState.load_from_json(str(path / _STATE)).global_step] = path
        except (OSError, ValueError, TypeError):
            shutil.rmtree(path, ignore_errors=True)
    return found[max(found)] if found else None


@contextmanager
def _nothing_global_changed() -> Iterator[None]:
    """Trainer seeds every generator of the process, and writes to its log."""
    states = random.getstate(), np.random.get_state()
    with quiet_transformers(), torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
