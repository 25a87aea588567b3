"""Linear runs of a block: chains of layers that nothing enters or leaves in between.

In: a block of a graph and the seconds of its layers. Out: its runs with their running sums. A
closed end set holds the first layers of each run, so a cut is one number for each run, and its
schedule takes one step for each run, however many layers that has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from coach_exp.types.graph import LayerGraph

ENTRY = -1  # stands for the block's entry where a run is named


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a block in topological order.

    `layers[r]`: positions, ascending; `run_of[k]`: run of the layer k behind the entry; `sources`:
    the runs whose last layers the first layer needs, or ENTRY; `end_s[r][h]`: end seconds of the
    first h layers; `cloud_s[r][h]`: cloud seconds of all but the first h.
    """

    layers: tuple[tuple[int, ...], ...]
    run_of: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    end_s: tuple[tuple[float, ...], ...]
    cloud_s: tuple[tuple[float, ...], ...]

    @staticmethod
    def of(
        graph: LayerGraph,
        entry: int,
        exit_: int,
        end_s: Sequence[float],
        cloud_s: Sequence[float],
    ) -> "Runs":
        """The runs between two cut vertices: linear in layers and edges."""
        layers = _linear(graph, entry, exit_)
        run_of = [ENTRY] * (exit_ - entry)
        for run, chain in enumerate(layers):
            for layer in chain:
                run_of[layer - entry] = run
        return Runs(
            layers,
            tuple(run_of),
            tuple(tuple(run_of[p - entry] for p in graph.predecessors[c[0]]) for c in layers),
            tuple(tuple(accumulate((end_s[i] for i in c), initial=0.0)) for c in layers),
            tuple(
                tuple(accumulate((cloud_s[i] for i in reversed(c)), initial=0.0))[::-1]
                for c in layers
            ),
        )

    def __len__(self) -> int:
        return len(self.layers)

    def needed(self, run: int) -> list[int]:
        """The run itself and all that its first layer needs, in topological order."""
        if self.sources[run] == (ENTRY,):
            return [run]
        seen, stack = {run}, [run]
        while stack:
            for source in self.sources[stack.pop()]:
                if source != ENTRY and source not in seen:
                    seen.add(source)
                    stack.append(source)
        return sorted(seen)


def _linear(graph: LayerGraph, entry: int, exit_: int) -> tuple[tuple[int, ...], ...]:
    """Ordered by last layer: who needs a run lies behind its last layer, and ends later still."""
    chains: dict[int, list[int]] = {}  # by the last layer so far
    for layer in range(entry + 1, exit_):
        sources = graph.predecessors[layer]
        alone = len(sources) == 1 and sources[0] != entry and len(graph.successors[sources[0]]) == 1
        chain = chains.pop(sources[0]) if alone else []
        chain.append(layer)
        chains[layer] = chain
    return tuple(tuple(chains[last]) for last in sorted(chains))
