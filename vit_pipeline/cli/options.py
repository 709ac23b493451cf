"""The options that several commands have, each said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_type_hints

import typer

from ..files import checked_suffix
from ..names import DEFAULT_MODEL, KNOWN_MODELS
from .terminal import open_pipeline

Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE...",
        help="Files, folders, globs, URLs; a .txt file: a list of them; '-' the bytes of one image on stdin.",
        show_default=False,
    ),
]
FromFile = Annotated[
    str | None,
    typer.Option("--from-file", metavar="FILE", help="A list of files and URLs, one a line; '-' on stdin."),
]
Model = Annotated[
    str,
    typer.Option("--model", "-m", help=f"{', '.join(KNOWN_MODELS)}, owner/name[@revision], or ./folder."),
]
Revision = Annotated[str | None, typer.Option(help="Branch or tag of the ModelScope repository.")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many to list, the best first.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in one forward pass.")]
Pool = Annotated[
    Literal["cls", "mean", "patches"],
    typer.Option(help="The CLS token, the mean of the patch tokens, or all of them."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[
    str, typer.Option(help="float32; bfloat16; auto: bfloat16 where the hardware has it, other scores.")
]
Backend = Annotated[
    Literal["torch", "openvino"], typer.Option(help="torch: exact. openvino: faster on a CPU.")
]
FastDtype = Annotated[
    str,
    typer.Option(help="float32; bfloat16; int8 (openvino); auto: the fastest. Not float32: other scores."),
]
Fast = Annotated[bool, typer.Option("--fast", help="Compute in the fastest way that keeps the answers.")]
MinAgreement = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="A faster way is used only if so many answers on 500 of the images stay."
    ),
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Look for a newer version of the model.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private-urls", help="Let URLs lead to private addresses (your own network).")
]
Proxy = Annotated[
    str | None, typer.Option(metavar="URL", help="Fetch image URLs through this proxy: http://host:port.")
]
EnvProxy = Annotated[
    bool, typer.Option("--use-env-proxy", help="… through the one that HTTPS_PROXY and HTTP_PROXY name.")
]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Reject images of more pixels than this.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Open = Callable[..., Any]  #: loads the model that the user has named


class OpenFor(Protocol):
    """The same; and computed as fast as the user wishes, as far as the answers for these images stay."""

    def __call__(self, images: Iterable[Any], **other: Any) -> Any: ...


#: of every command that runs a model on images
_SHARED: dict[str, tuple[Any, Any]] = {
    "model": (Model, DEFAULT_MODEL),
    "revision": (Revision, None),
    "device": (Device, "auto"),
    "dtype": (Dtype, "float32"),
    "refresh": (Refresh, False),
    "allow_private_urls": (AllowPrivate, False),
    "proxy": (Proxy, None),
    "use_env_proxy": (EnvProxy, False),
    "max_pixels": (MaxPixels, None),
    "quiet": (Quiet, False),
}
#: and of those that need nothing of the model but its answers
_FAST: dict[str, tuple[Any, Any]] = {
    "dtype": (FastDtype, "float32"),
    "backend": (Backend, "torch"),
    "fast": (Fast, False),
    "min_agreement": (MinAgreement, 0.99),
}


def output(*suffixes: str) -> Any:
    """``--output``: a file whose name ends in one of ``suffixes``; another one is rejected at once."""

    def check(path: Path | None) -> Path | None:
        if path is not None:
            checked_suffix(path, suffixes)
        return path

    return typer.Option("--output", "-o", help=f"A file: {', '.join(suffixes)}.", callback=check)


def with_pipeline(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options of every command that runs a model on images.

    It is called with ``open``, which loads the model and returns the pipeline (with other options, another
    one), and ``quiet``. An option of its own takes the place of one of these. Where ``open`` is an
    :class:`OpenFor`, there are options for speed, too.
    """
    hints = get_type_hints(command, include_extras=True)
    shared_options = _SHARED | (_FAST if hints["open"] == OpenFor else {})
    own = [p for name, p in signature(command).parameters.items() if name not in ("open", "quiet")]
    added = {name: option for name, option in shared_options.items() if name not in {p.name for p in own}}
    options = [p.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own] + [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in added.items()
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        shared = {name: given.pop(name) for name in added}
        command(
            open=lambda images=None, **other: open_pipeline(**shared | other, images=images),
            quiet=shared["quiet"],
            **given,
        )

    run.__signature__ = Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run
