"""What each faster way of computing costs: the answers that stay as in float32, over many images.

    python benchmarks/agreement.py FOLDER --model demo --images 3000

int8 is calibrated on 300 images of the folder, which are not among those that judge.
"""

from __future__ import annotations

import argparse

from rounds import machine

from vit_pipeline import ViTPipeline, fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--images", type=int, default=3000)
    options = parser.parse_args()
    fast.IMAGES = options.images + fast.CALIBRATION
    pipe = ViTPipeline.from_pretrained(options.model)
    print(machine())
    fast.faster(pipe, options.folder, bound=1, on_try=print)


if __name__ == "__main__":
    main()
