"""Where early exits stand: spread evenly over the model's FLOPs (SPINN, MobiCom 2020).

In: a layer graph. Out: names of layers, in the graph's order.
"""

from itertools import accumulate

from coach_exp.planner.cost_model import cut_vertices
from coach_exp.types.graph import LayerGraph


def exit_places(graph: LayerGraph, count: int = 6) -> tuple[str, ...]:
    """The `count` cut vertices nearest to equal shares of the FLOPs, k / (count + 1) for k = 1, 2,
    …; all of them where there are fewer. A graph that tells no FLOPs has its layers counted.

    Of outputs that are never negative alone (those of ReLUs and of blocks that end in one), where
    there are such. The input, views and the sink are no places. Of two that are equally near, the
    earlier; a place serves one share, the first that is nearest to it.
    """
    places = [i for i in cut_vertices(graph)[1:-1] if graph.layers[i].kind != "view"]
    places = [i for i in places if graph.layers[i].non_negative] or places
    done = list(accumulate(layer.flops for layer in graph.layers))
    if not done[-1]:
        done = list(range(len(graph)))
    chosen: set[int] = set()
    for k in range(1, min(count, len(places)) + 1):
        share = done[-1] * k / (count + 1)
        free = (i for i in places if i not in chosen)
        chosen.add(min(free, key=lambda i: abs(done[i] - share)))
    return tuple(graph.layers[i].name for i in sorted(chosen))
