"""Fig. 2 of the paper: four schemes run the same four tasks through end, link and cloud, one task
arriving every 2 time units (Section II-C).

Nothing goes in; planner, codec, controller protocol and simulator are the real ones. Out: a table,
and a picture with one Gantt chart per scheme. One time unit is simulated as one second.

The paper prints scheme 1's latency of 6 and largest stage of 4, scheme 2's 7 and 3 (25 % less),
scheme 3's largest stage of 2 (50 % less), and nothing for scheme 4. The stage times here are
**reconstructed** from that, and the per-task decisions of schemes 3 and 4 are **scripted**:

* Scheme 3 keeps scheme 2's cut and can shorten the link stage alone, so end and cloud must hold a
  task for at most 2 already. Scheme 2 sums to 7 with 3 at most: (end, link, cloud) = (2, 3, 2).
* Scheme 1 sums to 6 with 4 at most. A cut of the same model that is deeper costs the end more and
  the cloud less, so (4, 1, 1) is its natural form: the layer in between takes 2 on the end and 1 on
  the cloud.
* One chain of three layers has both cuts. The planner finds scheme 1's when it minimises latency,
  scheme 2's when it minimises the largest stage.
* Scheme 3 sends three tasks at 5 bits and the last at 2, instead of the plan's 8: 2 units and 1 on
  the link, not 3. Scheme 4 answers every second task at the cut and sends the others as scheme 3.
"""

from dataclasses import dataclass
from typing import Any

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import constant
from coach_exp.pipeline.parts import Parts
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.plots.gantt import gantt_charts
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.findings import Findings, Table
from coach_exp.results.metrics import RESOURCES
from coach_exp.results.progress import Display
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import (
    SEND,
    Controller,
    Decision,
    FixedPlans,
    Link,
    Observation,
    Problem,
)
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload, WorkloadKind

CAVEAT = (
    "The stage times are reconstructed from what the paper prints (latencies 6 and 7, largest "
    "stages 4, 3 and 2); the decisions of schemes 3 and 4 are scripted."
)
TASKS = 4
GAP_S = 2.0  # between two arrivals

# Layer: seconds on the end, seconds on the cloud, elements of its output. The codec's header is 24
# bytes, so that the output of layer 1 (192 elements) takes 216, 144 and 72 bytes at 8, 5 and 2
# bits: 3, 2 and 1 seconds. At 8 bits the input takes 8 seconds, the output of layer 2 one.
LAYERS = {"input": (0.0, 0.0, 552), "1": (2.0, 1.0, 192), "2": (2.0, 1.0, 48), "3": (3.0, 1.0, 1)}
BYTES_PER_S = 72
PLANNED_BITS = 8

EXIT = Decision("exit")


@dataclass(frozen=True, slots=True)
class Printed:
    """What the paper prints of a scheme, in time units and percent; None where it prints
    nothing."""

    latency_s: float | None = None
    largest_stage_s: float | None = None
    less_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Scheme:
    """One of the four, as a `Method`: what its plan minimises, and what happens to each task at the
    cut (an empty script: all are sent as planned)."""

    name: str
    idea: str
    objective: ObjectiveName
    printed: Printed
    script: tuple[Decision, ...] = ()

    def plan(self, problem: Problem) -> PlanSet:
        """The best cut by the objective; it leaves the decision at the cut open."""
        planner = Planner(objective=self.objective, release="after_decision")
        return PlanSet((planner.plan(problem),))

    def controller(self, plans: PlanSet) -> Controller:
        """One that follows the script."""
        return _Scripted(plans, self.script)


class _Scripted(FixedPlans):
    """Decides at the cut what the script says of the task."""

    def __init__(self, plans: PlanSet, script: tuple[Decision, ...]) -> None:
        super().__init__(plans)
        self._script = script

    def at_cut(self, task: int, plan: Plan, observation: Observation) -> Decision:
        return self._script[task] if self._script else SEND


def _at(bits: int) -> Decision:
    return Decision("send", bits=(bits,))


