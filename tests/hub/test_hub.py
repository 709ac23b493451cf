"""The door to ModelScope, through its real client, against a server on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Spawn, wait_for
from hub_server import LISTING, HubServer

from vit_pipeline import hub as door
from vit_pipeline.errors import ArgumentError, CheckpointError, DownloadError, ModelNameError
from vit_pipeline.hub.cache import RECORD, examine, old_folders, sha256_of, snapshot_folder, write_record
from vit_pipeline.hub.faults import token_for

REPO = "acme/tiny-vit"
CONFIG, PREPROCESSOR, WEIGHTS = door.FILES
Files = dict[str, bytes]


@pytest.fixture
def tiny(hub: HubServer, tiny_files: Files) -> HubServer:
    hub.add(REPO, tiny_files)
    return hub


def other(files: Files) -> Files:
    """The same architecture with another last byte of weights and another label."""
    weights = files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1])
    return files | {WEIGHTS: weights, CONFIG: files[CONFIG].replace(b"thing 0", b"thing X")}


def contents(folder: Path, names: tuple[str, ...] = door.FILES) -> Files:
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
    assert first.files == door.FILES
    assert contents(first.folder) == {name: tiny_files[name] for name in door.FILES}
    assert sorted(p.name for p in first.folder.iterdir()) == sorted([*door.FILES, RECORD])
    assert tiny.downloads == sorted(door.FILES)

    tiny.clear()
    second = door.download(REPO)
    assert (second.folder, second.downloaded) == (first.folder, False)
    assert door.find_cached(REPO) == second
    assert tiny.requests == []


def test_cached_copy_needs_no_modelscope_and_a_download_is_silent(tiny: HubServer) -> None:
    code = f"""
        import logging, sys, warnings
        before = [(type(h), h.level) for h in logging.root.handlers], list(warnings.filters)
        from vit_pipeline import hub
        assert not set(sys.modules) & {{"modelscope", "torch", "filelock", "requests", "numpy"}}
        assert hub.find_cached("{REPO}") is None
        cold = hub.download("{REPO}")
        assert "modelscope" in sys.modules
        assert before == ([(type(h), h.level) for h in logging.root.handlers], list(warnings.filters))
        logging.warning("still heard")
        assert hub.download("{REPO}", refresh=True).downloaded
    """
    cold = run_python(code)
    assert cold == (0, "", "WARNING:root:still heard\n")
    tiny.clear()
    warm = f"""
        import sys
        from vit_pipeline import hub
        assert not hub.download("{REPO}").downloaded
        assert not set(sys.modules) & {{"modelscope", "modelscope_hub", "torch", "requests", "numpy"}}
    """
    assert run_python(warm) == (0, "", "")
    assert tiny.requests == []


def test_pinned_revision_is_its_own_copy(tiny: HubServer, tiny_files: Files) -> None:
    old = other(tiny_files)
    tiny.add(REPO, old, revision="v1.0")
    tiny.add(REPO, old, revision="release/2")
    assert contents(door.download(REPO, "v1.0").folder) == {name: old[name] for name in door.FILES}
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
    assert contents(folder) == {name: newer[name] for name in door.FILES}
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
    assert contents(door.download(REPO).folder) == {name: tiny_files[name] for name in door.FILES}
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
    assert (folder / RECORD).exists()
    assert contents(door.download(REPO).folder) == {name: tiny_files[name] for name in door.FILES}


# ---------------------------------------------------------------- which files


def test_pickle_only_where_there_are_no_safetensors(hub: HubServer, tiny_files: Files) -> None:
    files = {name: tiny_files[name] for name in (CONFIG, PREPROCESSOR)} | {door.PICKLE: b"PK weights"}
    hub.add(REPO, files)
    found = door.download(REPO)
    assert found.files == (CONFIG, PREPROCESSOR, door.PICKLE)
    hub.clear()
    assert door.download(REPO).files == found.files
    assert hub.requests == []


def test_timm_layout_needs_no_preprocessor(hub: HubServer, tiny_files: Files) -> None:
    config = json.dumps({"architecture": "vit_small_patch16_224", "pretrained_cfg": {}}).encode()
    hub.add(REPO, {CONFIG: config, WEIGHTS: tiny_files[WEIGHTS]})
    assert door.download(REPO).files == (CONFIG, WEIGHTS)
    assert not door.download(REPO).downloaded


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (CONFIG, "has no config.json"),
        (PREPROCESSOR, "has no preprocessor_config.json"),
        (WEIGHTS, "has neither model.safetensors nor pytorch_model.bin"),
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
    assert door.download(REPO).files == door.FILES
    # a newer configuration does not belong to the weights on disk; the same one does
    assert door.download(REPO, weights=False, refresh=True).downloaded
    assert door.find_cached(REPO) is not None
    tiny.add(REPO, other(tiny_files))
    door.download(REPO, weights=False, refresh=True)
    assert door.find_cached(REPO) is None
    assert contents(door.download(REPO).folder)[WEIGHTS] == other(tiny_files)[WEIGHTS]


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
    assert contents(found.folder) == {name: tiny_files[name] for name in door.FILES}
    assert hub.downloads == sorted(door.FILES)
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
        (b'{"Data": {"Files": [{"Path": 7, "Size": 3}]}}', "answered with no file listing"),
        (b'{"Data": {"Files": [{"Path": "config.json", "Size": "big"}]}}', "answered with no file listing"),
        (b"[]", "answered with no file listing"),
        (b'{"Data": {"Files": []}}', "has no config.json"),
        (b'{"Data": null}', "has no config.json"),
        (b"", "answered with no file listing"),
    ],
)
def test_a_listing_that_is_none(tiny: HubServer, body: bytes, words: str) -> None:
    tiny.fault(LISTING, body=body)
    download_fails(words)


def test_a_file_far_too_large_is_refused_at_once(tiny: HubServer, tiny_files: Files) -> None:
    tiny.add(REPO, tiny_files | {CONFIG: b" " * 10_000_001})
    tiny.fault(CONFIG, stall=0)
    download_fails("refused, config.json has 10000001 bytes")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (WEIGHTS, b"", "cut short"),
        (WEIGHTS, b"\xff" * 64, "cut short"),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{]", "unreadable header"),
        (WEIGHTS, (11).to_bytes(8, "little") + b'{"x": null}', "unreadable header"),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{}more", "has 14 bytes where its header says 10"),
        (CONFIG, b"[1]", "config.json is not a JSON object"),
        (CONFIG, b"[" * 100_000, "config.json is not a JSON object"),
        (PREPROCESSOR, b"\xff{}", "preprocessor_config.json is not a JSON object"),
    ],
)
def test_a_checkpoint_that_is_broken_on_the_hub(
    tiny: HubServer, tiny_files: Files, name: str, content: bytes, words: str
) -> None:
    tiny.add(REPO, tiny_files | {name: content})
    with pytest.raises(CheckpointError, match=f"^{REPO}: refused, .*{re.escape(words)}"):
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
@pytest.mark.parametrize("name", door.FILES)
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


def test_another_time_stamp_is_no_damage_and_is_looked_at_once(
    tiny: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = door.download(REPO).folder / WEIGHTS
    os.utime(path, (1, 1))
    hashed: list[Path] = []
    monkeypatch.setattr("vit_pipeline.hub.cache.sha256_of", lambda p: hashed.append(p) or sha256_of(p))
    tiny.clear()
    assert not door.download(REPO).downloaded
    assert not door.download(REPO).downloaded
    assert (hashed, tiny.requests) == ([path], [])


def test_a_mixture_of_two_revisions_is_not_used(tiny: HubServer, tiny_files: Files) -> None:
    folder = door.download(REPO).folder
    (folder / CONFIG).write_bytes(other(tiny_files)[CONFIG])  # as a killed refresh of the client's leaves it
    assert examine(folder, use_record=False).fault == ""
    assert examine(folder).fault == "config.json is not the file that was downloaded"
    assert door.find_cached(REPO) is None


def test_a_download_that_was_begun_is_not_used(tmp_path: Path, tiny_files: Files) -> None:
    fill(tmp_path / "a", tiny_files)
    assert examine(tmp_path / "a").fault == ""
    write_record(tmp_path / "a", ())
    assert examine(tmp_path / "a").fault == "a download of config.json was not finished"


@pytest.mark.parametrize("record", [b"", b"[]", b'{"files": 1}', b'{"files": {"config.json": 1}}', b"\xff"])
def test_a_broken_record_is_no_proof(tmp_path: Path, tiny_files: Files, record: bytes) -> None:
    fill(tmp_path / "a", tiny_files | {RECORD: record})
    assert "config.json" in examine(tmp_path / "a").fault


@pytest.mark.parametrize("where", range(7))
def test_old_layouts_are_used_unless_a_revision_is_pinned(
    hub: HubServer, tiny_files: Files, where: int
) -> None:
    repo = "acme/tiny.vit"
    folder = old_folders(repo)[where]
    fill(folder, tiny_files)
    found = door.download(repo)
    assert (found.folder, found.downloaded, hub.requests) == (folder, False, [])

    newer = other(tiny_files)
    hub.add(repo, newer, revision="v1")
    hub.add(repo, newer)
    assert contents(door.download(repo, "v1").folder)[CONFIG] == newer[CONFIG]
    assert contents(door.download(repo, refresh=True).folder)[CONFIG] == newer[CONFIG]
    assert contents(folder) == {name: tiny_files[name] for name in door.FILES}, "never written to"
    assert contents(door.download(repo).folder)[CONFIG] == newer[CONFIG]


def test_old_layouts_are_the_clients() -> None:
    """Each folder that is looked into is one that today's client would take, too."""
    code = """
        import os, sys, tempfile
        from pathlib import Path
        os.environ["MODELSCOPE_CACHE"] = os.path.realpath(tempfile.mkdtemp())
        from modelscope_hub import HubApi
        from modelscope.hub.utils.utils import find_reusable_legacy_repo_dir as outer
        from vit_pipeline.hub.cache import cache_folder, old_folders
        inner = HubApi().downloader._find_legacy_repo_dir
        for folder in old_folders("acme/tiny.vit"):
            folder.mkdir(parents=True)
            (folder / "x").touch()
            taken = outer("acme/tiny.vit", cache_dir=str(cache_folder())) or inner("acme/tiny.vit", "model")
            assert Path(taken) == folder, (taken, folder)
            (folder / "x").unlink()
            folder.rmdir()
    """
    assert run_python(code)[0] == 0


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
        (WEIGHTS, {"cut": 0}, ["cannot be reached for model.safetensors"]),
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


