"""Downloads with ModelScope's real client from a server on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Spawn, wait_for
from hub_server import LISTING, HubServer

from vit_pipeline import hub as door
from vit_pipeline.checkpoints.files import CONFIG, PICKLE, PREPROCESSOR, PROCESSOR, WEIGHTS
from vit_pipeline.errors import ArgumentError, CheckpointError, DownloadError, ModelNameError
from vit_pipeline.hub.cache import RECORD, snapshot_folder
from vit_pipeline.hub.client import in_the_open
from vit_pipeline.names import KNOWN_MODELS, KnownModel, parse_name

REPO = "acme/tiny-vit"
FILES = (CONFIG, PREPROCESSOR, WEIGHTS)
INDEX = f"{WEIGHTS}.index.json"
Files = dict[str, bytes]


@pytest.fixture
def tiny(hub: HubServer, tiny_files: Files) -> HubServer:
    hub.add(REPO, tiny_files)
    return hub


def other(files: Files) -> Files:
    """The same architecture with another last byte of weights and another label."""
    weights = files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1])
    return files | {WEIGHTS: weights, CONFIG: files[CONFIG].replace(b"thing 0", b"thing X")}


def contents(folder: Path, names: tuple[str, ...] = FILES) -> Files:
    return {name: (folder / name).read_bytes() for name in names}


def download_fails(*words: str, **options: Any) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        door.download(REPO, **options)
    message = str(caught.value)
    assert message.startswith(REPO)
    assert "\n" not in message
    assert message.isascii(), "the client's Chinese-only messages stay in the cause"
    assert len(message) < 500, "not cut off"
    for word in words:
        assert word in message
    return caught.value


# ---------------------------------------------------------------- cold, warm, pinned, newer


def test_cold_then_warm(tiny: HubServer, tiny_files: Files, tmp_path: Path) -> None:
    tiny.add(REPO, tiny_files | {"README.md": b"# hi", "extra/config.json": b"{}", "pytorch_model.bin": b"x"})
    first = door.download(REPO)
    assert first.folder == tmp_path / "cache/models/acme--tiny-vit/snapshots/master"
    assert (first.repo, first.revision, first.downloaded) == (REPO, "master", True)
    assert first.files == FILES
    assert contents(first.folder) == {name: tiny_files[name] for name in FILES}
    assert sorted(p.name for p in first.folder.iterdir()) == sorted([*FILES, RECORD])
    assert tiny.downloads == sorted(FILES)

    tiny.clear()
    second = door.download(REPO)
    assert (second.folder, second.downloaded) == (first.folder, False)
    assert door.find_cached(REPO) == second
    assert tiny.requests == []


def test_cached_copy_needs_no_modelscope_and_a_download_is_silent(tiny: HubServer) -> None:
    code = f"""
        import logging, sys, warnings
        import numpy, requests  # have filters of their own
        before = [(type(h), h.level) for h in logging.root.handlers], list(warnings.filters)
        from vit_pipeline import hub
        assert not set(sys.modules) & {{"modelscope", "modelscope_hub", "torch", "filelock"}}
        assert hub.find_cached("{REPO}") is None
        cold = hub.download("{REPO}")
        assert not set(sys.modules) & {{"modelscope", "torch"}}, "its client alone is enough"
        assert before == ([(type(h), h.level) for h in logging.root.handlers], list(warnings.filters))
        logging.warning("still heard")
        assert hub.download("{REPO}", refresh=True).downloaded
    """
    tiny.fault(CONFIG, status=503, times=1)  # the client would log its retry
    cold = run_python(code)
    assert cold == (0, "", "WARNING:root:still heard\n"), cold[2]
    tiny.clear()
    warm = f"""
        import sys
        from vit_pipeline import hub
        assert not hub.download("{REPO}").downloaded
        assert not set(sys.modules) & {{"modelscope", "modelscope_hub", "torch", "huggingface_hub"}}
    """
    assert run_python(warm) == (0, "", "")
    assert tiny.requests == []


def test_pinned_revision_is_its_own_copy(tiny: HubServer, tiny_files: Files) -> None:
    old = other(tiny_files)
    tiny.add(REPO, old, revision="v1.0")
    tiny.add(REPO, old, revision="release/2")
    assert contents(door.download(REPO, "v1.0").folder) == {name: old[name] for name in FILES}
    assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS]
    assert door.download(REPO, "release/2").folder.parts[-2:] == ("release", "2")
    tiny.clear()
    assert door.download(REPO, "v1.0").revision == "v1.0"
    assert tiny.requests == []


def test_refresh_brings_what_changed(tiny: HubServer, tiny_files: Files) -> None:
    folder = door.download(REPO).folder
    newer = other(tiny_files)
    tiny.add(REPO, newer)
    assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS], "not asked for"
    tiny.clear()
    found = door.download(REPO, refresh=True)
    assert (found.folder, found.downloaded) == (folder, True)
    assert contents(folder) == {name: newer[name] for name in FILES}
    assert tiny.downloads == [CONFIG, WEIGHTS], "the preprocessor is the same"
    assert [path.name for path in folder.parent.iterdir()] == ["master"]
    tiny.clear()
    assert not door.download(REPO).downloaded
    assert tiny.requests == []


@pytest.mark.parametrize("fault", [{"status": 503}, {"corrupt": True}, {"short": 7}, {"cut": 100}])
def test_refresh_that_fails_leaves_the_copy(
    tiny: HubServer, tiny_files: Files, fault: dict[str, Any]
) -> None:
    folder = door.download(REPO).folder
    tiny.add(REPO, other(tiny_files))
    tiny.fault(WEIGHTS, **fault)
    download_fails(refresh=True)
    tiny.clear()
    assert contents(door.download(REPO).folder) == {name: tiny_files[name] for name in FILES}
    assert tiny.requests == []
    tiny.heal()
    assert contents(door.download(REPO, refresh=True).folder)[CONFIG] == other(tiny_files)[CONFIG]
    assert [path.name for path in folder.parent.iterdir()] == ["master"]


def test_refresh_of_a_copy_that_the_client_made_itself(tiny: HubServer, tiny_files: Files) -> None:
    folder = snapshot_folder(REPO)
    fill(folder, tiny_files)
    assert door.find_cached(REPO) is not None
    tiny.fault(LISTING, status=404)
    download_fails(refresh=True)
    assert contents(door.download(REPO).folder) == {name: tiny_files[name] for name in FILES}


# ---------------------------------------------------------------- which files


def test_pickle_only_where_there_are_no_safetensors(hub: HubServer, tiny_files: Files) -> None:
    files = {name: tiny_files[name] for name in (CONFIG, PREPROCESSOR)} | {PICKLE: b"PK weights"}
    hub.add(REPO, files)
    found = door.download(REPO)
    assert found.files == (CONFIG, PREPROCESSOR, PICKLE)
    hub.clear()
    assert door.download(REPO).files == found.files
    assert hub.requests == []


def test_timm_layout_needs_no_preprocessor(hub: HubServer, tiny_files: Files) -> None:
    config = json.dumps({"architecture": "vit_small_patch16_224", "pretrained_cfg": {}}).encode()
    hub.add(REPO, {CONFIG: config, WEIGHTS: tiny_files[WEIGHTS]})
    assert door.download(REPO).files == (CONFIG, WEIGHTS)
    assert not door.download(REPO).downloaded


SHARDS = tuple(f"model-0000{part}-of-00002.safetensors" for part in (1, 2))


def sharded(files: Files, names: tuple[str, ...] = SHARDS) -> Files:
    table = {f"tensor.{place}": name for place, name in enumerate(names)}
    index = json.dumps({"metadata": {}, "weight_map": table}).encode()
    small = {name: content for name, content in files.items() if name != WEIGHTS}
    return small | {INDEX: index} | dict.fromkeys(names, files[WEIGHTS])


def test_shards(hub: HubServer, tiny_files: Files) -> None:
    files = sharded(tiny_files)
    hub.add(
        REPO, files | {"model-00003-of-00003.safetensors": b"of another time", "pytorch_model.bin": b"PK"}
    )
    found = door.download(REPO)
    assert found.files == (CONFIG, PREPROCESSOR, INDEX, *SHARDS)
    assert hub.downloads == sorted(found.files)
    assert contents(found.folder, found.files) == files
    hub.clear()
    assert door.download(REPO).files == found.files
    assert hub.requests == []
    truncate(found.folder / SHARDS[1])
    assert door.find_cached(REPO) is None
    assert door.download(REPO).downloaded
    assert hub.downloads == [SHARDS[1]]


def test_pickles_in_shards(hub: HubServer, tiny_files: Files) -> None:
    shards = tuple(f"pytorch_model-0000{part}-of-00002.bin" for part in (1, 2))
    index = json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}).encode()
    small = {name: tiny_files[name] for name in (CONFIG, PREPROCESSOR)}
    hub.add(REPO, small | {f"{PICKLE}.index.json": index} | dict.fromkeys(shards, b"PK weights"))
    found = door.download(REPO)
    assert found.files == (CONFIG, PREPROCESSOR, f"{PICKLE}.index.json", *shards)
    assert door.find_cached(REPO) is not None
    (found.folder / shards[1]).unlink()
    assert door.find_cached(REPO) is None


def test_leftovers_of_an_interrupted_download(hub: HubServer, tiny_files: Files) -> None:
    """The repository has replaced its weights since; the old ones are not taken for part of it."""
    fill(snapshot_folder(REPO).with_name(".master.new"), tiny_files)
    files = {name: tiny_files[name] for name in (CONFIG, PREPROCESSOR)} | {PICKLE: b"PK weights"}
    hub.add(REPO, files)
    assert door.download(REPO).files == (CONFIG, PREPROCESSOR, PICKLE)


def test_weights_beside_those_that_were_downloaded(hub: HubServer, tiny_files: Files) -> None:
    """Loading would prefer them, so the copy is not the one that was downloaded."""
    files = {name: tiny_files[name] for name in (CONFIG, PREPROCESSOR)} | {PICKLE: b"PK weights"}
    hub.add(REPO, files)
    folder = door.download(REPO).folder
    (folder / WEIGHTS).write_bytes(tiny_files[WEIGHTS])
    assert door.find_cached(REPO) is None
    assert door.download(REPO).downloaded
    assert not (folder / WEIGHTS).exists()


@pytest.mark.parametrize(
    "names",
    [
        ("../../evil-00001-of-00001.safetensors",),
        ("model-00001-of-00002.safetensors", "/tmp/model-00002-of-00002.safetensors"),
        ("model-1-of-2.safetensors",),
        tuple(f"model-{part:05}-of-00501.safetensors" for part in range(501)),
        (),
    ],
)
def test_an_index_that_names_other_files(hub: HubServer, tiny_files: Files, names: tuple[str, ...]) -> None:
    hub.add(REPO, sharded(tiny_files, names))
    with pytest.raises(CheckpointError, match=INDEX):
        door.download(REPO)
    assert not set(hub.downloads) & set(names)
    assert door.find_cached(REPO) is None


def test_a_shard_that_the_repository_lacks(hub: HubServer, tiny_files: Files) -> None:
    hub.add(REPO, {name: content for name, content in sharded(tiny_files).items() if name != SHARDS[1]})
    with pytest.raises(CheckpointError, match=f"{SHARDS[1]} is missing"):
        door.download(REPO)
    assert door.find_cached(REPO) is None


@pytest.mark.parametrize("extra", [{}, {PROCESSOR: b"{}"}])
def test_no_preprocessor_config(hub: HubServer, tiny_files: Files, extra: Files) -> None:
    """Where the repository has none, its download is complete without; elsewhere that proves nothing."""
    files = {CONFIG: tiny_files[CONFIG], WEIGHTS: tiny_files[WEIGHTS]} | extra
    hub.add(REPO, files)
    found = door.download(REPO)
    assert set(found.files) == set(files)
    assert door.find_cached(REPO) is not None
    (found.folder / RECORD).unlink()  # as if the client alone had made it
    assert (door.find_cached(REPO) is not None) == bool(extra)


def test_a_file_that_is_no_longer_in_the_repository(tiny: HubServer, tiny_files: Files) -> None:
    folder = door.download(REPO).folder
    (folder / "notes.txt").write_text("the user's own")
    newer = {CONFIG: tiny_files[CONFIG], PREPROCESSOR: tiny_files[PREPROCESSOR], PICKLE: b"PK weights"}
    tiny.add(REPO, newer)
    assert door.download(REPO, refresh=True).files == tuple(newer)
    assert {path.name for path in folder.iterdir()} == {*newer, RECORD, "notes.txt"}
    assert door.find_cached(REPO) is not None


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (CONFIG, "has no config.json"),
        (WEIGHTS, "has no model.safetensors or pytorch_model.bin"),
    ],
)
def test_a_file_that_the_repository_lacks(
    hub: HubServer, tiny_files: Files, without: str, words: str
) -> None:
    hub.add(REPO, {name: content for name, content in tiny_files.items() if name != without})
    download_fails(words)
    assert door.find_cached(REPO) is None


def test_config_only(tiny: HubServer, tiny_files: Files) -> None:
    found = door.download(REPO, weights=False)
    assert (found.files, tiny.downloads) == ((CONFIG,), [CONFIG])
    assert door.find_cached(REPO) is None, "must not look complete"
    tiny.clear()
    assert not door.download(REPO, weights=False).downloaded
    assert tiny.requests == []
    assert door.download(REPO).files == FILES
    # a newer configuration does not belong to the weights on disk
    tiny.add(REPO, other(tiny_files))
    assert door.download(REPO, weights=False, refresh=True).downloaded
    assert not door.download(REPO).downloaded, "the weights were refreshed, too"
    assert contents(door.download(REPO).folder) == {name: other(tiny_files)[name] for name in FILES}


def test_a_listing_with_hostile_paths_writes_nothing_elsewhere(
    hub: HubServer, tiny_files: Files, tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    names = ["../../../../../evil/config.json", "../config.json", "..\\config.json", f"{evil}/config.json"]
    names += [
        f"{evil}/model.safetensors",
        "/config.json",
        "a/../../config.json",
        "config.json/../../../x.json",
    ]
    hub.add(REPO, dict.fromkeys(names, b"{}") | tiny_files)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    found = door.download(REPO)
    assert contents(found.folder) == {name: tiny_files[name] for name in FILES}
    assert hub.downloads == sorted(FILES)
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path for path in new if found.folder not in path.parents} <= {
        *(tmp_path / "cache/.lock").iterdir(),
        *(tmp_path / "modelscope/credentials").iterdir(),
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>welcome</html>", "answered with no file listing"),
        (b'{"Data": {"Files": [1, 2]}}', "answered with no file listing"),
        (b'{"Data": {"Files": [{"Path": 7, "Size": 3}]}}', "has no config.json"),
        (b'{"Data": {"Files": [{"Path": "config.json", "Size": "big"}]}}', "answered with no file listing"),
        (b"[]", "answered with no file listing"),
        (b'{"Data": {"Files": []}}', "has no config.json"),
        (b'{"Data": null}', "has no config.json"),
        (b"", "answered with no file listing"),
    ],
)
def test_an_invalid_listing(tiny: HubServer, body: bytes, words: str) -> None:
    tiny.fault(LISTING, body=body)
    download_fails(words)


def test_a_file_far_too_large_is_rejected_at_once(tiny: HubServer, tiny_files: Files) -> None:
    tiny.add(REPO, tiny_files | {CONFIG: b" " * (2**24 + 1)})
    download_fails("config.json has 16777217 bytes")
    assert tiny.downloads == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (WEIGHTS, b"", "model.safetensors is empty"),
        (WEIGHTS, b"\xff" * 64, "model.safetensors is cut short"),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{]", "model.safetensors is cut short, damaged"),
        (WEIGHTS, (11).to_bytes(8, "little") + b'{"x": null}', "model.safetensors is cut short, damaged"),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{}more", "model.safetensors is cut short, damaged"),
        (CONFIG, b"[1]", "config.json is not a JSON object"),
        (CONFIG, b"[" * 100_000, "config.json is not a JSON object"),
        (PREPROCESSOR, b"\xff{}", "preprocessor_config.json is not a JSON object"),
    ],
)
def test_a_checkpoint_that_is_broken_on_the_hub(
    tiny: HubServer, tiny_files: Files, name: str, content: bytes, words: str
) -> None:
    tiny.add(REPO, tiny_files | {name: content})
    with pytest.raises(CheckpointError, match=f"^{REPO}: .*{re.escape(words)}"):
        door.download(REPO)
    assert door.find_cached(REPO) is None


# ---------------------------------------------------------------- the copy on disk


def fill(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_copy(tiny: HubServer, tiny_files: Files, name: str, damage: Callable[[Path], Any]) -> None:
    path = door.download(REPO).folder / name
    damage(path)
    tiny.fault(LISTING, status=503)
    download_fails("answered 503", f"the copy in {path.parent} cannot be used: {name}")
    tiny.heal()
    tiny.clear()
    assert door.download(REPO).downloaded
    assert path.read_bytes() == tiny_files[name]
    assert tiny.downloads == [name], "only what was damaged"


def test_another_time_stamp_is_no_damage(tiny: HubServer) -> None:
    os.utime(door.download(REPO).folder / WEIGHTS, (1, 1))
    tiny.clear()
    assert not door.download(REPO).downloaded
    assert tiny.requests == []


def test_a_mixture_of_two_revisions_is_not_used(tiny: HubServer, tiny_files: Files) -> None:
    folder = door.download(REPO).folder
    (folder / CONFIG).write_bytes(other(tiny_files)[CONFIG])  # as a killed refresh of the client's leaves it
    assert door.find_cached(REPO) is None


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("moved", range(5))
def test_a_refresh_that_is_killed_while_its_files_are_moved(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch, moved: int, recorded: bool
) -> None:
    folder, newer = door.download(REPO).folder, other(tiny_files)
    if not recorded:  # as if the client alone had made the copy
        (folder / RECORD).unlink()
    tiny.add(REPO, newer)
    move, done = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if target.parent == folder:
            if len(done) == moved:
                raise ZeroDivisionError
            done.append(target)
        return move(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with contextlib.suppress(DownloadError):
        door.download(REPO, refresh=True)
    found = door.find_cached(REPO)
    assert found is None or contents(folder) in (
        {name: files[name] for name in FILES} for files in (tiny_files, newer)
    )
    monkeypatch.setattr(Path, "replace", move)
    assert contents(door.download(REPO, refresh=True).folder) == {name: newer[name] for name in FILES}


@pytest.mark.parametrize("record", [b"", b"[]", b'{"files": 1}', b'{"files": {"config.json": 1}}', b"\xff"])
def test_a_broken_record_is_no_proof(hub: HubServer, tiny_files: Files, record: bytes) -> None:
    fill(snapshot_folder(REPO), tiny_files)
    assert door.find_cached(REPO) is not None
    (snapshot_folder(REPO) / RECORD).write_bytes(record)
    assert door.find_cached(REPO) is None
    hub.add(REPO, tiny_files)
    assert door.download(REPO).downloaded
    assert hub.downloads == [], "the files were right, and are taken"
    assert door.find_cached(REPO) is not None


OLD_FOLDERS = (
    "models/acme/tiny___vit",
    "hub/models/acme/tiny___vit",
    "acme/tiny.vit",
    "acme/tiny___vit",
    "hub/acme/tiny.vit",
    "hub/acme/tiny___vit",
    "models/acme/tiny.vit",
)


@pytest.mark.parametrize("where", OLD_FOLDERS)
def test_old_layouts_are_used_unless_a_revision_is_pinned(
    hub: HubServer, tiny_files: Files, tmp_path: Path, where: str
) -> None:
    repo = "acme/tiny.vit"
    folder = tmp_path / "cache" / where
    fill(folder, tiny_files)
    found = door.download(repo)
    assert (found.folder, found.downloaded, hub.requests) == (folder, False, [])

    newer = other(tiny_files)
    hub.add(repo, newer, revision="v1")
    hub.add(repo, newer)
    assert contents(door.download(repo, "v1").folder)[CONFIG] == newer[CONFIG]
    assert contents(door.download(repo, refresh=True).folder)[CONFIG] == newer[CONFIG]
    assert contents(folder) == {name: tiny_files[name] for name in FILES}, "never written to"
    assert contents(door.download(repo).folder)[CONFIG] == newer[CONFIG]


def test_old_layouts_are_the_clients(tmp_path: Path) -> None:
    """Each folder that is looked into is one that today's client would take, too."""
    code = f"""
        import os
        from pathlib import Path
        os.environ["MODELSCOPE_CACHE"] = "{tmp_path}"
        from modelscope_hub import HubApi
        from modelscope.hub.utils.utils import find_reusable_legacy_repo_dir as outer
        inner = HubApi().downloader._find_legacy_repo_dir
        for folder in (Path("{tmp_path}", where) for where in {OLD_FOLDERS}):
            folder.mkdir(parents=True)
            (folder / "x").touch()
            taken = outer("acme/tiny.vit", cache_dir="{tmp_path}") or inner("acme/tiny.vit", "model")
            assert Path(taken) == folder, (taken, folder)
            (folder / "x").unlink()
            folder.rmdir()
    """
    assert run_python(code)[0] == 0


