# %% imports
from io import BytesIO

import requests
import torch
from modelscope import snapshot_download
from PIL import Image
from transformers import ViTForImageClassification, ViTImageProcessor

from vit_pipeline import ViTPipeline, describe, teach

teach.speak(LANG)

# %% download
try:
    folder = snapshot_download(
        "AI-ModelScope/vit-base-patch16-224",
        allow_patterns=["config.json", "preprocessor_config.json", "model.safetensors"],
    )
except OSError as error:  # no network
    print(f"{error}\n→ demo")
    folder = root / "vit_pipeline/demo_model"

# %% model
device = "cuda" if torch.cuda.is_available() else "cpu"
model = ViTForImageClassification.from_pretrained(folder).to(device).eval()

# %% model-line
pipe = ViTPipeline.from_pretrained(folder)
print(type(pipe.model).__name__, "→", len(pipe.labels))

# %% image
url = "http://images.cocodataset.org/val2017/000000039769.jpg"
try:
    response = requests.get(url, timeout=10)  # seconds
    response.raise_for_status()
    image = Image.open(BytesIO(response.content)).convert("RGB")
except OSError as error:  # no network
    print(f"{error}\n→ cat.png")
    image = Image.open(root / "examples/cat.png").convert("RGB")
image

# %% preprocess
processor = ViTImageProcessor.from_pretrained(folder)
pixel_values = processor(images=image, return_tensors="pt").pixel_values.to(device)
print(pixel_values.shape)

# %% preprocess-line
assert torch.equal(pipe.preprocess(image), pixel_values)

# %% forward
with torch.inference_mode():
    logits = model(pixel_values).logits
print(logits.shape)

# %% forward-line
assert torch.equal(pipe.forward(pixel_values), logits)

# %% predict
index = logits.argmax(-1).item()
print("Predicted class:", model.config.id2label[index])

# %% predict-line
prediction = pipe(image)
print(prediction)
for entry in prediction.top:
    print(f"{entry.score:6.1%}  {entry.label}")

# %% unknown
for name in ["coffee.png", "rocket.jpg", "astronaut.png"]:
    answer = pipe(root / "examples" / name)
    print(f"{name:14} {answer.score:6.1%}  {answer.label}")

# %% print
print(model)

# %% structure
describe(model, lang=LANG)


# %% tokens
def mine(side, patch):  # of the image and of a patch, in pixels
    return ...


teach.check("tokens", mine)


# %% probability
def mine(logits):  # (1, C)
    return ...


teach.check("probability", mine)