SCHEMES = (
    Scheme("scheme 1", "cut for the least latency", "latency", Printed(6, 4)),
    Scheme("scheme 2", "cut for the smallest bottleneck", "bottleneck", Printed(7, 3, 25)),
    Scheme(
        "scheme 3",
        "scheme 2's cut, bits chosen per task",
        "bottleneck",
        Printed(None, 2, 50),
        (_at(5), _at(5), _at(5), _at(2)),
    ),
    Scheme(
        "scheme 4",
        "scheme 3, and every second task exits",
        "bottleneck",
        Printed(),
        (_at(5), EXIT, _at(5), EXIT),
    ),
)


# --- Running the schemes --------------------------------------------------------------------------


def problem(kind: WorkloadKind = "periodic") -> Problem:
    """The chain of `LAYERS` with its times; `single_stream` gives each task the pipeline alone."""
    names = list(LAYERS)
    graph = LayerGraph.of(
        Layer(name, tuple(names[k - 1 : k]) if k else (), elements=LAYERS[name][2])
        for k, name in enumerate(names)
    )
    return Problem(
        graph=graph,
        end=DeviceProfile("end", {name: facts[0] for name, facts in LAYERS.items()}),
        cloud=DeviceProfile("cloud", {name: facts[1] for name, facts in LAYERS.items()}),
        link=Link(bandwidth_bps=8.0 * BYTES_PER_S),
        codec=UniformAffine(),
        bits=FixedBits(PLANNED_BITS, "input", PLANNED_BITS),
        workload=Workload(kind, TASKS, rate_hz=1 / GAP_S),
    )


@dataclass(frozen=True)
class Played:
    """A scheme's plan, its records in the pipeline, and those of the same tasks one at a time."""

    scheme: Scheme
    plan: Plan
    records: Records
    alone: Records

    @staticmethod
    def of(scheme: Scheme) -> "Played":
        """Plan, then simulate twice."""
        plans = scheme.plan(problem())
        pipeline = _simulated(scheme, plans, problem())
        alone = _simulated(scheme, plans, problem("single_stream"))
        return Played(scheme, plans.plans[0], pipeline, alone)

    @property
    def stages_s(self) -> dict[str, list[float]]:
        """Seconds each task held each resource."""
        return {name: self.records.columns[f"{name}_busy_s"].tolist() for name in RESOURCES}

    @property
    def largest_stage_s(self) -> float:
        """The longest that any task held any resource."""
        return max(max(stage) for stage in self.stages_s.values())

    @property
    def latencies_s(self) -> list[float]:
        """Of each task in the pipeline, its wait for the end included."""
        return list((self.records.finish_s - self.records.arrival_s).tolist())

    @property
    def latencies_alone_s(self) -> list[float]:
        """Of each task when no other is there."""
        return list((self.alone.finish_s - self.alone.arrival_s).tolist())

    @property
    def makespan_s(self) -> float:
        """From the first arrival to the last answer."""
        return float(self.records.finish_s.max() - self.records.arrival_s.min())

    @property
    def idle_percent(self) -> dict[str, float]:
        """Share of the makespan in which each resource idles, filling and draining included."""
        return {
            name: 100 * (1 - sum(stage) / self.makespan_s) for name, stage in self.stages_s.items()
        }

    @property
    def bubbles_s(self) -> dict[str, float]:
        """Idle seconds of each resource between its first task and its last: the bubbles that a
        longer stream would repeat."""
        result = {}
        for name, stage in self.stages_s.items():
            used = self.records.columns[f"{name}_busy_s"] > 0
            start = self.records.columns[f"{name}_start_s"][used].min()
            end = self.records.columns[f"{name}_end_s"][used].max()
            result[name] = float(end - start) - sum(stage)
        return result

    def less_percent(self, reference: "Played") -> float:
        """How much smaller the largest stage is than the reference's."""
        return 100 * (1 - self.largest_stage_s / reference.largest_stage_s)


def _simulated(scheme: Scheme, plans: PlanSet, world: Problem) -> Records:
    rate_bps = world.link.bandwidth_bps
    return simulate(world, scheme.controller(plans), constant(rate_bps), Ewma(rate_bps))


