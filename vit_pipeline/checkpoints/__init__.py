"""What a checkpoint's files say: danger is rejected, architecture matched, the unknown noted.

::

    folder.py      one folder → model, processor, class names     ← open this first
    config.py      config.json → transformers' ViTConfig, within bounds
    tensors.py     the weights' files, matched against the model on the meta device
    processors.py  preprocessor_config.json → transformers' image processor; images → pixel values
    timm.py        timm's layout → transformers'
    rules.toml     what is known by name, and the words for it
    files.py       the files' names, and reading them within bounds

Imported one by one: ``files`` needs neither torch nor transformers.
"""