def test_cache_dir(tiny: HubServer, tmp_path: Path) -> None:
    found = door.download(REPO, cache_dir=tmp_path / "mine")
    assert found.folder == tmp_path / "mine/models/acme--tiny-vit/snapshots/master"
    assert not (tmp_path / "cache/models").exists()
    assert door.find_cached(REPO) is None
    assert door.find_cached(REPO, cache_dir=str(tmp_path / "mine")) is not None


def test_weights_put_beside_a_config_by_hand(tiny: HubServer, tiny_files: Files) -> None:
    folder = door.download(REPO, weights=False).folder
    for name in (PREPROCESSOR, WEIGHTS):
        (folder / name).write_bytes(tiny_files[name])
    found = door.find_cached(REPO)
    assert found is not None
    assert found.files == FILES


def test_a_config_alone_does_not_make_a_damaged_copy_complete(tiny: HubServer, tiny_files: Files) -> None:
    folder = door.download(REPO).folder
    flip(folder / WEIGHTS)
    (folder / CONFIG).write_text("{}")
    assert door.download(REPO, weights=False).downloaded
    assert not door.download(REPO, weights=False).downloaded
    assert door.find_cached(REPO) is None
    assert contents(door.download(REPO).folder) == {name: tiny_files[name] for name in FILES}