def play() -> tuple[Played, ...]:
    """All four schemes."""
    return tuple(Played.of(scheme) for scheme in SCHEMES)


# --- The study ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fig2:
    """There is nothing to set."""

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is by how many percent scheme 3's largest stage is below scheme 1's (the paper:
        50). The parts are not asked."""
        played = play()
        charts = gantt_charts(
            {_title(each): each.records for each in played},
            unit="units; a task arrives every 2",
            caption=f"{CAVEAT} Grey is idle, its share of the scheme's duration at the right; "
            "▼ marks an early exit.",
        )
        return Findings(
            name="fig2",
            tables=(table(played),),
            figures={"fig2": charts},
            data=as_json(played),
            notes=(*(f"{scheme.name}: {scheme.idea}" for scheme in SCHEMES), CAVEAT),
            value=played[2].less_percent(played[0]),
        )


def as_json(played: tuple[Played, ...]) -> dict[str, Any]:
    """Every number of the table, and each task's times."""
    times = [f"{resource}_{edge}_s" for resource in RESOURCES for edge in ("start", "end")]
    columns = ["task", "arrival_s", *times, "finish_s", "decision", "bits", "payload_bytes"]
    schemes = []
    for each in played:
        printed = each.scheme.printed
        schemes.append(
            {
                "name": each.scheme.name,
                "idea": each.scheme.idea,
                "plan": each.plan.as_json(weight=1.0),
                "stages_s": each.stages_s,
                "largest_stage_s": each.largest_stage_s,
                "less_than_scheme_1_percent": each.less_percent(played[0]),
                "latencies_alone_s": each.latencies_alone_s,
                "latencies_s": each.latencies_s,
                "makespan_s": each.makespan_s,
                "idle_percent": each.idle_percent,
                "bubbles_between_tasks_s": each.bubbles_s,
                "paper": {
                    "latency_s": printed.latency_s,
                    "largest_stage_s": printed.largest_stage_s,
                    "less_than_scheme_1_percent": printed.less_percent,
                },
                "tasks": [{name: getattr(row, name) for name in columns} for row in each.records],
            }
        )
    return {"caveat": CAVEAT, "unit": "one time unit is 1 s", "schemes": schemes}


HEADS = (
    "",
    "stages\nend/\nlink/\ncloud",
    "largest\nstage",
    "less\nthan\nscheme\n1, %",
    "latency\nalone",
    "latency\nin the\npipeline",
    "all\nanswered",
    "idle, %\nend/\nlink/\ncloud",
    "bubbles\nbetween\ntasks",
)


def table(played: tuple[Played, ...]) -> Table:
    """Our figures, the paper's in brackets, in time units."""
    rows = []
    for each in played:
        printed = each.scheme.printed
        rows.append(
            [
                each.scheme.name.removeprefix("scheme "),
                "/".join(_range(stage) for stage in each.stages_s.values()),
                _beside(f"{each.largest_stage_s:g}", printed.largest_stage_s),
                _beside(f"{each.less_percent(played[0]):g}", printed.less_percent),
                _beside(_range(each.latencies_alone_s), printed.latency_s),
                "/".join(f"{latency:g}" for latency in each.latencies_s),
                f"{each.makespan_s:g}",
                "/".join(f"{share:.0f}" for share in each.idle_percent.values()),
                "/".join(f"{idle:g}" for idle in each.bubbles_s.values()),
            ]
        )
    title = "Fig. 2: four schemes, a task every 2 time units (paper in brackets)"
    return Table(title, HEADS, rows)


def _beside(ours: str, printed: float | None) -> str:
    return ours if printed is None else f"{ours} ({printed:g})"


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _title(played: Played) -> str:
    """A chart's title, with what was sent where a script decided."""
    scheme = played.scheme
    sent = ""
    if scheme.script:
        bits = [f"{b}" if b else "exit" for b in played.records.bits.tolist()]
        sent = f" (bits {', '.join(bits)})"
    return (
        f"{scheme.name.capitalize()}: {scheme.idea}{sent} – largest stage "
        f"{played.largest_stage_s:g}, all answered after {played.makespan_s:g}"
    )
