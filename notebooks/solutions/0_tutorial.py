from vit_pipeline.teach import check


def tokens(side, patch):
    return (side // patch) ** 2 + 1


check("tokens", tokens)


def probability(logits):
    return (logits.exp() / logits.exp().sum(-1, keepdim=True)).max()  # logits.softmax(-1).max()


check("probability", probability)
