"""``vit-pipeline doctor``: what is installed, what this machine can do, and whether the hub answers."""

from __future__ import annotations

import platform
import queue
import threading
from pathlib import Path
from typing import Any

from .. import __version__
from ..webui import pillow_warning
from .options import Json
from .terminal import print_json

_PACKAGES = "torch transformers modelscope accelerate safetensors pillow requests numpy".split()
_HUB_SECONDS = 3.0


def doctor(as_json: Json = False) -> None:
    """Show versions, devices, caches and extras, and whether ModelScope answers.

    What a bug report needs. Takes a few seconds.

    Example: vit-pipeline doctor --json
    """
    from importlib.metadata import version

    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_ask_hub()), daemon=True).start()
    own = {"vit-pipeline": __version__, "python": platform.python_version(), "system": platform.platform()}
    found: dict[str, dict[str, Any]] = {
        "versions": own | {name: version(name) for name in _PACKAGES},
        "devices": _devices(),
        "caches": _caches(),
        "extras": _extras(),
    }
    try:
        found["hub"] = {"ModelScope": answers.get(timeout=_HUB_SECONDS)}
    except queue.Empty:
        found["hub"] = {"ModelScope": {"answers": False, "error": f"no answer in {_HUB_SECONDS:g} s"}}
    if warning := pillow_warning():
        found["warnings"] = {"pillow": warning}
    if as_json:
        print_json(found)
        return
    for topic, entries in found.items():
        for name, value in entries.items():
            print(f"{topic:8}  {name:12}  {_said(value)}")
            topic = ""


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(entry)}" for key, entry in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _devices() -> dict[str, Any]:
    import torch

    from ..engine import cores
    from ..loading import has_native_bfloat16

    can = torch.cpu.get_capabilities()
    cpu = {"name": can.get("cpu_name", platform.machine()), "cores": cores()}
    cpu |= {"bfloat16": has_native_bfloat16(torch.device("cpu")), "AMX": bool(can.get("amx_tile"))}
    devices = {"cpu": cpu | {"VNNI": bool(can.get("avx512_vnni") or can.get("avx_vnni"))}}
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        name, native = torch.cuda.get_device_name(device), has_native_bfloat16(device)
        devices[str(device)] = {"name": name, "bfloat16": native}
    if torch.backends.mps.is_available():
        devices["mps"] = {"name": platform.machine()}
    return devices


def _caches() -> dict[str, Any]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from ..backends.on_openvino import graph_cache
    from ..hub.cache import cache_folder

    found = {}
    caches = {"ModelScope": cache_folder(), "Hugging Face": Path(HF_HUB_CACHE), "OpenVINO": graph_cache()}
    for name, folder in caches.items():
        files = folder.rglob("*") if folder.is_dir() else ()
        size = sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())
        found[name] = {"folder": str(folder), "bytes": size}
    return found


def _extras() -> dict[str, Any]:
    """Each extra, and whether every package that it declares is installed."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    installed = {canonicalize_name(each.name) for each in metadata.distributions()}
    extras = set(metadata.metadata("vit-pipeline").get_all("Provides-Extra") or ()) - {"all", "dev", "docs"}
    found: dict[str, Any] = {extra: {"installed": True} for extra in sorted(extras)}
    for each in map(Requirement, metadata.requires("vit-pipeline") or ()):
        for extra in extras:
            if each.marker and each.marker.evaluate({"extra": extra}):
                found[extra][each.name] = canonicalize_name(each.name) in installed
                found[extra]["installed"] &= found[extra][each.name]
    return found


def _ask_hub() -> dict[str, Any]:
    import requests

    from ..hub.client import hub_url

    said = {"url": hub_url()}
    try:
        answer = requests.head(hub_url(), timeout=_HUB_SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        return said | {"answers": False, "error": type(error).__name__}
    return said | {"answers": True, "seconds": round(answer.elapsed.total_seconds(), 2)}