def test_local_files_only(tiny: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "cache/models/acme--tiny-vit/snapshots/master"
    download_fails("no complete copy", str(folder), local_files_only=True)
    assert tiny.requests == []
    door.download(REPO)
    tiny.clear()
    assert door.download(REPO, local_files_only=True, refresh=True).folder == folder
    truncate(folder / WEIGHTS)
    download_fails("no complete copy", f"{WEIGHTS} is not the file", local_files_only=True)
    assert tiny.requests == []


# ---------------------------------------------------------------- Hugging Face's cache on this disk


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hugging_face(cache: Path, files: Files, commit: str = COMMIT, ref: str = "main") -> Path:
    """Fill ``cache`` as huggingface_hub does: blobs, and links to them."""
    repo = cache / "models--acme--tiny-vit"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / ref).write_text(commit)
    fill(repo / "blobs" / commit, files)
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in files:
        (snapshot / name).symlink_to(repo / "blobs" / commit / name)
    return snapshot


def test_a_copy_in_hugging_faces_cache(tiny: HubServer, tiny_files: Files, tmp_path: Path) -> None:
    snapshot = hugging_face(tmp_path / "hf", tiny_files)
    tag = hugging_face(tmp_path / "hf", sharded(tiny_files), "f" * 40, "v1")
    found = door.download(REPO)
    assert (found.folder, found.revision, found.source) == (snapshot, COMMIT, "Hugging Face cache")
    assert not found.downloaded
    assert door.download(REPO, "v1").folder == tag
    assert door.find_cached(REPO, "v2") is None
    assert tiny.requests == []
    brought = door.download(REPO, refresh=True)
    assert (brought.source, brought.downloaded) == ("ModelScope", True)
    assert door.download(REPO).folder == brought.folder, "ModelScope's comes first"
    assert contents(snapshot) == {name: tiny_files[name] for name in FILES}


