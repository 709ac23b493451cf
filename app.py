"""``python app.py``: the WebUI on http://127.0.0.1:7860, as ``vit-pipeline webui``; see ``--help``."""

import sys

from vit_pipeline.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["webui"]
    main()
