# %% start
from importlib.util import find_spec
from pathlib import Path

LANG = "en"
here = Path.cwd()
root = next((p for p in [here, *here.parents, *here.iterdir()] if (p / "vit_pipeline/teach").is_dir()), None)
assert root, "Clone the repository, or unpack its archive, and open the notebook there."
if None in map(find_spec, ["vit_pipeline", "captum", "matplotlib", "sklearn"]):
    %pip install -q -c "{root}/constraints.txt" "{root}[notebook]"