def test_hugging_faces_layout_in_cache_dir(hub: HubServer, tiny_files: Files, tmp_path: Path) -> None:
    snapshot = hugging_face(tmp_path / "mine", tiny_files)
    assert door.find_cached(REPO) is None
    assert door.download(REPO, cache_dir=tmp_path / "mine").folder == snapshot


@pytest.mark.parametrize("without", [CONFIG, PREPROCESSOR, WEIGHTS, "the end", "refs"])
def test_an_incomplete_copy_in_hugging_faces_cache(
    hub: HubServer, tiny_files: Files, tmp_path: Path, without: str
) -> None:
    snapshot = hugging_face(tmp_path / "hf", {name: c for name, c in tiny_files.items() if name != without})
    if without == "the end":
        truncate(snapshot / WEIGHTS)
    if without == "refs":
        (tmp_path / "hf/models--acme--tiny-vit/refs/main").unlink()
    assert door.find_cached(REPO) is None
    if without == PREPROCESSOR:  # complete where it is known that the repository has none
        note = tmp_path / "hf/models--acme--tiny-vit/.no_exist" / COMMIT
        note.mkdir(parents=True)
        (note / PREPROCESSOR).touch()
        found = door.find_cached(REPO)
        assert found is not None
        assert found.files == (CONFIG, WEIGHTS)