def test_hub_down(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.close()
    download_fails("127.0.0.1", "cannot be reached", "MODELSCOPE_ENDPOINT", "work offline")


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


def test_a_stalled_download_ends_and_the_next_one_resumes(tiny: HubServer, tiny_files: Files) -> None:
    tiny.fault(WEIGHTS, stall=5000)
    download_fails("sent nothing for 0.5 s", "VIT_PIPELINE_HUB_TIMEOUT", timeout=0.5)
    assert not [thread for thread in threading.enumerate() if thread.name == "vit-pipeline-download"]
    tiny.heal()
    tiny.clear()
    assert contents(door.download(REPO).folder)[WEIGHTS] == tiny_files[WEIGHTS]
    ranges = [request.headers.get("Range") for request in tiny.requests if request.file == WEIGHTS]
    assert ranges == ["bytes=5000-"]


def test_a_stalled_listing_ends(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.fault(LISTING, stall=3)
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", "0.5")
    download_fails("sent nothing for 0.5 s")


def test_retries_happen_within_the_time(tiny: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_RETRY_MAX_DELAY_SECONDS", 60)
    tiny.fault(WEIGHTS, status=503)
    download_fails("sent nothing for 0.5 s (Download failed for model.safetensors (ServerError)", timeout=0.5)


def test_a_slow_download_is_not_a_stalled_one(tiny: HubServer, tiny_files: Files) -> None:
    assert len(tiny_files[WEIGHTS]) > 3 * 16384  # takes longer than the time allowed without progress
    tiny.fault(WEIGHTS, delay=0.3)
    assert door.download(REPO, timeout=0.8).downloaded


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_a_time_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(ArgumentError, match=f"^timeout is .*{value}"):
        door.download(REPO, timeout=value if value == "soon" else float(value))  # type: ignore[arg-type]
    monkeypatch.setenv("VIT_PIPELINE_HUB_TIMEOUT", value)
    with pytest.raises(ArgumentError, match=r"^VIT_PIPELINE_HUB_TIMEOUT is"):
        door.download(REPO)


@pytest.mark.parametrize(
    "repo", ["", "a", "a/b/c", "../x", "a/..", "a/.b", "a/b\n", "a\\b/c", "a/b c", "/a/b"]
)
def test_names_that_are_none(repo: str) -> None:
    with pytest.raises(ModelNameError, match="write owner/name"):
        door.find_cached(repo)


@pytest.mark.parametrize("revision", ["", "..", "../v1", "v1/../..", "/v1", "a\\b", "v1/", "~", "v\0"])
def test_revisions_that_are_none(revision: str) -> None:
    with pytest.raises(ModelNameError, match="is not a revision"):
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
        tiny.clear()
        assert not door.download(REPO).downloaded
        download_fails(f"{cache} cannot be written", "MODELSCOPE_CACHE", refresh=True)
        download_fails(f"{cache} cannot be written", "MODELSCOPE_CACHE", revision="v1")
        assert tiny.requests == []


@pytest.mark.parametrize(
    ("number", "words"), [(28, "no space left in"), (122, "no space left in"), (30, "cannot be written")]
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
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    assert door.download(REPO).downloaded


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [
        (None, True),
        ("https://hub.example", True),
        ("hub.example", True),  # the client makes it https
        ("http://127.0.0.1:80", True),
        ("http://[::1]:80", True),
        ("http://localhost", True),
        ("http://hub.example", False),
        ("HTTP://10.0.0.1:8000", False),
        (" http://localhost.example", False),
    ],
)
def test_no_token_over_plain_http(monkeypatch: pytest.MonkeyPatch, endpoint: str | None, sent: bool) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    assert token_for(endpoint) == ("secret" if sent else "")


def test_endpoint_may_change_between_calls(
    tiny: HubServer, tiny_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.download(REPO)
    with HubServer() as second:
        second.add("acme/elsewhere", tiny_files)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", second.endpoint + "/")
        assert door.download("acme/elsewhere").downloaded


def test_progress_is_told_in_the_callers_thread(tiny: HubServer, tiny_files: Files) -> None:
    told: list[tuple[str, int, int]] = []
    threads: set[str] = set()

    def progress(name: str, done: int, total: int) -> None:
        told.append((name, done, total))
        threads.add(threading.current_thread().name)

    tiny.fault(WEIGHTS, cut=5000, times=1)
    door.download(REPO, progress=progress)
    assert threads == {threading.current_thread().name}
    for name in door.FILES:
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
    listings = [request for request in tiny.requests if request.file == LISTING]
    assert len(listings) == 1, "the second never asked the hub"


def test_another_process_that_hangs_is_not_waited_for_for_ever(tiny: HubServer, start_python: Start) -> None:
    tiny.fault(WEIGHTS, stall=5000)
    first = start_python(f"from vit_pipeline import hub; hub.download('{REPO}')")
    wait_for(lambda: WEIGHTS in tiny.downloads)
    download_fails("another process", "without progress for 0.6 s", timeout=0.6)

    first.kill()  # leaves no lock behind, and what it had received is of use
    first.communicate(timeout=PATIENCE)
    tiny.heal()
    tiny.clear()
    assert door.download(REPO, timeout=PATIENCE).downloaded
    assert [r.headers.get("Range") for r in tiny.requests if r.file == WEIGHTS] == ["bytes=5000-"]


@pytest.mark.skipif(os.name == "nt", reason="signals are different there")
def test_ctrl_c(tiny: HubServer, start_python: Start) -> None:
    tiny.fault(WEIGHTS, stall=5000)
    process = start_python(
        f"""
        from vit_pipeline import hub
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
