"""``evaluate``, its reports and its command, on a tiny model whose answers are known."""

from __future__ import annotations

import json
import os
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image
from tiny import change_json, make_checkpoint

from vit_pipeline import Evaluation, ViTPipeline, evaluate, evaluation
from vit_pipeline.errors import ArgumentError, CheckpointError, OutputError, VitPipelineError

metrics = pytest.importorskip("sklearn.metrics")
LABELS = [
    "<b>cat</b>",
    "狗",
    "..",
    "a & b",
    "fox, red fox",
    "never",
]  # the folders of the first five have images
COUNT = 130


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_checkpoint(tmp_path_factory.mktemp("model"), labels=len(LABELS))
    change_json(folder / "config.json", id2label=dict(enumerate(LABELS)), label2id=None)
    return folder


@pytest.fixture(scope="module")
def pipe(model: Path) -> ViTPipeline:
    return ViTPipeline.from_pretrained(model, device="cpu")


@pytest.fixture(scope="module")
def table(pipe: ViTPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with labels of which about two thirds are the model's own, as ``labels.csv``."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    names = [f"{number:03}.png" for number in range(COUNT)]
    for name in names:
        colour = draw.integers(0, 256, 3)
        pixels = (colour + draw.normal(0, 40, (16, 16, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    answers = pipe([folder / name for name in names], batch_size=32)
    lines = ["path,label"]
    for name, answer in zip(names, answers, strict=True):
        index = answer.index if draw.random() < 0.67 and answer.index < 5 else int(draw.integers(0, 5))
        lines.append(f'{name},"{LABELS[index]}"')
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def found(pipe: ViTPipeline, table: Path) -> Evaluation:
    return evaluate(table, pipe, batch_size=32)


def truths(table: Path) -> list[int]:
    labels = [line.partition(",")[2].strip('"') for line in table.read_text("utf-8").splitlines()[1:]]
    return [LABELS.index(label) for label in labels]


def test_the_numbers_are_those_of_the_models_answers(
    found: Evaluation, pipe: ViTPipeline, table: Path
) -> None:
    images = sorted(table.parent.glob("*.png"))
    answers = pipe(images, top_k=6, batch_size=32)
    truth, predicted = np.array(truths(table)), np.array([answer.index for answer in answers])
    assert found.top1.value == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert 0.4 < found.top1.value < 0.9
    inside = [index in [entry.index for entry in a.top[:5]] for index, a in zip(truth, answers, strict=True)]
    assert found.top5 is not None
    assert found.top5.hits == sum(inside) < COUNT
    expected = metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(5), average="macro", zero_division=0
    )
    assert list(found.macro.values()) == pytest.approx(expected[:3])
    wrong = [a for a, index in zip(answers, truth, strict=True) if a.index != index]
    wrong.sort(key=lambda answer: -answer.score)
    assert len(wrong) > 24 == len(found.mistakes)
    assert [m.source for m in found.mistakes] == [answer.source for answer in wrong[:24]]
    scores = [answer.score for answer in wrong[:24]]
    assert [m.confidence for m in found.mistakes] == pytest.approx(scores, rel=1e-4)
    assert sum(pair.images for pair in found.confused) == len(wrong)
    assert (found.images, found.unread, found.published, found.comparison) == (COUNT, 0, None, None)
    assert found.calibration is not None
    assert found.calibration.fitted_on == COUNT // 2


def test_the_batches_make_no_difference(found: Evaluation, pipe: ViTPipeline, table: Path) -> None:
    seen: list[tuple[int, int]] = []
    again = evaluate(table, pipe, batch_size=50, progress=lambda *so_far: seen.append(so_far))
    assert (again.top1, again.classes, again.confusion) == (found.top1, found.classes, found.confusion)
    assert again.reliability.ece == pytest.approx(found.reliability.ece, abs=1e-4)
    assert seen == [(50, COUNT), (100, COUNT), (130, COUNT)]


def test_only_some_logits_are_kept(pipe: ViTPipeline, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vit_pipeline.evaluation._LOGITS", COUNT * len(LABELS) // 2)
    some = evaluate(table, pipe, batch_size=32)
    assert some.calibration is not None
    assert 12 < some.calibration.fitted_on < 32  # of every third image, about half
    assert some.calibration.flagged.images == COUNT // 2


def test_folders_bad_images_and_an_empty_class(pipe: ViTPipeline, table: Path, tmp_path: Path) -> None:
    """A class cannot be called ``..`` in a folder; its images go by another name, and a mapping says so."""
    images = sorted(table.parent.glob("*.png"))[:20]
    for image, index in zip(images, truths(table), strict=False):
        folder = tmp_path / {2: "dots"}.get(index, LABELS[index].replace("/", "_"))
        folder.mkdir(exist_ok=True)
        shutil.copy(image, folder)
    (tmp_path / "狗" / "broken.jpg").write_bytes(b"broken")
    (tmp_path / "empty").mkdir()
    (tmp_path / "not ours").mkdir()
    shutil.copy(images[0], tmp_path / "not ours" / "x.png")
    (tmp_path / "狗" / "loop").symlink_to(tmp_path)
    mapping = {"dots": "..", "<b>cat<_b>": 0, "empty": "never", "not ours": None}
    errors: list[VitPipelineError] = []
    with pytest.raises(ArgumentError, match=r"3 of \d labels are no class .*: .*dots.*, not ours"):
        evaluate(tmp_path, pipe)
    found = evaluate(tmp_path, pipe, mapping=mapping, on_error=errors.append)
    assert (found.images, found.unread) == (20, 2)
    assert [str(error) for error in errors] == list(found.errors)
    assert sum("broken.jpg" in error for error in found.errors) == 1
    assert found.matched["not ours"] is None
    assert found.matched["dots"] == ".."
    assert found.calibration is None
    assert "1 label left out" in str(found)
    assert "2 could not be read" in str(found)


@pytest.mark.slow
def test_another_model_on_the_same_images(
    found: Evaluation, pipe: ViTPipeline, table: Path, tmp_path: Path
) -> None:
    """Its classes are in another order; it cannot have read what has gone."""
    folder = make_checkpoint(tmp_path / "other", labels=6, seed=1)
    change_json(folder / "config.json", id2label=dict(enumerate(LABELS[::-1])), label2id=None)
    other = ViTPipeline.from_pretrained(folder, device="cpu")
    compared = evaluate(table, pipe, against=other, batch_size=32).comparison
    assert compared is not None
    alone = evaluate(table, other, batch_size=32)
    assert compared.top1 == alone.top1 != found.top1
    assert compared.difference[0] == pytest.approx(found.top1.value - alone.top1.value)
    assert compared.only_this - compared.only_other == found.top1.hits - alone.top1.hits
    itself = evaluate(table, pipe, against=pipe, batch_size=32).comparison
    assert itself is not None
    assert (itself.only_this, itself.only_other, itself.p_value) == (0, 0, 1.0)
    with pytest.raises(ArgumentError, match="no class of the model"):
        evaluate(table, pipe, against=ViTPipeline.from_pretrained("demo", device="cpu"))


def test_reports(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert read["top1"]["value"] == found.top1.value
    assert read["classes"][1]["label"] == "狗"
    assert "seen" not in read["mistakes"][0]
    found.save(tmp_path / "report.HTML")
    page = (tmp_path / "report.HTML").read_text("utf-8")
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "a &amp; b" in page
    assert "狗" in page
    assert f"{found.top1.value:.2%}" in page
    assert page.count("data:image/jpeg;base64,/9j/") == 24
    for word in ("<script", "http://", "https://", 'src="/', "nan"):
        assert word not in page
    with pytest.raises(ArgumentError, match=r"must end in \.html or \.json"):
        found.save(tmp_path / "report.pdf")
    with pytest.raises(OutputError):
        found.save(tmp_path / "gone" / "report.html")
    text = str(found)
    assert f"{found.top1.hits} of {COUNT}" in text
    assert "<b>cat</b>" in text


def test_names_on_disk_that_are_not_text(pipe: ViTPipeline, table: Path, tmp_path: Path) -> None:
    label = os.fsdecode(b"\xff<i>\x1b[31m")
    (tmp_path / label).mkdir()
    shutil.copy(table.with_name("000.png"), tmp_path / label / os.fsdecode(b"\xff\x1b[31m<i>.png"))
    shutil.copy(table.with_name("001.png"), tmp_path / label)
    found = evaluate(tmp_path, pipe, mapping={label: "never"})
    assert [mistake.truth for mistake in found.mistakes] == ["never"] * 2
    for suffix in ("html", "json"):
        found.save(tmp_path / f"report.{suffix}")
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["matched"] == {label: "never"}
    assert "<i>" not in (tmp_path / "report.html").read_text("utf-8")
    skipped = evaluate(table, pipe, mapping={"狗": None, "..": None}, batch_size=32)
    assert "\x1b" not in str(skipped)
    assert "2 labels left out" in str(skipped)
    skipped.save(tmp_path / "report.html")
    assert "Left out, as the mapping says: .., 狗" in (tmp_path / "report.html").read_text("utf-8")


def test_a_page_of_many_classes_shows_the_most_confused(tmp_path: Path, table: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", labels=40)
    change_json(folder / "config.json", id2label={i: f"k{i:02}" for i in range(40)}, label2id=None)
    lines = ["path,label", *(f"{table.with_name(f'{n:03}.png')},k{n % 40:02}" for n in range(80))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = evaluate(
        tmp_path / "labels.csv", ViTPipeline.from_pretrained(folder, device="cpu"), batch_size=40
    )
    found.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('<th title="k') <= 48
    assert "Only the 24 classes that are confused most often, of 40" in page
    assert len(found.classes) == 40


def test_nothing_to_measure(pipe: ViTPipeline, model: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "never").mkdir()
    (tmp_path / "never" / "x.png").write_bytes(b"x")
    with pytest.raises(ArgumentError, match="no image can be read, of 1"):
        evaluate(tmp_path, pipe)
    folder = shutil.copytree(model, tmp_path / "regression")
    change_json(folder / "config.json", problem_type="regression")
    with pytest.raises(ArgumentError, match="no accuracy"):
        evaluate(table, ViTPipeline.from_pretrained(folder, device="cpu"))


def test_logits_that_are_not_finite(model: Path, table: Path) -> None:
    broken = ViTPipeline.from_pretrained(model, device="cpu")
    broken.model.classifier.bias.data[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        evaluate(table, broken)


def test_a_calibrated_model_says_how_far_to_trust_it(
    found: Evaluation, pipe: ViTPipeline, model: Path, table: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    assert found.write_calibration(copy) == copy / "calibration.json"
    read, calibration = json.loads((copy / "calibration.json").read_text("utf-8")), found.calibration
    assert calibration is not None
    assert (read["temperature"], read["ece_after"]) == (calibration.temperature, calibration.after.ece)
    assert (read["fitted_on"], read["seed"], read["images"]) == (COUNT // 2, 0, COUNT)
    images = [*map(pipe.read, sorted(table.parent.glob("*.png")))]
    logits = pipe.forward(pipe.preprocess(images)).numpy().astype(float)
    scaled = np.exp(logits / calibration.temperature)
    expected = (scaled / scaled.sum(1, keepdims=True)).max(1)
    unlike = np.log(np.exp(logits).sum(1)) < calibration.energy_threshold
    assert 0 < unlike.sum() < COUNT / 5
    honest = ViTPipeline.from_pretrained(copy, device="cpu")
    plain, now = pipe(images, batch_size=32), honest(images, batch_size=32)
    assert [answer.calibrated for answer in now] == pytest.approx(expected, abs=1e-6)
    assert [answer.unlike for answer in now] == unlike.tolist()
    assert [answer.top for answer in now] == [answer.top for answer in plain]  # the scores are as before
    assert now[0].to_dict() == plain[0].to_dict() | {
        "model": str(copy), "calibrated": now[0].calibrated, "unlike": now[0].unlike
    }  # fmt: skip
    assert (plain[0].calibrated, plain[0].unlike) == (None, None)
    honest.save_pretrained(tmp_path / "saved")
    assert ViTPipeline.from_pretrained(tmp_path / "saved", device="cpu").calibration == honest.calibration


def test_calibration_goes_with_the_files_it_was_measured_on(
    found: Evaluation, pipe: ViTPipeline, table: Path, tmp_path: Path
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=3)
    for folder in (other, tmp_path):
        with pytest.raises(ArgumentError, match="not the files of"):
            found.write_calibration(folder)
        assert not (folder / "calibration.json").exists()
    with pytest.raises(ArgumentError, match="save it there"):
        evaluate(table, ViTPipeline(pipe.model, pipe.processor)).write_calibration(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"temperature": 0, "energy_threshold": 1}', '{"temperature": null}',
             '{"temperature": 1, "energy_threshold": NaN}']
)  # fmt: skip
def test_somebody_elses_calibration_json(model: Path, tmp_path: Path, text: str) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "calibration.json").write_text(text)
    loaded = ViTPipeline.from_pretrained(copy, device="cpu")
    assert loaded.calibration is None
    assert "ignored calibration.json" in loaded.notes[-1]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_computed_is_kept(
    model: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(evaluation, "_CHUNK", 2)
    images = tmp_path / "images"
    shutil.copytree(table.parent, images)
    (images / "007.png").write_bytes(b"no image")
    pipe, work = ViTPipeline.from_pretrained(model, device="cpu", dtype=dtype), tmp_path / "work"
    whole = evaluate(images / "labels.csv", pipe).to_dict()

    def stop(done: int, total: int) -> None:
        if done == 72:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(images / "labels.csv", pipe, work=work, progress=stop)
    assert len([*work.iterdir()]) == 4  # of 16 images each
    seen: list[VitPipelineError] = []
    computed: list[int] = []
    prepare = ViTPipeline.preparer
    monkeypatch.setattr(
        ViTPipeline, "preparer", lambda *of, **more: computed.append(1) or prepare(*of, **more)
    )
    resumed = evaluate(images / "labels.csv", pipe, work=work, on_error=seen.append).to_dict()
    assert len(computed) == 6  # five times 16 images or fewer; and the mistakes that are shown
    assert [str(error).partition(":")[0] for error in seen] == [str(images / "007.png")]
    for found in (whole, resumed):
        found.pop("images_per_second")
    assert resumed == whole
    shutil.copy(images / "008.png", images / "007.png")  # what has changed is computed again
    assert evaluate(images / "labels.csv", pipe, work=work).unread == 0
    assert len([*work.iterdir()]) == 10


# The command


@pytest.mark.slow
def test_the_command(run: Run, model: Path, table: Path, tmp_path: Path) -> None:
    report, copy = tmp_path / "report.html", shutil.copytree(model, tmp_path / "model")
    options = ("--model", copy, "--device", "cpu", "--batch-size", 32)
    code, out, err = run("evaluate", table, *options, "-o", report, "--seed", 3, "--write-calibration")
    assert code == 0
    assert f" of {COUNT}" in out
    assert json.loads((copy / "calibration.json").read_text("utf-8"))["seed"] == 3
    code, said, _ = run("predict", table.parent / "000.png", "--model", copy, "--device", "cpu")
    assert (code, "; calibrated " in said) == (0, True)
    assert report.read_text("utf-8").startswith("<!doctype html>")
    assert not report.with_name("report.html.unfinished").exists()
    report = tmp_path / "report.json"
    arguments = ("--against-dtype", "bfloat16", "-o", report, "-q")
    code, out, err = run("evaluate", table, *options, *arguments)
    assert (code, err) == (0, "")
    assert "bfloat16" in json.loads(report.read_text("utf-8"))["comparison"]["model"]
    assert "McNemar" in out


def test_the_command_says_what_is_wrong_before_it_runs(run: Run, table: Path, tmp_path: Path) -> None:
    code, out, err = run("evaluate", table, "--model", "demo", "-o", tmp_path / "report.html")
    assert (code, out) == (2, "")
    assert "5 of 5 labels are no class of the model" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    assert run("evaluate", table, "--model", "demo", "-o", tmp_path / "report.pdf")[0] == 2
    (tmp_path / "cat").mkdir()
    shutil.copy(table.with_name("000.png"), tmp_path / "cat")
    (tmp_path / "cat" / "bad.png").write_bytes(b"bad")
    code, out, err = run("evaluate", tmp_path, "--model", "demo", "--device", "cpu")
    assert code == 1
    assert "bad.png" in err
    assert "1 could not be read" in out


def test_without_scipy_it_is_one_line(run: Run, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "scipy" else find_spec(name))
    code, _, err = run("evaluate", table, "--model", "demo")
    assert code == 2
    assert "error: evaluate needs scipy" in err
    assert "pip install 'scipy" in err


@pytest.mark.slow
def test_demo_on_cifar10() -> None:
    """VIT_PIPELINE_CIFAR10: a folder with ``test/<class>/<image>``, a JPEG copy of CIFAR-10."""
    folder = os.environ.get("VIT_PIPELINE_CIFAR10")
    if not folder:
        pytest.skip("VIT_PIPELINE_CIFAR10 does not say where CIFAR-10's images are")
    found = evaluate(folder, ViTPipeline.from_pretrained("demo", device="cpu"), batch_size=64)
    assert (found.top1.hits, found.top1.images) == (8391, 10_000)
    assert (round(found.top1.low, 4), round(found.top1.high, 4)) == (0.8318, 0.8462)
    assert found.published is not None
    assert found.published["inside"] is True
    published = [850, 918, 788, 675, 791, 769, 919, 870, 911, 900]  # in the model card
    assert [round(1000 * scores.recall) for scores in found.classes] == published
    assert found.calibration is not None
    assert found.calibration.after.ece < found.calibration.before.ece
    assert found.calibration.flagged.value < 0.06