# ---------------------------------------------------------------- what the catalogue pins


@pytest.mark.parametrize("revision", [None, "v1"])
def test_pinned_files(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    tiny.add(REPO, tiny_files, revision="v1")
    tiny.add(REPO, tiny_files, revision="v2")
    right = hashlib.sha256(tiny_files[WEIGHTS]).hexdigest()
    known = KnownModel("tiny", "", Path(), repo=REPO, revision=revision, sha256={WEIGHTS: right.upper()})
    monkeypatch.setitem(KNOWN_MODELS, "tiny", known)
    assert parse_name("tiny").revision == revision
    assert door.download(REPO, revision).downloaded
    assert door.find_cached(REPO, revision) is not None

    wrong = dataclasses.replace(known, sha256={WEIGHTS: "0" * 64})
    monkeypatch.setitem(KNOWN_MODELS, "tiny", wrong)
    assert door.find_cached(REPO, revision) is None, "a copy is held against it, too"
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} does not have the SHA-256 000"):
        door.download(REPO, revision)
    assert door.download(REPO, "v2").downloaded, "of another revision nothing is known"


def test_a_name_of_the_same_weights_elsewhere(hub: HubServer) -> None:
    for repo in KNOWN_MODELS["vit-base"].same_as:
        with pytest.raises(DownloadError, match="--model vit-base"):
            door.download(repo)
    download_fails(f"hf download {REPO}")


