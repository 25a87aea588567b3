"""Full-size networks as planning problems: torchvision's, on the Xavier NX and the A6000."""

import pytest

from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.types.method import Link, Problem
from coach_exp.types.workload import Workload

ARGUMENTS = {"googlenet": {"init_weights": False, "aux_logits": False}}


def full_size(name: str, mbps: float = 10) -> Problem:
    """The network at 224 pixels and 4 bits, saturated. Skips the test where there is no torch."""
    torchvision = pytest.importorskip("torchvision")
    import torch

    from coach_exp.profiling.capture import capture
    from coach_exp.profiling.device import analytic
    from coach_exp.profiling.devices import analytic_spec

    with torch.device("meta"):
        model = getattr(torchvision.models, name)(**ARGUMENTS.get(name, {}))
    graph = capture(model, (3, 224, 224)).graph
    end, cloud = (analytic(graph, analytic_spec(side)) for side in ("nx", "a6000"))
    bits = FixedBits(4, graph.input.name)
    workload = Workload("saturated", 1)
    return Problem(graph, end, cloud, Link(1e6 * mbps), UniformAffine(), bits, workload)
