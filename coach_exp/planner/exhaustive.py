"""Exhaustive search over all closed end sets, block by block: the judge of every other planner.

A cut lies inside one block, so the closed sets of each block are enumerated, not those of the
graph.
"""

from collections.abc import Iterator

from coach_exp.planner.block_cut import BlockCut
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.divide_conquer import Search
from coach_exp.types.errors import InfeasibleError


def exhaustive(model: CostModel, limit: int) -> Search:
    """The best of all cuts. Raises InfeasibleError above `limit` cuts."""
    search = Search(model.device_only())
    for block in range(model.blocks):
        search.see(model.boundary(block))
        _enumerate(model, block, search, limit)
    return search


def _enumerate(model: CostModel, block: int, search: Search, limit: int) -> None:
    for cut in inner_cuts(model, block):
        search.evaluations += 1
        if search.evaluations > limit:
            raise InfeasibleError(
                f"exhaustive search met more than planner.limit = {limit} cuts; "
                f"use planner=divide_conquer, or raise planner.limit"
            )
        found = cut.evaluate(search.best)
        if found is not None and found.beats(search.best):
            search.best = found


def inner_cuts(model: CostModel, block: int) -> Iterator[BlockCut]:
    """Every non-empty closed set of the block's interior, once: layers are decided in topological
    order, and a layer may be on the end only when its predecessors are. It is the same object each
    time, to be read before the next is asked for."""
    cut = BlockCut(model, block)
    predecessors = model.graph.predecessors
    taken: list[int] = []
    layer = cut.entry + 1
    while True:
        while layer < cut.exit:
            if all(p == cut.entry or p in cut for p in predecessors[layer]):
                cut.to_end(layer)
                taken.append(layer)
                yield cut
            layer += 1
        if not taken:
            return
        layer = taken.pop()
        cut.to_cloud(layer)
        layer += 1