# ---------------------------------------------------------------- the table of faults


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        (LISTING, {"status": 404}, ["has no such model", "check owner/name", "MODELSCOPE_API_TOKEN"]),
        (LISTING, {"status": 401}, ["access denied (401)", "MODELSCOPE_API_TOKEN"]),
        (LISTING, {"status": 403}, ["access denied (403)", "MODELSCOPE_API_TOKEN"]),
        (LISTING, {"status": 429}, ["limits requests (429)", "wait"]),
        (LISTING, {"status": 503}, ["answered 503", "try again later"]),
        (LISTING, {"status": 418}, ["answered 418"]),
        (WEIGHTS, {"status": 503}, ["answered 503 for model.safetensors", "try again later"]),
        (WEIGHTS, {"status": 403}, ["access denied (403) for model.safetensors"]),
        (WEIGHTS, {"corrupt": True}, ["for model.safetensors", "SHA-256", "not kept"]),
        (WEIGHTS, {"short": 10}, ["for model.safetensors", "size", "not kept"]),
        (CONFIG, {"corrupt": True}, ["for config.json", "SHA-256"]),
        (WEIGHTS, {"cut": 0}, ["the connection to 127.0.0.1", "broke for model.safetensors"]),
    ],
)
def test_faults_of_the_hub(tiny: HubServer, name: str, fault: dict[str, Any], words: list[str]) -> None:
    tiny.fault(name, **fault)
    error = download_fails(*words)
    assert error.__cause__ is not None
    assert door.find_cached(REPO) is None
    tiny.heal()
    assert door.download(REPO).downloaded, "nothing in the way of the next attempt"


def test_no_such_model_leaves_nothing_behind(hub: HubServer, tmp_path: Path) -> None:
    download_fails("has no such model")
    assert not (tmp_path / "cache/models").exists()


def test_no_such_revision(tiny: HubServer) -> None:
    door.download(REPO)
    download_fails(f"{REPO}@v9:", "no branch or tag 'v9'", revision="v9")
    assert door.find_cached(REPO) is not None


def test_hub_down(tiny: HubServer, tmp_path: Path) -> None:
    tiny.close()
    begun = time.monotonic()
    folder = tmp_path / "cache/models/acme--tiny-vit/snapshots/master"
    words = ["127.0.0.1", "cannot be reached", "MODELSCOPE_ENDPOINT", "HTTPS_PROXY", "NO_PROXY"]
    download_fails(*words, "--model demo", "--model ./folder", str(folder))
    assert time.monotonic() - begun < 25  # 4 s on a quiet machine; the client alone takes 28
    fill(folder, tiny.repos[REPO, "master"])  # by hand, as advised
    assert door.download(REPO).folder == folder


