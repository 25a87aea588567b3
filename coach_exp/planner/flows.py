"""Chain flows of a virtual block (paper, Algorithm 1, lines 3-4 and 13-14).

In: the interior of a block. Out: its layers as chains, each layer in one of them: the block falls
into parallel branches; the layers through which all data of a branch flows are its chain; what lies
between two of these is a nested block and falls into branches again. A branch without such layers
(it is not series-parallel) is covered greedily by paths. A work list, not recursion: any depth of
nesting is fine.
"""

from collections.abc import Sequence

from coach_exp.types.graph import LayerGraph

Flow = tuple[int, ...]


def chain_flows(graph: LayerGraph, interior: Sequence[int]) -> tuple[Flow, ...]:
    """Chains of layer positions, outer flows before the flows nested in them."""
    flows: list[Flow] = []
    blocks = [list(interior)]
    for block in blocks:  # grows while it is read
        for branch in _branches(graph, block):
            chain = _chain(graph, branch)
            if chain:
                flows.append(chain)
                blocks.extend(_between(branch, chain))
            else:
                flows.extend(_path_cover(graph, branch))
    return tuple(flows)


def _branches(graph: LayerGraph, block: Sequence[int]) -> list[list[int]]:
    """Weakly connected components, each ascending (union-find)."""
    parent = {layer: layer for layer in block}

    def root(layer: int) -> int:
        while parent[layer] != layer:
            parent[layer] = parent[parent[layer]]
            layer = parent[layer]
        return layer

    for layer in block:
        for source in graph.predecessors[layer]:
            if source in parent:
                parent[root(layer)] = root(source)
    branches: dict[int, list[int]] = {}
    for layer in block:
        branches.setdefault(root(layer), []).append(layer)
    return list(branches.values())


def _chain(graph: LayerGraph, branch: Sequence[int]) -> Flow:
    """The layers of a branch over which no edge jumps, edges from and to the outside included."""
    place = {layer: k for k, layer in enumerate(branch)}
    end = len(branch)
    change = [0] * (end + 2)  # jumps over place k: change[0] + … + change[k]

    def jump(start: int, stop: int) -> None:
        change[start + 1] += 1
        change[stop] -= 1

    for k, layer in enumerate(branch):
        for source in graph.predecessors[layer]:
            if source not in place:
                jump(-1, k)
        for user in graph.successors[layer]:
            jump(k, place.get(user, end))
    chain, over = [], 0
    for k, layer in enumerate(branch):
        over += change[k]
        if over == 0:
            chain.append(layer)
    return tuple(chain)


def _between(branch: Sequence[int], chain: Flow) -> list[list[int]]:
    """The layers of a branch before, between and behind those of its chain, where there are any."""
    links = set(chain)
    pieces: list[list[int]] = [[]]
    for layer in branch:
        if layer in links:
            pieces.append([])
        else:
            pieces[-1].append(layer)
    return [piece for piece in pieces if piece]


def _path_cover(graph: LayerGraph, branch: Sequence[int]) -> list[Flow]:
    """Disjoint paths, each extended to the nearest layer that no path holds yet."""
    free = set(branch)
    paths = []
    for layer in branch:
        if layer not in free:
            continue
        path = [layer]
        free.discard(layer)
        while nearest := [user for user in graph.successors[path[-1]] if user in free]:
            path.append(min(nearest))
            free.discard(path[-1])
        paths.append(tuple(path))
    return paths
