from torch.nn.functional import one_hot

from vit_pipeline.teach import check


def smoothing(labels, C, amount):
    return (1 - amount) * one_hot(labels, C) + amount / C


check("smoothing", smoothing)


def baseline(labels):
    return labels.bincount().max() / len(labels)


check("baseline", baseline)
