# %% imports
import torch
from torch import nn
from torch.nn import functional as F

from vit_pipeline import ViTPipeline, teach

teach.speak(LANG)


# %% scale
torch.manual_seed(0)
for d in (4, 64, 1024):
    q, k = torch.randn(2, 65, d)  # 65 tokens; all numbers have variance 1
    scores = q @ k.T
    most, scaled = (s.softmax(-1).amax(-1).mean() for s in (scores, scores / scores.std()))
    print(f"d = {d:4}  standard deviation {scores.std():4.1f}  {most:.0%} → {scaled:.0%}")


# %% attention
class Attention(nn.Module):
    def __init__(self, D, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(D, D) for _ in range(4))

    def forward(self, x):  # (B, T, D), where T = N + 1: N patches and CLS
        projected = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in projected)  # (B, heads, T, d)
        x = F.scaled_dot_product_attention(q, k, v)  # softmax(QKᵀ/√d)·V
        return self.o_proj(x.transpose(1, 2).flatten(2))


# %% layer
class Layer(nn.Module):
    def __init__(self, D, heads, hidden, eps):
        super().__init__()
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(D, eps), nn.LayerNorm(D, eps)
        self.attention = Attention(D, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(D, hidden), "fc2": nn.Linear(hidden, D)})

    def forward(self, x):  # (B, T, D)
        x = x + self.attention(self.layernorm_before(x))  # Eq. 2
        y = F.gelu(self.mlp.fc1(self.layernorm_after(x)))
        return x + self.mlp.fc2(y)  # Eq. 3


# %% vit
class ViT(nn.Module):
    def __init__(self, side, P, D, layers, heads, hidden, classes, eps=1e-12):
        super().__init__()
        self.projection = nn.Conv2d(3, D, kernel_size=P, stride=P)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + (side // P) ** 2, D))
        self.layers = nn.ModuleList(Layer(D, heads, hidden, eps) for _ in range(layers))
        self.layernorm = nn.LayerNorm(D, eps)
        self.classifier = nn.Linear(D, classes)

    def forward(self, pixel_values):  # (B, 3, H, W)
        x = self.projection(pixel_values).flatten(2).mT  # (B, N, D)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, T, D)
        x = x + self.position_embeddings  # Eq. 1
        for layer in self.layers:
            x = layer(x)
        return self.classifier(self.layernorm(x)[:, 0])  # Eq. 4


# %% weights
pipe = ViTPipeline.from_pretrained("demo", device="cpu")
model = ViT(side=32, P=4, D=192, layers=6, heads=3, hidden=768, classes=10).eval()
prefixes = "vit.embeddings.patch_embeddings.", "vit.embeddings.", "vit."
weights = pipe.model.state_dict()
for prefix in prefixes:
    weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
print(model.load_state_dict(weights, assign=True))  # the same tensors, not copies

# %% equal
pixel_values = pipe.preprocess(pipe.read(root / "examples/cat.png"))
with torch.inference_mode():
    logits = model(pixel_values)
print(pipe.postprocess(logits)[0])
assert torch.equal(logits, pipe.forward(pixel_values))

# %% where
for name, part in model.named_children():
    print(f"{name:12} {sum(p.numel() for p in part.parameters()):10,}")
print(f"{'in all':12} {sum(p.numel() for p in model.parameters()):10,}")

# %% base
with torch.device("meta"):  # shapes, no memory
    base = ViT(side=224, P=16, D=768, layers=12, heads=12, hidden=3072, classes=1000)
print(f"ViT-B/16 {sum(p.numel() for p in base.parameters()):,}")


# %% parameters
def mine(D, hidden):  # → the number of parameters of one Layer
    return ...


teach.check("parameters", mine)


# %% post-norm
def mine(x, attention, mlp, norm_1, norm_2):  # (T, D), functions → (T, D)
    return ...


teach.check("post-norm", mine)
