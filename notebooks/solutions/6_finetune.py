import torch

from vit_pipeline.teach import check


def recall(counts):
    return counts.diagonal() / counts.sum(1)


check("recall", recall)


def confused(counts):
    wrong = counts * (1 - torch.eye(len(counts)))
    return divmod(wrong.argmax().item(), len(counts))


check("confused", confused)
