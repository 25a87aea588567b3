"""One method on one stream: planned, simulated or run over sockets, its files written and logged.

In: a config and the World it names. Out: a `Result`, from which tables and pictures are drawn.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from coach_exp.online.decision_cost import crossing_decision_s
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.certificate import certified
from coach_exp.plots.online import adaptation_plot, threshold_curves
from coach_exp.results.agreement import agreement, bottleneck_hold
from coach_exp.results.curves import curves_json
from coach_exp.results.explain import main_plan
from coach_exp.results.metrics import Summary, summarise
from coach_exp.results.progress import Display
from coach_exp.results.timeline import save_timeline
from coach_exp.setup.builder import World
from coach_exp.tracking import tracker as tracking
from coach_exp.tracking.provenance import provenance
from coach_exp.tracking.storage import save_tasks
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.method import Method, Problem
from coach_exp.types.plan import PlanSet, StageTimes
from coach_exp.types.task import Records

FILES = (  # of each method
    *("config.yaml", "plan.json", "summary.json", "provenance.json"),
    *("tasks.parquet", "timeline.json"),
)


@dataclass(frozen=True)
class Result:
    """One method on the stream: its plans, the time to make them, its records, their metrics."""

    method: str
    config: DictConfig
    plans: PlanSet
    planning_s: float
    records: Records
    summary: Summary
    host_decision_s: float | None = None
    simulated: Records | None = None  # the same tasks, where the records are of sockets
    agreement: Summary | None = None  # of simulator and sockets

    def metrics(self) -> dict[str, float]:
        """The flat `summary.json`: metrics of the records, and those of the planner."""
        metrics = {**self.summary.as_dict(), **plan_metrics(self.plans, self.planning_s)}
        if self.host_decision_s is not None:
            metrics["decision_host_ms"] = 1e3 * self.host_decision_s
        if self.agreement is not None:
            metrics |= self.agreement.as_dict()
        return metrics


def plain(raw: DictConfig) -> dict[str, Any]:
    """The resolved config as dictionaries, as it is hashed and logged."""
    return cast(dict[str, Any], OmegaConf.to_container(raw, resolve=True))


def method_of(raw: DictConfig) -> Method:
    """The method that the config names. Raises ConfigError when it cannot be made, in the method's
    own words where it has any."""
    try:
        return cast(Method, instantiate(raw.method, _convert_="all"))
    except Exception as error:
        if isinstance(error.__cause__, CoachError):
            raise error.__cause__ from None
        raise ConfigError(f"method._target_ = {raw.method._target_}: {error}") from error


def planned(method: Method, problem: Problem) -> tuple[PlanSet, float]:
    """A method's plans, and the seconds to make them once the bit-widths they need are known."""
    method.plan(problem)  # searches widths, which may take minutes the first time
    began = perf_counter()
    plans = method.plan(problem)
    return plans, perf_counter() - began


def measured(method: Method, raw: DictConfig, world: World, display: Display) -> Result:
    """Plan and simulate; over sockets as well, where the transport says so. What a network that is
    not shaped would do, no simulator can say."""
    problem = method.view(replace(world.problem, bits=world.problem.bits.fresh()))
    world.sockets.handshake(problem)
    plans, planning_s = planned(method, problem)
    plans = certified(instantiate(raw.planner, _convert_="all"), problem, plans)
    world.sockets.handshake(problem, plans)
    total, samples = problem.workload.tasks, world.samples
    transport = world.config.transport
    simulated = None
    if transport.kind == "simulated" or transport.shaped:
        simulated = simulate(
            problem,
            method.controller(plans),
            world.trace,
            world.estimator(),
            samples,
            progress=lambda done: display.progress(f"simulating {method.name}", done, total),
        )
    host_s = _host_decision_s(problem, plans)
    if transport.kind == "simulated":
        assert simulated is not None
        return Result(method.name, raw, plans, planning_s, simulated, summarise(simulated), host_s)
    if simulated is not None and transport.max_s is not None:
        problem, samples = _begun(problem, samples, simulated, transport.max_s)
        simulated = simulate(
            problem, method.controller(plans), world.trace, world.estimator(), samples
        )
    records = world.sockets.run(
        *(method, problem, plans, world.trace, world.estimator(), samples, display)
    )
    return Result(
        *(method.name, raw, plans, planning_s, records, summarise(records), host_s, simulated),
        None if simulated is None else _agreed(simulated, records, world),
    )


def _begun(
    problem: Problem, samples: NDArray[np.int64] | None, records: Records, seconds: float
) -> tuple[Problem, NDArray[np.int64] | None]:
    """The problem and its samples with as many tasks as were answered in the first seconds."""
    tasks = max(1, int((records.finish_s <= seconds).sum()))
    shorter = replace(problem, workload=replace(problem.workload, tasks=tasks))
    return shorter, None if samples is None else samples[:tasks]