@pytest.mark.parametrize("step", ["getaddrinfo", "create_connection"])
def test_a_hub_that_does_not_answer(tiny: HubServer, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A name server, or a host, of which nothing is heard: an answer in about four seconds, and a notice."""
    monkeypatch.setattr(socket, step, lambda *args, **options: time.sleep(20))
    told: list[tuple[str, int, int]] = []
    begun = time.monotonic()
    download_fails("cannot be reached", progress=lambda *event: told.append(event))
    assert time.monotonic() - begun < 25  # 4 s on a quiet machine; the client alone takes 28
    assert told == [("connecting to ModelScope", 0, 0)]


def test_faults_on_the_way_are_overcome(tiny: HubServer, tiny_files: Files) -> None:
    tiny.fault(LISTING, status=503, times=2)
    tiny.fault(CONFIG, status=503, times=2)
    tiny.fault(WEIGHTS, corrupt=True, times=1)
    tiny.redirect = True
    assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS]


def test_a_cut_connection_is_resumed(tiny: HubServer, tiny_files: Files) -> None:
    tiny.fault(WEIGHTS, cut=5000, times=1)
    assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS]
    ranges = [request.headers.get("Range") for request in tiny.requests if request.file == WEIGHTS]
    assert ranges == [None, "bytes=5000-"]


def test_a_stalled_download_ends_and_the_next_one_resumes(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.fault(WEIGHTS, stall=5000)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "2")
    before = set(threading.enumerate())
    download_fails("sent nothing for 2 s", "VIT_PIPELINE_HUB_TIMEOUT")
    wait_for(lambda: not [new for new in set(threading.enumerate()) - before if "download" in new.name])
    tiny.heal()
    tiny.clear()
    monkeypatch.delenv("VIT_PIPELINE_HUB_TIMEOUT")
    assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS]
    ranges = [request.headers.get("Range") for request in tiny.requests if request.file == WEIGHTS]
    assert ranges == ["bytes=5000-"]


def test_a_stalled_listing_ends(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.fault(LISTING, stall=3)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "2")
    download_fails("sent nothing for 2 s")


def test_retries_happen_within_the_time(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_RETRY_MAX_DELAY_SECONDS", 60)
    tiny.fault(WEIGHTS, status=503)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "2")
    download_fails("sent nothing for 2 s", "model.safetensors", "ServerError")


def test_a_slow_download_is_not_a_stalled_one(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(tiny_files[WEIGHTS]) > 3 * 16384  # takes longer than the time allowed without progress
    tiny.fault(WEIGHTS, delay=1.5)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "4")
    begun = time.monotonic()
    assert door.download(REPO).downloaded
    assert time.monotonic() - begun > 4


def test_a_large_file_comes_in_parts(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_PARALLEL_THRESHOLD", 10_000)
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_PART_SIZE", 20_000)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "2")
    tiny.fault(WEIGHTS, stall=5000)
    before = set(threading.enumerate())
    download_fails("sent nothing for 2 s")
    wait_for(lambda: not [new for new in set(threading.enumerate()) - before if "download" in new.name])
    tiny.heal()
    monkeypatch.delenv("VIT_PIPELINE_HUB_TIMEOUT")
    found = door.download(REPO)
    assert contents(found.folder) == {name: tiny_files[name] for name in FILES}
    assert {path.name for path in found.folder.iterdir()} == {*FILES, RECORD}


def test_what_is_private_in_the_client() -> None:
    """The two names that are used in ``hub.client``: to cancel, and to keep its bars off the terminal."""
    from modelscope_hub import HubApi, _download

    assert "_cancel_event" in inspect.signature(HubApi().downloader.download_file).parameters
    assert callable(_download.tqdm)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_an_invalid_timeout(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", value)
    with pytest.raises(ArgumentError, match=r"^VIT_PIPELINE_HUB_TIMEOUT is"):
        door.download(REPO)


@pytest.mark.parametrize(
    "repo", ["", "a", "a/b/c", "../x", "a/..", "a/.b", "a/b\n", "a\\b/c", "a/b c", "/a/b"]
)
def test_invalid_names(repo: str) -> None:
    with pytest.raises(ModelNameError, match="write owner/name"):
        door.find_cached(repo)


@pytest.mark.parametrize("revision", ["", "..", "../v1", "v1/../..", "/v1", "a\\b", "v1/", "~", "v\0"])
def test_invalid_revisions(revision: str) -> None:
    with pytest.raises(ModelNameError, match="is not a branch or tag"):
        door.download(REPO, revision)


# ---------------------------------------------------------------- the disk


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_disk_full(tiny: HubServer, tmp_path: Path, tiny_files: Files) -> None:
    cache = tmp_path / "cache"
    with mounted(cache, f"size={len(tiny_files[WEIGHTS]) // 2 // 4096 * 4}k"):
        download_fails(f"no space left in {cache}", "MODELSCOPE_CACHE")
        assert door.find_cached(REPO) is None
        subprocess.run(["mount", "-o", "remount,size=10m", cache], check=True)
        tiny.clear()
        assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS]
        ranges = [request.headers.get("Range", "") for request in tiny.requests if request.file == WEIGHTS]
        assert ranges[0].startswith("bytes="), "continued where the room had ended"


def test_read_only_cache(tiny: HubServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with mounted(cache, "size=10m"):
        door.download(REPO)
        subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
        tiny.add(REPO, tiny.repos[REPO, "master"], revision="v1")
        tiny.clear()
        assert not door.download(REPO).downloaded
        download_fails(f"{cache} cannot be written", "MODELSCOPE_CACHE", refresh=True)
        download_fails(f"{cache} cannot be written", "MODELSCOPE_CACHE", revision="v1")
        assert tiny.downloads == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "no space left in"), (122, "no space left in"), (30, "cannot be written"), (40, "cannot be used")],
)
def test_the_disk_as_the_client_reports_it(
    tiny: HubServer, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def failing(path: Path, mode: str) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("modelscope_hub._download.open", failing, raising=False)
    download_fails(words, "MODELSCOPE_CACHE")


def test_a_cache_that_is_a_file(tiny: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    download_fails("MODELSCOPE_CACHE")


# ---------------------------------------------------------------- token, endpoint, progress


def test_token(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.token = "secret"
    download_fails("access denied (401)")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "wrong")
    assert "wrong" not in str(download_fails("access denied (403)"))
    assert door.download(REPO, token="secret").downloaded
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    assert door.download(REPO, refresh=True).downloaded


@pytest.mark.parametrize(
    ("url", "open_to_all"),
    [
        ("https://hub.example", False),
        ("http://127.0.0.1:80", False),
        ("http://[::1]:80", False),
        ("http://localhost", False),
        ("http://hub.example", True),
        ("HTTP://10.0.0.1:8000", True),
        ("http://localhost.example", True),
    ],
)
def test_in_the_open(url: str, open_to_all: bool) -> None:
    assert in_the_open(url) == open_to_all


@pytest.mark.parametrize("given", [None, "mine"])
def test_no_token_over_plain_http_and_a_proxy_is_trusted(
    tiny: HubServer, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://hub.example")  # there is no way to it but the proxy
    monkeypatch.setenv("HTTP_PROXY", tiny.endpoint)
    assert door.download(REPO, token=given).downloaded
    assert {request.headers["Host"] for request in tiny.requests} == {"hub.example"}
    assert not [request for request in tiny.requests if {"Authorization", "Cookie"} & set(request.headers)]
    tiny.token = "secret"
    download_fails("access denied (401)", "https only", revision="v1")


def test_a_proxy_that_is_away_is_named(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://hub.example")
    monkeypatch.setenv("HTTP_PROXY", tiny.endpoint.removeprefix("http://"))
    tiny.close()
    download_fails("hub.example cannot be reached through the proxy 127.0.0.1", "HTTPS_PROXY")


def test_endpoint_may_change_between_calls(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.download(REPO)
    with HubServer() as second:
        second.add("acme/elsewhere", tiny_files)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", second.endpoint + "/")
        assert door.download("acme/elsewhere").downloaded


def test_without_an_endpoint_the_client_says_which_site_has_it(
    tiny: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    monkeypatch.setenv("HTTPS_PROXY", tiny.endpoint)  # takes connections, but leads nowhere
    monkeypatch.setattr("modelscope_hub.HubApi.resolve_endpoint_for_read", lambda api, repo: tiny.endpoint)
    assert door.download(REPO).downloaded


def test_progress_is_told_in_the_callers_thread(tiny: HubServer, tiny_files: Files) -> None:
    told: list[tuple[str, int, int]] = []
    threads: set[str] = set()

    def progress(name: str, done: int, total: int) -> None:
        told.append((name, done, total))
        threads.add(threading.current_thread().name)

    tiny.fault(WEIGHTS, cut=5000, times=1)
    door.download(REPO, progress=progress)
    assert threads == {threading.current_thread().name}
    for name in FILES:
        size = len(tiny_files[name])
        mine = [(done, total) for told_name, done, total in told if told_name == name]
        assert mine[0] == (0, size)
        assert mine[-1] == (size, size)
        assert mine == sorted(mine)


@pytest.mark.parametrize("kind", [ZeroDivisionError, BrokenPipeError])
def test_progress_may_end_the_download(tiny: HubServer, kind: type[Exception]) -> None:
    def progress(name: str, done: int, total: int) -> None:
        raise kind("enough")

    with pytest.raises(kind, match="enough"):
        door.download(REPO, progress=progress)
    assert door.find_cached(REPO) is None
    assert door.download(REPO).downloaded


# ---------------------------------------------------------------- several processes


Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start_python(spawn: Spawn) -> Start:
    return lambda code: spawn(sys.executable, "-W", "error", "-c", textwrap.dedent(code))


def run_python(code: str) -> tuple[int, str, str]:
    program = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


def test_two_processes_take_turns(tiny: HubServer, tiny_files: Files, start_python: Start) -> None:
    code = f"from vit_pipeline import hub; print(hub.download('{REPO}').downloaded)"
    tiny.fault(WEIGHTS, stall=5000, times=1)
    first = start_python(code)
    wait_for(lambda: WEIGHTS in tiny.downloads)
    results: list[bool] = []
    second = threading.Thread(target=lambda: results.append(door.download(REPO).downloaded))
    second.start()
    second.join(0.5)
    assert second.is_alive(), "waits for the first"
    tiny.heal()
    assert first.communicate(timeout=PATIENCE) == ("True\n", "")
    second.join(PATIENCE)
    assert results == [False]
    assert tiny.downloads.count(CONFIG) == 1, "the second asked for no file"


def test_another_process_that_hangs_is_not_waited_for_for_ever(
    tiny: HubServer, monkeypatch: pytest.MonkeyPatch, start_python: Start
) -> None:
    tiny.fault(WEIGHTS, stall=5000)
    first = start_python(f"from vit_pipeline import hub; hub.download('{REPO}')")
    wait_for(lambda: WEIGHTS in tiny.downloads)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "2")
    download_fails("another process", "without progress for 2 s")
    monkeypatch.delenv("VIT_PIPELINE_HUB_TIMEOUT")

    first.kill()  # leaves no lock behind, and what it had received is of use
    first.communicate(timeout=PATIENCE)
    tiny.heal()
    tiny.clear()
    assert door.download(REPO).downloaded
    assert [r.headers.get("Range") for r in tiny.requests if r.file == WEIGHTS] == ["bytes=5000-"]


@pytest.mark.skipif(os.name == "nt", reason="signals are different there")
def test_ctrl_c(tiny: HubServer, start_python: Start) -> None:
    tiny.fault(WEIGHTS, stall=5000)
    process = start_python(
        f"""
        import signal
        from vit_pipeline import hub
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
        try:
            hub.download("{REPO}")
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    wait_for(lambda: WEIGHTS in tiny.downloads)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == ("interrupted\n", "")
    assert process.returncode == 0
