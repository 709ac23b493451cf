"""What a checkpoint's files say, checked before any of it is believed.

::

    config.py            config.json, preprocessor_config.json → bounded, known settings
    tensors.py           the weights' names and shapes, against the config
    timm_*.py            timm's layout → transformers'
    folder.py            all of it for one folder            ← open this first
"""
