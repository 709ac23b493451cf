from vit_pipeline.teach import check


def parameters(D, hidden):
    attention = 4 * (D * D + D)  # q, k, v, o: weight and bias
    mlp = D * hidden + hidden + hidden * D + D
    norms = 2 * 2 * D  # scale and shift
    return attention + mlp + norms


check("parameters", parameters)


def post_norm(x, attention, mlp, norm_1, norm_2):
    x = norm_1(x + attention(x))
    return norm_2(x + mlp(x))


check("post-norm", post_norm)
