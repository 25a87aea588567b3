"""How far divide and conquer stays behind exhaustive search, on random graphs and on classifiers.

In: numbers of graphs and names of torchvision models. Out: tables, `gaps.json`, and the same tables
as Markdown in `gaps.md`. The gap of a plan is its objective over the least of all cuts, less one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from omegaconf import OmegaConf
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.planner.divide_conquer import Moves
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.profiling.device import DeviceSpec, analytic
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.progress import Display
from coach_exp.studies.random_graphs import SHAPES, random_problem
from coach_exp.studies.settings import StudySettings
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.workload import Workload

if TYPE_CHECKING:
    from rich.table import Table

CONF = Path(__file__).parents[2] / "conf"
MOVES: tuple[Moves, ...] = ("one", "two")
EQUAL = 1e-9  # gaps up to this are rounding
INPUT_PIXELS = {"inception_v3": 299, "swin_v2_t": 256}  # those that do not take 224
AUXILIARY = {"googlenet", "inception_v3"}  # have classifiers that only training uses

# `sum` is `weighted` with equal weights.
OBJECTIVES: tuple[ObjectiveName, ...] = ("paper", "bottleneck", "latency", "weighted")


class Settings(StudySettings):
    """`graphs`: random ones of each shape, of at most `max_layers` with the input;
    `architectures`: torchvision's names; `limit`: cuts up to which the exhaustive search runs."""

    kind: Literal["gaps"] = "gaps"
    graphs: NonNegativeInt = 300
    max_layers: PositiveInt = 14
    seed: NonNegativeInt = 0
    architectures: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("nx", "tx2")
    cloud: str = "a6000"
    bits: PositiveInt = 4
    mbps: tuple[PositiveFloat, ...] = (2, 10, 50)
    objectives: tuple[ObjectiveName, ...] = ("paper", "bottleneck", "latency")
    limit: PositiveInt = 2_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    """One plan against the best of all cuts; `where` names the graph, or device and bandwidth."""

    group: str
    where: str
    objective: ObjectiveName
    moves: Moves
    gap: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Gaps of many plans: `equal` is the share without one."""

    group: str
    objective: str
    moves: Moves
    plans: int
    equal: float
    mean: float
    p95: float
    maximum: float

    @staticmethod
    def of(group: str, objective: str, moves: Moves, gaps: Sequence[Gap]) -> "Summary":
        """The summary of some gaps, at least one."""
        values = np.array([each.gap for each in gaps])
        return Summary(
            group,
            objective,
            moves,
            len(values),
            float((values <= EQUAL).mean()),
            float(values.mean()),
            float(np.percentile(values, 95, method="inverted_cdf")),
            float(values.max()),
        )


def gaps_of(
    problem: Problem, group: str, where: str, objective: ObjectiveName, limit: int
) -> list[Gap]:
    """The gap with each number of moves. Raises InfeasibleError above `limit` cuts."""
    best = Planner("exhaustive", objective, limit=limit).plan(problem).objective.value
    found = []
    for moves in MOVES:
        value = Planner(objective=objective, moves=moves).plan(problem).objective.value
        found.append(Gap(group, where, objective, moves, _over(value, best)))
    return found


def _over(value: float, best: float) -> float:
    """Rounding gives differences in the last digits, which are no gap.

    >>> _over(3.0, 2.0), _over(1e-20, 0.0)
    (0.5, inf)
    """
    if value == best:
        return 0.0
    gap = value / best - 1 if best > 0 else float("inf")
    return 0.0 if abs(gap) <= EQUAL else gap


# --- Random graphs --------------------------------------------------------------------------------


def random_problems(shape: str, settings: Settings) -> Iterator[Problem]:
    """Small enough to try every cut; those that came out too large are drawn again."""
    rng = np.random.default_rng([settings.seed, list(SHAPES).index(shape)])
    for _ in range(settings.graphs):
        while True:
            drawn = random_problem(rng, shape, int(rng.integers(2, settings.max_layers)))
            if len(drawn.graph) <= settings.max_layers:
                break
        yield drawn


def random_gaps(settings: Settings, display: Display) -> list[Gap]:
    """All shapes, all objectives."""
    found: list[Gap] = []
    done, count = 0, len(SHAPES) * settings.graphs
    for shape in SHAPES:
        for number, problem in enumerate(random_problems(shape, settings)):
            for objective in OBJECTIVES:
                found += gaps_of(problem, shape, str(number), objective, settings.limit)
            done += 1
            display.progress("random graphs", done, count)
    return found


# --- Classifiers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Architecture:
    """A classifier and its number of cuts, device-only included."""

    name: str
    layers: int
    cuts: int


def classifier_gaps(
    settings: Settings, display: Display
) -> tuple[list[Gap], list[Architecture], dict[str, str]]:
    """Gaps, what was planned, and why the others were not."""
    specs = {name: _spec(f"device/{name}") for name in settings.devices}
    cloud = _spec(f"cloud/{settings.cloud}")
    found: list[Gap] = []
    planned: list[Architecture] = []
    left_out: dict[str, str] = {}
    for done, name in enumerate(settings.architectures, start=1):
        graph = layer_graph(name)
        try:
            for device, spec in specs.items():
                for mbps in settings.mbps:
                    problem = _problem(graph, spec, cloud, settings.bits, mbps)
                    for objective in settings.objectives:
                        where = f"{device}, {mbps:g} Mbps"
                        found += gaps_of(problem, name, where, objective, settings.limit)
            cuts = Planner("exhaustive", limit=settings.limit).plan(problem).evaluations
            planned.append(Architecture(name, len(graph), cuts))
        except InfeasibleError as error:
            left_out[name] = str(error)
        display.progress("classifiers", done, len(settings.architectures))
    return found, planned, left_out


def layer_graph(name: str) -> LayerGraph:
    """A torchvision classifier, captured without weights and without computing."""
    import torch
    from torchvision.models import get_model

    from coach_exp.profiling.capture import capture

    options = {"aux_logits": False, "init_weights": False} if name in AUXILIARY else {}
    if name.startswith("regnet"):  # its constructor computes with values
        model = get_model(name).to("meta")
    else:
        with torch.device("meta"):
            model = get_model(name, **options)
    pixels = INPUT_PIXELS.get(name, 224)
    return capture(model, (3, pixels, pixels)).graph


def _spec(name: str) -> DeviceSpec:
    """The constants of `conf/<name>.yaml`."""
    path = CONF / f"{name}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"study gaps: there is no {name}; choose one of {known}")
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    return DeviceSpec.from_config(config)


def _problem(
    graph: LayerGraph, end: DeviceSpec, cloud: DeviceSpec, bits: int, mbps: float
) -> Problem:
    return Problem(
        graph=graph,
        end=analytic(graph, end),
        cloud=analytic(graph, cloud),
        link=Link(bandwidth_bps=1e6 * mbps),
        codec=UniformAffine(),
        bits=FixedBits(bits, graph.input.name),
        workload=Workload("saturated", tasks=1),
    )


# --- The study ------------------------------------------------------------------------------------


def study(settings: Mapping[str, Any], directory: Path, display: Display, _: Parts) -> float:
    """Plan, compare and tabulate; returns the mean gap with moves=two over all random graphs, NaN
    where there are none. Raises ConfigError naming wrong settings."""
    checked = Settings.read(settings)
    drawn = random_gaps(checked, display)
    real, planned, left_out = classifier_gaps(checked, display)
    by_shape, by_name = _by_shape(drawn), _by_name(real)
    tables = _tables(checked, by_shape, by_name, planned, left_out, real)
    for title, head, rows in tables:
        display.say(_rich(title, head, rows))
    written = {
        "settings": checked.model_dump(),
        "random": [asdict(each) for each in by_shape],
        "classifiers": [asdict(each) for each in by_name],
        "architectures": [asdict(each) for each in planned],
        "left_out": left_out,
        "nonzero": [asdict(each) for each in (*drawn, *real) if each.gap > EQUAL],
    }
    (directory / "gaps.json").write_text(json.dumps(written, indent=2) + "\n")
    text = "\n\n".join(f"{title}\n\n{_markdown(head, rows)}" for title, head, rows in tables)
    (directory / "gaps.md").write_text(text + "\n")
    two = [each.gap for each in drawn if each.moves == "two"]
    return float(np.mean(two)) if two else float("nan")


def _by_shape(gaps: Sequence[Gap]) -> list[Summary]:
    """Of each shape, objective and number of moves, and over all objectives."""
    rows = []
    for shape in dict.fromkeys(each.group for each in gaps):
        for moves in MOVES:
            own = [each for each in gaps if (each.group, each.moves) == (shape, moves)]
            for objective in dict.fromkeys(each.objective for each in own):
                chosen = [each for each in own if each.objective == objective]
                rows.append(Summary.of(shape, objective, moves, chosen))
            rows.append(Summary.of(shape, "all", moves, own))
    return rows


def _by_name(gaps: Sequence[Gap]) -> list[Summary]:
    """Of each classifier and number of moves, over devices, bandwidths and objectives."""
    return [
        Summary.of(
            name, "all", moves, [each for each in gaps if (each.group, each.moves) == (name, moves)]
        )
        for name in dict.fromkeys(each.group for each in gaps)
        for moves in MOVES
    ]


# --- Tables ---------------------------------------------------------------------------------------

Table_ = tuple[str, tuple[str, ...], list[tuple[str, ...]]]  # title, head, rows


def _tables(
    settings: Settings,
    by_shape: Sequence[Summary],
    by_name: Sequence[Summary],
    planned: Sequence[Architecture],
    left_out: Mapping[str, str],
    real: Sequence[Gap],
) -> list[Table_]:
    """Those with something in them."""
    sizes = {each.name: each for each in planned}
    figures = ("equal %", "mean %", "p95 %", "max %")
    exceptions = [each for each in real if each.gap > EQUAL]
    made: list[Table_] = [
        (
            f"Gap to exhaustive search, {settings.graphs} random graphs of each shape",
            ("shape", "objective", "moves", "plans", *figures),
            [(e.group, e.objective, e.moves, str(e.plans), *_percent(e)) for e in by_shape],
        ),
        (
            "Gap to exhaustive search, torchvision classifiers",
            ("classifier", "layers", "cuts", "moves", "plans", *figures),
            [
                (
                    *(e.group, str(sizes[e.group].layers), f"{sizes[e.group].cuts:,}"),
                    *(e.moves, str(e.plans), *_percent(e)),
                )
                for e in by_name
                if e.group in sizes
            ],
        ),
        (
            "Classifiers with a gap",
            ("classifier", "where", "objective", "moves", "gap %"),
            [(e.group, e.where, e.objective, e.moves, f"{100 * e.gap:.3g}") for e in exceptions],
        ),
        ("Not compared", ("classifier", "cause"), list(left_out.items())),
    ]
    return [table for table in made if table[2]]


def _percent(row: Summary) -> tuple[str, ...]:
    gaps = (f"{100 * gap:.3f}" if gap else "0" for gap in (row.mean, row.p95, row.maximum))
    return f"{100 * row.equal:.1f}", *gaps


def _rich(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich import box
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        made.add_column(name, justify="right" if name[-1] == "%" or name in _NUMBERS else "left")
    for row in rows:
        made.add_row(*row)
    return made


_NUMBERS = {"layers", "cuts", "plans"}


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
