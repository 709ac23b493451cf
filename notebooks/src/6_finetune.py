# %% imports
import tempfile

import torch
from PIL import Image
from sklearn.datasets import load_digits

from vit_pipeline import ViTPipeline, evaluate, finetune, teach

teach.speak(LANG)
pipe = ViTPipeline.from_pretrained("demo", device="cpu")  # or "vit-base"

# %% folder
FOLDER = None  # or your own: train/CLASS/… and test/CLASS/…
TRAIN, TEST = 500, 300
if FOLDER is None:
    FOLDER = Path(tempfile.mkdtemp()) / "digits"
    digits = load_digits()
    for number in range(TRAIN + TEST):
        split = "train" if number < TRAIN else "test"
        file = FOLDER / split / str(digits.target[number]) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15.9).astype("uint8")).resize((32, 32)).save(file)
found = sorted(FOLDER.glob("test/*/*"))
teach.tiles([Image.open(file).convert("RGB") for file in found[:: len(found) // 10]], columns=10, size=0.8)

# %% before
for file in found[:: len(found) // 5]:
    said = pipe(file)
    print(f"{file.parent.name}: {said.score:.1%} {said.label}")

# %% probe
tuned = finetune(FOLDER, pipe)
rate = tuned.accuracy
print(f"{rate.hits} / {rate.images} = {rate.value:.1%}  [{rate.low:.1%}, {rate.high:.1%}]")

# %% confusion
result = evaluate(FOLDER, tuned.pipe, split="test")
names = tuned.pipe.labels
counts = torch.zeros(len(names), len(names), dtype=int)
for pair in result.confusion:
    counts[pair.indices] = pair.images
teach.table(counts, names, y="truth", x="predicted")

# %% mistakes
wrong = result.mistakes[:16]
titles = [f"{one.truth} → {one.predicted}  {one.confidence:.0%}" for one in wrong]
teach.tiles([pipe.read(one.seen) for one in wrong], titles)

# %% sure
print("sure  right  answers")
for images, mean, share in result.reliability.bins:
    if images:
        print(f"{mean:4.0%} {share:6.0%} {images:8}")

# %% full
EPOCHS = 5
fuller = finetune(FOLDER, pipe, method="full", epochs=EPOCHS)
rate = fuller.accuracy
print(f"{rate.hits} / {rate.images} = {rate.value:.1%}  [{rate.low:.1%}, {rate.high:.1%}]")

# %% against
pairs = evaluate(FOLDER, fuller.pipe, against=tuned.pipe, split="test").comparison
print(pairs.only_this, pairs.only_other, f"p = {pairs.p_value:.2g}")

# %% save
out = Path(tempfile.mkdtemp()) / "my-model"
fuller.save(out)
print(sorted(file.name for file in out.iterdir()))
print(ViTPipeline.from_pretrained(out)(found[0]))


# %% recall
def mine(counts):  # (C, C), a row for each true class → (C,)
    return ...


teach.check("recall", mine)


# %% confused
def mine(counts):  # (C, C) → (true class, predicted class)
    return ...


teach.check("confused", mine)
