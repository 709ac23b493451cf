"""Where a decision came from, and how far to trust that.

::

    explanation.py    Explanation: one image, explained                      ← open this first
    inside.py         attentions, their flow to CLS, the logit lens; the model's twin
    maps.py           gradient-weighted attention, integrated gradients, occlusion
    faithfulness.py   deletion, insertion, SaCo, beside random and the image's centre
    figure.py         the figure, the page, JSON, arrays
    evaluate.py       which method to trust, measured on a folder
"""

from .explanation import FROM_ATTENTION, METHODS, Explanation, explain
from .faithfulness import Faithfulness

__all__ = ["FROM_ATTENTION", "METHODS", "Explanation", "Faithfulness", "explain"]
