"""Recursive divide and conquer over cut vertices and virtual blocks (paper, Algorithm 1).

Every boundary of the top chain is evaluated. Each block is bounded from below; blocks that cannot
win are dropped. Inside a surviving block the cut passes through every chain flow once: one flow is
improved at a time, the others held, until nothing improves; then, if asked, two flows at a time. A
pass over n branches of c layers costs O(cn) evaluations, or O((cn)²) for pairs.
"""

from dataclasses import dataclass
from typing import Literal

from coach_exp.planner.block_cut import BlockCut, Held
from coach_exp.planner.candidate import TOLERANCE, Candidate
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.flows import Flow, chain_flows

Moves = Literal["one", "two"]
PAIR_LIMIT = 200  # layers in a block above which pairs of moves would cost more than they find


@dataclass(slots=True)
class Search:
    """The best candidate so far, and how many cuts were evaluated."""

    best: Candidate
    evaluations: int = 1

    def see(self, found: Candidate) -> None:
        """Count and compare a candidate."""
        self.evaluations += 1
        if found.beats(self.best):
            self.best = found


def divide_conquer(model: CostModel, moves: Moves = "two") -> Search:
    """The best cut found; device-only is always among the candidates."""
    search = Search(model.device_only())
    for block in range(model.blocks):
        search.see(model.boundary(block))
    inhabited = [k for k in range(model.blocks) if model.chain[k] + 1 < model.chain[k + 1]]
    for floor, block in sorted((model.floor(k), k) for k in inhabited):
        if search.best.violation_s == 0 and _hopeless(floor, search.best):
            break
        _BlockSearch(model, block, search).run(moves)
    return search


def _hopeless(floor: float, best: Candidate) -> bool:
    return floor > best.value * (1 + TOLERANCE)


class _BlockSearch:
    """Local search in one block, from three starts: all on the cloud, all on the end, and the best
    topological prefix. The best of a descent is kept apart from the best of the whole search, so
    that a start is improved even when the overall best lies elsewhere."""

    def __init__(self, model: CostModel, block: int, search: Search) -> None:
        self._cut = BlockCut(model, block)
        self._graph = model.graph
        self._search = search
        entry, exit_ = model.span(block)
        self._interior = range(entry + 1, exit_)
        self._flows = chain_flows(model.graph, self._interior)
        self._nothing = self._cut.held
        self._home = self._nothing
        self._known: dict[
            Held, tuple[float, float, float]
        ] = {}  # ranks alone: candidates are large
        self._best: Candidate | None = None

    def run(self, moves: Moves) -> None:
        everything = tuple(map(len, self._cut.runs.layers))
        optima = dict(self._descend_from(start) for start in (self._nothing, everything))
        optima.update([self._descend_from(self._best_prefix())])
        if moves == "two" and len(self._interior) <= PAIR_LIMIT:
            for self._home, self._best in optima.items():
                while self._improve_pairs():
                    self._descend()

    def _best_prefix(self) -> Held:
        self._cut.move_to(self._nothing)
        self._best = None
        self._see()
        for layer in self._interior:
            self._cut.to_end(layer)
            self._see()
        return self._home

    def _descend_from(self, start: Held) -> tuple[Held, Candidate]:
        """The optimum that is reached, with its cost."""
        self._cut.move_to(start)
        self._best = None
        self._see()
        self._descend()
        assert self._best is not None
        return self._home, self._best

    def _see(self) -> bool:
        """Evaluate the present cut; True when it is the best of this descent."""
        held = self._cut.held
        known = self._known.get(held)
        if known is None:
            self._search.evaluations += 1
        elif self._best is not None and known >= self._best.rank:
            return False
        found = self._cut.evaluate(self._best)
        if found is None:
            return False
        self._known[held] = found.rank
        if found.beats(self._search.best):
            self._search.best = found
        if not found.beats(self._best):
            return False
        self._home, self._best = held, found
        return True

    def _descend(self) -> None:
        """Improve one flow at a time until none improves."""
        improved = True
        while improved:
            improved = False
            for flow in self._flows:
                improved |= self._sweep(flow)

    def _sweep(self, flow: Flow) -> bool:
        """Try every place of the cut along one flow; stay at the best seen in this descent."""
        improved = False
        for place in range(len(flow) + 1):
            self._place(flow, place)
            improved |= self._see()
        self._cut.move_to(self._home)
        return improved

    def _improve_pairs(self) -> bool:
        """Move one flow anywhere and sweep another; True at the first improvement."""
        home = self._home
        for k, first in enumerate(self._flows):
            for place in range(len(first) + 1):
                for second in self._flows[k + 1 :]:
                    self._cut.move_to(home)
                    self._place(first, place)
                    if self._sweep(second):
                        return True
        return False

    def _place(self, flow: Flow, place: int) -> None:
        """Put the cut behind the first `place` layers of the flow."""
        if place:
            self._include(flow[place - 1])
        if place < len(flow):
            self._exclude(flow[place])

    def _include(self, layer: int) -> None:
        """Move a layer and the ancestors it needs to the end."""
        missing, stack = set(), [layer]
        while stack:
            here = stack.pop()
            if here > self._cut.entry and here not in self._cut and here not in missing:
                missing.add(here)
                stack.extend(self._graph.predecessors[here])
        for here in sorted(missing):
            self._cut.to_end(here)

    def _exclude(self, layer: int) -> None:
        """Move a layer and everything that needs it to the cloud."""
        held, stack = set(), [layer]
        while stack:
            here = stack.pop()
            if here < self._cut.exit and here in self._cut and here not in held:
                held.add(here)
                stack.extend(self._graph.successors[here])
        for here in sorted(held, reverse=True):
            self._cut.to_cloud(here)
