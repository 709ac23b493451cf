# %% imports
import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from torch import nn

from vit_pipeline import teach

teach.speak(LANG)

# %% data
FOLDER = None  # or a folder that has a folder of images for each class
if FOLDER is None:
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1  # (1797, 1, 8, 8)
    labels, P = torch.tensor(load_digits().target), 2
else:
    files = sorted(Path(FOLDER).glob("*/*"))
    small = [np.asarray(ImageOps.fit(Image.open(file).convert("RGB"), (32, 32))) for file in files]
    images, P = torch.tensor(np.array(small)).permute(0, 3, 1, 2) / 127.5 - 1, 4  # (…, 3, 32, 32)
    labels = torch.tensor(np.unique([file.parent.name for file in files], return_inverse=True)[1])
seed = torch.Generator().manual_seed(0)
test, train = torch.randperm(len(images), generator=seed).tensor_split([len(images) // 5])
print(images.shape, len(train), "+", len(test))
teach.tiles(images[train[:10]].expand(-1, 3, -1, -1), labels[train[:10]].tolist(), columns=10, size=0.8)


# %% vit
class ViT(nn.Module):
    def __init__(self, D=32, layers=2, heads=4):
        super().__init__()
        self.embedding = nn.Conv2d(images.shape[1], D, kernel_size=P, stride=P)
        self.cls = nn.Parameter(torch.zeros(1, 1, D))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (images.shape[2] // P) ** 2, D))
        layer = nn.TransformerEncoderLayer(D, heads, 2 * D, 0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(D), enable_nested_tensor=False)
        self.head = nn.Linear(D, len(labels.unique()))

    def forward(self, x):  # (B, channels, H, W)
        x = self.embedding(x).flatten(2).mT  # (B, N, D)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.layers(x)[:, 0])


print(sum(p.numel() for p in ViT().parameters()))

# %% train
EPOCHS = 40
mirrored = images.flip(-1)
parts = {"train": (images, train), "plain": (images, test), "mirrored": (mirrored, test)}


def fit(flip):
    torch.manual_seed(0)
    model, curves = ViT(), {name: [] for name in parts}
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, EPOCHS * -(-len(train) // 64))
    shown = display(teach.lines(curves), display_id=True)
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(64):
            turned = (torch.rand(len(batch), 1, 1, 1) < 0.5) & flip
            x = torch.where(turned, mirrored[batch], images[batch])
            nn.functional.cross_entropy(model(x), labels[batch], label_smoothing=0.1).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        with torch.no_grad():
            for name, (x, part) in parts.items():
                curves[name].append((model(x[part]).argmax(-1) == labels[part]).float().mean().item())
        shown.update(teach.lines(curves, x="epoch", y="accuracy"))
    print(*(f"{name} {curve[-1]:.1%}" for name, curve in curves.items()), sep=", ")
    return model


without = fit(flip=False)

# %% with-flips
with_flips = fit(flip=True)


# %% per-class
hits = (without(mirrored[test]).argmax(-1) == labels[test]).float()
print({label.item(): f"{hits[labels[test] == label].mean():.0%}" for label in labels.unique()})

# %% positions
for model in (without, with_flips):
    unit = nn.functional.normalize(model.positions[0, 1:].detach(), dim=-1)  # (N, D)
    mirror = unit.unflatten(0, (images.shape[2] // P, -1)).flip(1).flatten(0, 1)
    closer = unit @ unit.T > (unit * mirror).sum(-1, keepdim=True) + 1e-5
    print((closer.sum(-1) == 1).sum().item(), "/", len(unit))  # closer is only the place itself


# %% smoothing
def mine(labels, C, amount):  # (B,), the number of classes, such as 0.1 → (B, C)
    return ...


teach.check("smoothing", mine)


# %% baseline
def mine(labels):  # (B,)
    return ...


teach.check("baseline", mine)
