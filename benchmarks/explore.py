"""A forward pass in Chromium, as the page of explore computes it, beside a naive loop and torch.

python benchmarks/explore.py --rounds 9
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import statistics

import numpy as np
from playwright.sync_api import sync_playwright
from rounds import EXAMPLES, alternate, machine, median_ratio, table

from vit_pipeline import ViTPipeline
from vit_pipeline.explorer import HERE
from vit_pipeline.explorer.record import record

LOAD = """([model, tensors, bytes, image]) => {
  const floats = new Float32Array(Uint8Array.from(atob(bytes), c => c.charCodeAt(0)).buffer);
  window.engine = makeEngine();
  engine.load(model, tensors, floats);
  window.image = new Uint8Array(image);
  window.blocked = linear;
  window.naive = (x, weight, bias, inputs) => {
    const rows = x.length / inputs, outputs = weight.length / inputs, y = new Float32Array(rows * outputs);
    for (let r = 0; r < rows; r++)
      for (let o = 0; o < outputs; o++) {
        let sum = bias ? bias[o] : 0;
        for (let i = 0; i < inputs; i++) sum += x[r * inputs + i] * weight[o * inputs + i];
        y[r * outputs + o] = sum;
      }
    return y;
  };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    pipe = ViTPipeline.from_pretrained("demo", device="cpu")
    pixel_values = pipe.preprocess(pipe.read(EXAMPLES[0]))
    data = record(pipe, pixel_values, "", True)
    flat = np.concatenate([value.numpy().ravel() for value in pipe.model.state_dict().values()])
    image = np.asarray(pipe.explain(EXAMPLES[0]).image).ravel().tolist()
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for name in ("model", "resize", "worker"):
            page.add_script_tag(content=(HERE / "js" / f"{name}.js").read_text("utf-8"))
        bits = base64.b64encode(flat.astype(np.float32).tobytes()).decode()
        page.evaluate(LOAD, [data["model"], data["tensors"], bits, image])

        def run(linear: str) -> None:
            page.evaluate(f"() => {{ linear = {linear}; engine.forward(image, {{}}); }}")

        rows = {"naive loop": lambda: run("naive"), "the page": lambda: run("blocked")}
        rows |= {"torch": lambda: pipe.forward(pixel_values)}
        alternate(rows, 2)  # warm
        times = alternate(rows, options.rounds)
        version = browser.version
        browser.close()
    print(f"{machine()}, Chromium {version}")
    table(
        ["", "ms a pass", "best", "times as fast"],
        [
            [
                name,
                f"{1000 * statistics.median(times[name]):.1f}",
                f"{1000 * min(times[name]):.1f}",
                f"{median_ratio(times[name], times['naive loop']):.2f}",
            ]
            for name in rows
        ],
    )


if __name__ == "__main__":
    main()
