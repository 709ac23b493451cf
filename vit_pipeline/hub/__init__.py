"""Hubs: the name of a repository becomes a folder with the files of one checkpoint.

::

    find_cached(repo, revision)   a complete copy on this disk, or None; without the network
    download(repo, revision)      the same, downloaded from ModelScope if there is none

The environment variables are those of ModelScope's client (``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_CACHE``,
``MODELSCOPE_API_TOKEN``, proxies) and of Hugging Face's (``HF_HUB_CACHE``, ``HF_HOME``), and one of our own:
``VIT_PIPELINE_HUB_TIMEOUT``, in seconds. ``checkpoints`` and ``loading`` check what is in the files.
"""

from .cache import Snapshot, find_cached
from .client import Progress, download

__all__ = ["Progress", "Snapshot", "download", "find_cached"]
