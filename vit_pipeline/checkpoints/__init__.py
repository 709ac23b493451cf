"""What a checkpoint's files say: danger is rejected, architecture matched, the unknown noted.

::

    folder.py            one folder → config, processor, tensors     ← open this first
    config.py            config.json → transformers' ViTConfig, within bounds
    tensors.py           the weights' files, matched against the model on the meta device
    processors.py        preprocessor_config.json → transformers' image processor, in its Pillow version
    timm_*.py, timm.toml timm's layout → transformers'
"""

from .folder import OpenedCheckpoint, open_checkpoint

__all__ = ["OpenedCheckpoint", "open_checkpoint"]
