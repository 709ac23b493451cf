"""The command line with a model from a hub: the real client against a local server."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import Run
from hub_server import HubServer

PHOTO = Path(__file__).parents[2] / "examples" / "cat.png"
REPO = "acme/tiny-vit"


@pytest.fixture
def acme(hub: HubServer, tiny_files: dict[str, bytes]) -> HubServer:
    hub.add(REPO, tiny_files)
    hub.add(REPO, tiny_files, revision="v1")
    return hub


def predict(run: Run, *options: str) -> tuple[int, dict[str, object] | None, str]:
    code, out, err = run("predict", PHOTO, "--model", REPO, "--json", *options)
    return code, json.loads(out) if out else None, err


def test_downloads_once_and_then_makes_no_request(acme: HubServer, run: Run) -> None:
    code, record, err = predict(run)
    assert code == 0
    assert record is not None
    assert (record["model"], record["source"]) == (REPO, str(PHOTO))
    assert str(record["label"]).startswith("thing ")
    assert err == (
        f"{REPO} (ModelScope), revision master, on cpu, float32; "
        "5 classes: thing 0, thing 1, thing 2, thing 3, thing 4\n"
    )
    assert sorted(acme.downloads) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    acme.requests.clear()
    assert predict(run) == (0, record, err)
    assert acme.requests == []


def test_refresh_and_revision(acme: HubServer, run: Run, tiny_files: dict[str, bytes]) -> None:
    assert "revision v1" in predict(run, "--revision", "v1")[2]
    assert run("predict", PHOTO, "--model", f"{REPO}@v1")[0] == 0
    assert all(request.query.get("Revision", "v1") == "v1" for request in acme.requests)
    predict(run)
    config = json.loads(tiny_files["config.json"])
    names = {str(index): f"new {index}" for index in range(5)}
    config |= {"id2label": names, "label2id": {name: int(index) for index, name in names.items()}}
    acme.add(REPO, tiny_files | {"config.json": json.dumps(config).encode()})
    assert "thing 0" in predict(run)[2]
    assert "new 0" in predict(run, "--refresh")[2]
    assert "new 0" in predict(run)[2]


def test_download_and_models(acme: HubServer, run: Run, tiny_files: dict[str, bytes], tmp_path: Path) -> None:
    code, out, _ = run("download", REPO)
    assert code == 0
    assert (Path(out.strip()) / "model.safetensors").read_bytes() == tiny_files["model.safetensors"]
    assert Path(out.strip()).is_relative_to(tmp_path / "cache")
    acme.add("AI-ModelScope/vit-base-patch16-224", tiny_files)
    assert run("download", "vit-base")[0] == 0
    rows = {row["name"]: row for row in map(json.loads, run("models", "--json")[1].splitlines())}
    assert rows["vit-base"]["cached"]
    assert rows["vit-base"]["bytes"] > len(tiny_files["model.safetensors"])


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("down", "MODELSCOPE_ENDPOINT"),
        ("no such model", "acme/nothing"),
        ("no such revision", "v9"),
        ("hash", "model.safetensors"),
        ("read-only", "MODELSCOPE_CACHE"),
        ("damaged", "model.safetensors"),
    ],
)
def test_each_fault_is_one_line_that_names_the_model_and_what_to_do(
    acme: HubServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "3")
    arguments: tuple[str, ...] = ()
    if fault == "down":
        acme.close()
    elif fault == "no such model":
        arguments = ("--model", "acme/nothing")
    elif fault == "no such revision":
        arguments = ("--revision", "v9")
    elif fault == "hash":
        acme.fault("model.safetensors", corrupt=True)
    elif fault == "read-only":
        (tmp_path / "cache").write_text("a file where the folder should be")
    elif fault == "damaged":
        predict(run)
        path = next((tmp_path / "cache").rglob("model.safetensors"))
        path.write_bytes(path.read_bytes()[:-10])
        acme.close()
    code, record, err = predict(run, *arguments)
    assert (code, record) == (1, None)
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert (REPO in err) or ("acme/nothing" in err)
    assert says in err


def test_a_damaged_copy_is_downloaded_again(acme: HubServer, run: Run, tmp_path: Path) -> None:
    _, record, _ = predict(run)
    path = next((tmp_path / "cache").rglob("model.safetensors"))
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(content)
    assert predict(run)[1] == record


def test_a_name_that_is_also_a_folder_says_so(
    acme: HubServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, record, _ = predict(run)
    cached = next((tmp_path / "cache").rglob("model.safetensors")).parent
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cached, Path(REPO))
    code, nothing, err = predict(run)
    assert (code, nothing) == (1, None)
    assert f"./{REPO}" in err
    assert f"{REPO}@master" in err
    for way in (f"./{REPO}", f"{REPO}@master"):
        code, other, _ = predict(run, "--model", way)
        assert code == 0
        assert other is not None
        assert record is not None
        assert other["label"] == record["label"]
    assert os.sep in REPO
