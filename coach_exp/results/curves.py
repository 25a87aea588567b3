"""The curves from which thresholds on separability were chosen, as they are written to a file.

In: the table of a plan. Out: a dictionary for JSON.
"""

from math import isfinite
from typing import Any

from coach_exp.types.online import SemanticTable


def curves_json(table: SemanticTable) -> dict[str, Any]:
    """The curves as lists; thresholds that admit nothing or all are null."""
    return {
        "budget": table.budget,
        "samples": table.samples,
        "videos": table.videos,
        "curves": [
            {
                "name": curve.name,
                "chosen": curve.chosen if isfinite(curve.chosen) else None,
                "threshold": curve.threshold.tolist(),
                "share": curve.share.tolist(),
                "loss_points": curve.loss_points.tolist(),
            }
            for curve in table.curves
        ],
    }