def _agreed(simulated: Records, records: Records, world: World) -> Summary:
    found = agreement(simulated, records)
    hold = bottleneck_hold(records, world.trace).scaled(100)
    return Summary({**found.metrics, "hold_percent": hold})


def replayed(result: Result, method: Method, world: World, display: Display) -> Summary:
    """The first seconds of a simulated run again, simulated and over loopback: how far the two
    disagree. Raises LinkError where this machine has no loopback to use."""
    problem = method.view(replace(world.problem, bits=world.problem.bits.fresh()))
    seconds = world.config.transport.replay_s
    problem, samples = _begun(problem, world.samples, result.records, seconds)
    plans, trace = result.plans, world.trace
    simulated = simulate(problem, method.controller(plans), trace, world.estimator(), samples)
    executed = world.sockets.replay(
        *(method, problem, plans, trace, world.estimator(), samples, display)
    )
    return _agreed(simulated, executed, world)


def _host_decision_s(problem: Problem, plans: PlanSet) -> float | None:
    """What the main plan's decision takes on this machine, to stand beside T_e's share of it; None
    where nothing is decided online."""
    main = main_plan(plans)
    if main.online is None:
        return None
    layers = [problem.graph[tensor.layer] for tensor in main.crossing]
    return crossing_decision_s(layers, problem.graph.sink.elements, problem.codec)


def plan_metrics(plans: PlanSet, planning_s: float) -> dict[str, float]:
    """What the planner promises, in the units of reports; mixtures are averaged by weight."""
    metrics = {"planning_ms": 1e3 * planning_s}
    for name, seconds in plans.bounds.items():
        metrics[f"bound_{name.removesuffix('_s')}_ms"] = 1e3 * seconds
    for plan, weight in zip(plans.plans, plans.weights, strict=True):
        facts = {
            "plan_end_ms": 1e3 * plan.stage_s.end_s,
            "plan_link_ms": 1e3 * plan.stage_s.link_s,
            "plan_cloud_ms": 1e3 * plan.stage_s.cloud_s,
            "plan_latency_ms": 1e3 * plan.latency_s,
            "plan_objective_ms": 1e3 * plan.objective.value,
            "plan_bubble_compute_ms": 1e3 * plan.objective.bubbles.compute_s,
            "plan_bubble_link_ms": 1e3 * plan.objective.bubbles.link_s,
            "plan_payload_kib": sum(plan.payload_bytes) / 1024,
            "plan_efficiency_percent": 100 * efficiency(plan.stage_s),
            "plan_end_layers": len(plan.end_layers),
            "plan_evaluations": plan.evaluations,
        }
        if plan.decision_s > 0:
            facts["plan_decision_ms"] = 1e3 * plan.decision_s
        if plan.gap is not None:
            facts["plan_gap_percent"] = 100 * plan.gap
        for name, value in facts.items():
            metrics[name] = metrics.get(name, 0.0) + weight * value
    return metrics


def efficiency(stage_s: StageTimes) -> float:
    """ΣT / (3 · max T): the share of a full pipeline's period that end, link and cloud work.

    >>> efficiency(StageTimes(end_s=2, link_s=4, cloud_s=3))
    0.75
    """
    return stage_s.total_s / (3 * stage_s.period_s or 1.0)


def keep(result: Result, world: World, directory: Path, run: tracking.Run) -> None:
    """Write the files of one method, and log them with its metrics."""
    directory.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(result.config, directory / "config.yaml", resolve=True)
    write_json(directory / "plan.json", result.plans.as_json())
    write_json(directory / "summary.json", result.metrics())
    write_json(directory / "provenance.json", provenance() | {"identity": world.identity})
    save_tasks(result.records, directory / "tasks.parquet")
    save_timeline(result.records, directory / "timeline.json", name=result.method)
    if result.simulated is not None:
        save_tasks(result.simulated, directory / "simulated.parquet")
        run.log_files([directory / "simulated.parquet"])
    run.log_metrics(result.metrics())
    run.log_files(directory / name for name in FILES)
    run.log_files(_online_files(result, world, directory))


def _online_files(result: Result, world: World, directory: Path) -> list[Path]:
    """Thresholds and their curves, and how the bits followed the link."""
    table = main_plan(result.plans).online
    if table is None:
        return []
    names = ("calibration.json", "calibration.png", "adaptation.png")
    data, curves, adaptation = (directory / name for name in names)
    write_json(data, curves_json(table))
    threshold_curves(table, curves, world.config.cache.limit_points, title=result.method)
    adaptation_plot({result.method: result.records}, world.true_trace, adaptation)
    return [data, curves, adaptation]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
