import torch

from vit_pipeline.teach import check


def occlusion(score, image, gray, P):
    losses = []
    for y in range(0, image.shape[2], P):
        for x in range(0, image.shape[3], P):
            covered = image.clone()
            covered[..., y : y + P, x : x + P] = gray[..., y : y + P, x : x + P]
            losses.append(score(image) - score(covered))
    return torch.cat(losses).reshape(image.shape[2] // P, image.shape[3] // P)


check("occlusion", occlusion)


def area(curve):
    return ((curve[:-1] + curve[1:]) / 2).mean()


check("area", area)
