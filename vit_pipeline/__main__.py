"""``python -m vit_pipeline`` is the same as ``vit-pipeline``."""

from .cli import main

if __name__ == "__main__":
    main()
