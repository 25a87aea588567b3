"""One method on the stream of a config: planned, simulated or run over sockets, measured.

In: a method, a config and the World it names. Out: a `Result`, from which tables, pictures and
files are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from coach_exp.jobs.entry import Entry, own_view, planned
from coach_exp.online.decision_cost import crossing_decision_s
from coach_exp.planner.certificate import certified
from coach_exp.planner.planning import own
from coach_exp.results.agreement import agreement, bottleneck_hold
from coach_exp.results.explain import main_plan
from coach_exp.results.metrics import Summary, summarise
from coach_exp.results.plan_metrics import plan_metrics
from coach_exp.results.progress import Display
from coach_exp.setup.config import Config
from coach_exp.setup.sockets import Sockets
from coach_exp.setup.world import World
from coach_exp.types.method import Method, Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records


@dataclass(frozen=True)
class Result:
    """One method on the stream: its plans, the time to make them, its records, their metrics."""

    method: str
    config: Config
    plans: PlanSet
    planning_s: float
    records: Records
    summary: Summary
    host_decision_s: float | None = None
    simulated: Records | None = None  # the same tasks, where the records are of sockets
    agreement: Summary | None = None  # of simulator and sockets

    def metrics(self) -> Mapping[str, float]:
        """The flat `summary.json`: metrics of the records, and those of the planner."""
        metrics = {**self.summary.as_dict(), **plan_metrics(self.plans, self.planning_s)}
        if self.host_decision_s is not None:
            metrics["decision_host_ms"] = 1e3 * self.host_decision_s
        if self.agreement is not None:
            metrics |= self.agreement.as_dict()
        return metrics


def measured(method: Method, config: Config, world: World, display: Display) -> Result:
    """Plan and simulate; over sockets as well, where the transport says so. What a network that is
    not shaped would do, no simulator can say."""
    problem = own_view(method, world.problem)
    world.runner.handshake(problem)
    plans, planning_s = planned(method, problem)
    plans = certified(own(config.planner), problem, plans)
    world.runner.handshake(problem, plans)
    entry = Entry(world, method, problem, plans, world.samples)
    total, transport = problem.workload.tasks, world.config.transport
    simulated, found = None, None
    if transport.kind == "simulated" or transport.shaped:
        simulated = entry.simulated(
            lambda done: display.progress(f"simulating {method.name}", done, total)
        )
    host_s = _host_decision_s(problem, plans)
    if transport.kind != "simulated":
        if simulated is not None and transport.max_s is not None:
            entry = entry.begun(simulated, transport.max_s)
            simulated = entry.simulated()
        records = entry.transported(display)
        found = None if simulated is None else _agreed(simulated, records, world)
    else:
        assert simulated is not None
        records, simulated = simulated, None
    return Result(
        method=method.name,
        config=config,
        plans=plans,
        planning_s=planning_s,
        records=records,
        summary=summarise(records),
        host_decision_s=host_s,
        simulated=simulated,
        agreement=found,
    )


def replayed(result: Result, method: Method, world: World, display: Display) -> Summary:
    """The first seconds of a simulated run again, simulated and over loopback: how far the two
    disagree. Raises LinkError where this machine has no loopback to use."""
    entry = Entry(world, method, own_view(method, world.problem), result.plans, world.samples)
    entry = entry.begun(result.records, world.config.replay_s)
    simulated = entry.simulated()
    sockets = world.runner
    assert isinstance(sockets, Sockets), "a run with a replay has sockets"
    return _agreed(simulated, entry.over_loopback(sockets, display), world)


def _agreed(simulated: Records, records: Records, world: World) -> Summary:
    found = agreement(simulated, records)
    hold = bottleneck_hold(records, world.trace).scaled(100)
    return Summary({**found.metrics, "hold_percent": hold})


def _host_decision_s(problem: Problem, plans: PlanSet) -> float | None:
    """What the main plan's decision takes on this machine, to stand beside T_e's share of it; None
    where nothing is decided online."""
    main = main_plan(plans)
    if main.online is None:
        return None
    layers = [problem.graph[tensor.layer] for tensor in main.crossing]
    return crossing_decision_s(layers, problem.graph.sink.elements, problem.codec)
