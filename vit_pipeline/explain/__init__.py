"""Where a decision came from, and how far to trust that.

::

    explanation.py    Explanation: one image, explained                       ← open this first
    inside.py         attentions, the logit lens, gradient-attention, integrated gradients, occlusion
    faithfulness.py   deletion, insertion, SaCo, beside random and the image's centre; on many images
    figure.py         the figure, the page, JSON, arrays
"""

from .explanation import METHODS, Explanation, explain
from .faithfulness import Faithfulness, evaluate

__all__ = ["METHODS", "Explanation", "Faithfulness", "evaluate", "explain"]
