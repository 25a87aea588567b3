"""The jobs of the command line: plain functions from a config to the job's metric.

`run` plans, simulates and reports; `plan` plans and explains; `precision` searches bit-widths;
`profile` times a device; `train` fits the classifier; `study` looks at the framework itself. Each
writes its files into the job's directory; a run is also kept in MLflow, where asked.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from coach_exp.assembly import Builder, World
from coach_exp.config import Config, SearchedPrecision, validated
from coach_exp.launch import Invocation
from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.alternatives import Alternatives, alternatives
from coach_exp.planner.certificate import certified
from coach_exp.planner.cost_model import cut_vertices
from coach_exp.planner.pareto import pareto_front
from coach_exp.quant.precision import SearchedBits
from coach_exp.results import report, tracking
from coach_exp.results.explain import explain, main_plan
from coach_exp.results.figures import gantt, throughput_plot
from coach_exp.results.metrics import Summary, drop, ratio, summarise
from coach_exp.results.plan_pictures import front_picture, graph_picture, schedule_picture
from coach_exp.results.progress import Display
from coach_exp.results.provenance import provenance
from coach_exp.results.storage import save_tasks
from coach_exp.results.tables import markdown, text_table
from coach_exp.results.timeline import save_timeline
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.method import FixedPlans, Method, Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.task import Records

FILES = (  # of each method
    *("config.yaml", "plan.json", "summary.json", "provenance.json"),
    *("tasks.parquet", "timeline.json"),
)
FLIP_SAMPLES = 300  # frames that job=train asks one by one, to see whether batches change answers
PLAIN_WIDTH = 130  # columns of a table that goes to a file
USUAL_REFERENCES = ("device_only", "cloud_only", "coach", "coach_bottleneck")


@dataclass(frozen=True)
class Result:
    """One method on the stream: its plans, the time to make them, its records, their metrics."""

    method: str
    config: DictConfig
    plans: PlanSet
    planning_s: float
    records: Records
    summary: Summary

    def metrics(self) -> dict[str, float]:
        """The flat `summary.json`: metrics of the records, and those of the planner."""
        return {**self.summary.as_dict(), **plan_metrics(self.plans, self.planning_s)}


def run_job(raw: DictConfig, call: Invocation) -> float | None:
    """Validate the config and do its job; the return value is what a sweep may optimise."""
    config = validated(raw)
    job = {
        "run": _run,
        "plan": _plan,
        "precision": _precision,
        "profile": _profile,
        "train": _train,
        "study": _study,
    }[config.job]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    with Display(console) as display:
        return job(raw, config, call, display)


def _run(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float | None:
    tracker = tracking.open_tracker(config.output.root, **config.tracking.model_dump())
    sweep = tracker.sweep(str(call.sweep), call.sweep.name) if call.sweep else nullcontext()
    with sweep as parent:
        method, references = _method(raw), _references(config, call)
        world = Builder(config, display.progress).world()
        plain = _plain(raw)
        digest = tracking.config_hash(plain, **world.identity)
        done = tracker.finished_run(digest) if call.sweep else None
        if done is not None:
            display.say(f"{call.name}: finished before as run {done.id}, not run again")
            return done.metrics.get("throughput_its")
        tags = {"coach.method": method.name, "coach.job": "run"}
        with tracker.run(
            call.name, config_hash=digest, params=plain, tags=tags, parent=parent
        ) as run:
            result = _simulated(method, raw, world, display)
            _keep(result, world, call.directory, run)
            beside = _run_references(references, world, call.directory, tracker, run, display)
            results = [result, *beside]
            run.log_files(_pictures(results, world, call.directory))
    _show(results, world, call, config, display)
    return result.summary["throughput_its"].value


def _run_references(
    configs: Mapping[str, DictConfig],
    world: World,
    directory: Path,
    tracker: tracking.Tracker,
    run: tracking.Run,
    display: Display,
) -> Iterator[Result]:
    """Each reference as a run nested in the main one; what cannot run is left out, aloud."""
    for name, raw in configs.items():
        try:
            result = _simulated(_method(raw), raw, world, display)
        except CoachError as error:
            display.say(f"{name} is left out: {error}")
            continue
        tags = {"coach.method": name, "coach.job": "run"}
        with tracker.run(name, params=_plain(raw), tags=tags, parent=run.id) as nested:
            _keep(result, world, directory / "references" / name, nested)
        yield result


def _references(config: Config, call: Invocation) -> dict[str, DictConfig]:
    """The configs of the methods to be shown beside the main one."""
    usual = () if call.sweep else USUAL_REFERENCES
    names = usual if config.references is None else config.references
    others = [name for name in dict.fromkeys(names) if name != config.method.name]
    composed = {name: call.with_method(name) for name in others}
    for each in composed.values():
        validated(each)
    return composed


def _plain(raw: DictConfig) -> dict[str, Any]:
    """The resolved config as dictionaries, as it is hashed and logged."""
    return cast(dict[str, Any], OmegaConf.to_container(raw, resolve=True))


def _method(raw: DictConfig) -> Method:
    try:
        return cast(Method, instantiate(raw.method, _convert_="all"))
    except Exception as error:
        raise ConfigError(f"method._target_ = {raw.method._target_}: {error}") from error


def _planned(method: Method, problem: Problem) -> tuple[PlanSet, float]:
    """A method's plans, and the seconds to make them once the bit-widths they need are known."""
    method.plan(problem)  # searches widths, which may take minutes the first time
    began = perf_counter()
    plans = method.plan(problem)
    return plans, perf_counter() - began


def _simulated(method: Method, raw: DictConfig, world: World, display: Display) -> Result:
    problem = replace(world.problem, bits=world.problem.bits.fresh())
    plans, planning_s = _planned(method, problem)
    plans = certified(instantiate(raw.planner, _convert_="all"), problem, plans)
    total = problem.workload.tasks
    records = simulate(
        problem,
        method.controller(plans),
        world.trace,
        world.estimator(),
        world.samples,
        progress=lambda done: display.progress(f"simulating {method.name}", done, total),
    )
    return Result(method.name, raw, plans, planning_s, records, summarise(records))


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
            "plan_end_layers": len(plan.end_layers),
            "plan_evaluations": plan.evaluations,
        }
        if plan.gap is not None:
            facts["plan_gap_percent"] = 100 * plan.gap
        for name, value in facts.items():
            metrics[name] = metrics.get(name, 0.0) + weight * value
    return metrics


# --- Files and the screen -------------------------------------------------------------------------


def _keep(result: Result, world: World, directory: Path, run: tracking.Run) -> None:
    """Write the files of one method, and log them with its metrics."""
    directory.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(result.config, directory / "config.yaml", resolve=True)
    _write_json(directory / "plan.json", result.plans.as_json())
    _write_json(directory / "summary.json", result.metrics())
    _write_json(directory / "provenance.json", provenance() | {"identity": world.identity})
    save_tasks(result.records, directory / "tasks.parquet")
    save_timeline(result.records, directory / "timeline.json", name=result.method)
    run.log_metrics(result.metrics())
    run.log_files(directory / name for name in FILES)


def _pictures(results: list[Result], world: World, directory: Path) -> list[Path]:
    """The main method's first tasks, and every method's throughput over time."""
    files = [directory / "gantt.png", directory / "throughput.png"]
    gantt(results[0].records, files[0], title=results[0].method)
    throughput_plot({r.method: r.records for r in results}, world.trace, files[1])
    return files


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _show(
    results: list[Result], world: World, call: Invocation, config: Config, display: Display
) -> None:
    """The table, what it is about, and where the rest lies."""
    rows = [
        report.Row(r.method, r.summary, report.cut(r.records)) for r in sorted(results, key=_usual)
    ]
    display.say(report.result_table(rows, title=_headline(world, config)))
    for note in _notes(results, world):
        display.say(note)
    display.say(f"files: {call.directory}")
    if config.tracking.kind == "mlflow":
        store = config.tracking.uri or f"sqlite:///{config.output.root / 'mlflow.db'}"
        display.say(f"compare runs: mlflow ui --backend-store-uri {store}")


def _usual(result: Result) -> int:
    """The trivial methods first, then COACH, then any other."""
    known = result.method in USUAL_REFERENCES
    return USUAL_REFERENCES.index(result.method) if known else len(USUAL_REFERENCES)


def _headline(world: World, config: Config) -> str:
    problem = world.problem
    link = problem.link
    mbps = [rate / 1e6 for rate in world.trace.rates_bps]
    steps_ = " → ".join(f"{rate:g}" for rate in mbps)
    rates = steps_ if len(mbps) <= 4 else f"{min(mbps):.3g} … {max(mbps):.3g}"
    return (
        f"{problem.end.device} → {rates} Mbps, RTT {1e3 * link.rtt_s:g} ms → "
        f"{problem.cloud.device}; {problem.workload.tasks} tasks, {config.workload.kind}"
    )


def _notes(results: list[Result], world: World) -> list[str]:
    """What a reader of the table must know."""
    searched = isinstance(world.problem.bits, SearchedBits)
    widths = (
        "tensors not searched counting as 2 bits wide"
        if searched
        else f"every tensor at {world.config.precision.bits} bits, which is assumed, not searched"
    )
    least_ms = 1e3 * results[0].plans.bounds["least_period_s"]
    rate = f" ({1e3 / least_ms:.0f} it/s)" if least_ms > 0 else ""
    bound = (
        f"bound: at the initial rate no plan or mixture of plans answers more often than every "
        f"{least_ms:.2f} ms{rate}, {widths}"
    )
    if not world.measures_accuracy:
        return [bound, "accuracy was not measured: the model has no trained weights"]
    records = results[0].records
    uncut = ratio(records.uncut == records.label)
    assert uncut.lo is not None
    assert uncut.hi is not None
    return [
        bound,
        f"accuracy of the uncut float model on these tasks: {100 * uncut.value:.1f} % "
        f"[{100 * uncut.lo:.1f}, {100 * uncut.hi:.1f}]; drops are against it, in points",
    ]


# --- The other jobs -------------------------------------------------------------------------------


def _plan(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float | None:
    """Plan with the config's method and explain the plan; leaves `plan.json`, `summary.json` and
    two pictures. With `planner.objective=pareto`: the front of all plans instead."""
    builder = Builder(config, display.progress)
    trace = builder.trace()
    problem = builder.problem(trace)
    if config.planner.objective == "pareto":
        _front(raw, problem, call, display)
        return None
    method = _method(raw)
    plans, planning_s = _planned(method, problem)
    planner = instantiate(raw.planner, _convert_="all")
    plans = certified(planner, problem, plans)
    main = main_plan(plans)
    others = alternatives(planner, problem, main)
    metrics = plan_metrics(plans, planning_s)
    if others.runner_up is not None:
        metrics["plan_runner_up_objective_ms"] = 1e3 * others.runner_up.objective.value
    _write_json(call.directory / "plan.json", plans.as_json())
    _write_json(call.directory / "summary.json", metrics)
    graph_picture(problem.graph, main, call.directory / "graph.png", title=method.name)
    records = _steady_state(problem, plans)
    schedule_picture(problem, main, records, call.directory / "schedule.png", title=method.name)
    display.say(report.plan_table(method.name, plans))
    display.say(report.comparison_table(_beside(method.name, main, others)))
    for sentence in explain(method.name, plans, others, problem.workload, planning_s):
        display.say(sentence)
    display.say(f"pictures: graph.png, schedule.png; files: {call.directory}")
    return metrics["plan_objective_ms"]


def _beside(method: str, plan: Plan, others: Alternatives) -> dict[str, Plan | None]:
    """The plans to compare, by what they are called."""
    second = {"runner-up": others.runner_up} if others.runner_up is not None else {}
    ends = {"device-only": others.device_only, "cloud-only": others.cloud_only}
    return {method: plan, **second, **ends}


def _steady_state(problem: Problem, plans: PlanSet) -> Records:
    """A stream at the link's initial rate, long enough to have a middle; no more tasks in flight
    than fill the pipeline, for what waits in queues is not seen in a picture."""
    main = main_plan(plans)
    filling = ceil(main.latency_s / (main.stage_s.period_s or 1.0)) + 1
    workload = replace(
        problem.workload,
        tasks=60,
        drop=False,
        in_flight=min(problem.workload.in_flight, filling),
    )
    rate_bps = problem.link.bandwidth_bps
    here = replace(problem, workload=workload, outcomes=None)
    return simulate(here, FixedPlans(plans), steps([rate_bps], 1.0), Ewma(rate_bps))


def _front(raw: DictConfig, problem: Problem, call: Invocation, display: Display) -> None:
    """The front of latency and period; leaves `pareto.json` and `pareto.png`. No method is asked,
    and there is no one number that a sweep could optimise."""
    planner = instantiate({**raw.planner, "objective": "bottleneck"}, _convert_="all")
    front = pareto_front(planner, problem)
    _write_json(call.directory / "pareto.json", front.as_json())
    link_mbps = problem.link.bandwidth_bps / 1e6
    title = f"{problem.end.device} → {link_mbps:g} Mbps → {problem.cloud.device}"
    front_picture(front, call.directory / "pareto.png", title=title)
    display.say(report.front_table(front.plans))
    display.say(f"{len(front.plans)} plans; {front.source}")
    display.say(f"no plan, and no mixture, has a period below {1e3 * front.least_period_s:.3f} ms")
    display.say(f"picture: pareto.png; files: {call.directory}")


def _profile(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """Profile the model on `device`; leaves `profile.json`, which device=file reads."""
    from coach_exp.profiling.device import save_profile

    profile = Builder(config, display.progress).profile("device")
    path = call.directory / "profile.json"
    save_profile(profile, path)
    total_s = sum(profile.layer_s.values())
    display.say(f"{profile.device}: {len(profile.layer_s)} layers, {1e3 * total_s:.2f} ms in all")
    whole_s = profile.provenance.get("whole_s")
    if whole_s is not None:
        display.say(
            f"the whole model in one go: {1e3 * whole_s:.2f} ms; "
            f"the sum of its layers is {total_s / whole_s:.2f} × that"
        )
    display.say(f"use it: device=file device.path={path}")
    return 1e3 * total_s


def _train(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """Train the classifier, or find it trained, and judge it on videos it never saw."""
    builder = Builder(config, display.progress)
    if not builder.trained:
        raise ConfigError(f"job=train with weights = {config.weights}: there is nothing to train")
    answers = builder.answers("stream")
    right = np.array([answers.uncut(i) == answers.true_label(i) for i in range(answers.samples)])
    accuracy = ratio(right)
    assert accuracy.lo is not None
    assert accuracy.hi is not None
    display.say(
        f"accuracy on {len(right)} frames of videos it never saw: {100 * accuracy.value:.2f} % "
        f"[{100 * accuracy.lo:.2f}, {100 * accuracy.hi:.2f}]"
    )
    flips = answers.flips(FLIP_SAMPLES)
    display.say(f"labels that change at batch size 1: {flips} of {FLIP_SAMPLES} frames")
    display.say(f"weights: {builder.weights.checkpoint or builder.weights.source}")
    _write_json(
        call.directory / "summary.json",
        {
            "accuracy": accuracy.value,
            "accuracy_lo": accuracy.lo,
            "accuracy_hi": accuracy.hi,
            "batch_flips": flips,
        },
    )
    return accuracy.value


def _precision(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """Q(v) along the model: the width of each of `precision.cuts` boundaries, searched on the
    calibration split and judged on the stream split, whose videos the search never saw."""
    builder = Builder(config, display.progress)
    graph = builder.graph
    table = builder.bits(graph.input.name)
    if not isinstance(table, SearchedBits) or not isinstance(config.precision, SearchedPrecision):
        raise ConfigError(
            "job=precision searches widths through a trained model; "
            "use precision=search, a torch model, and weights other than none"
        )
    stream = builder.answers("stream")
    truth = np.array([stream.true_label(i) for i in range(stream.samples)])
    uncut = np.array([stream.uncut(i) for i in range(stream.samples)]) == truth
    cuts = [i for i in cut_vertices(graph)[1:-1] if graph.layers[i].kind != "view"]
    count = min(config.precision.cuts, len(cuts))
    rows = []
    for k in np.unique(np.linspace(0, len(cuts) - 1, count).round().astype(int)):
        layer = graph.layers[cuts[k]]
        table.settle([layer.name])
        sent = (Crossing(layer.name, table.bits(layer.name)),)
        labels = np.array([stream.predict(i, sent).label for i in range(stream.samples)])
        judged = drop(uncut, labels == truth).scaled(100)
        rows.append(
            [
                *(layer.name, f"{cuts[k] + 1} of {len(graph)}", str(sent[0].bits)),
                f"{builder.codec.expected_bytes(layer.elements, sent[0].bits) / 1024:.2f}",
                f"{table.loss_points(sent):.2f}",
                f"{judged.value:.2f} [{judged.lo:.2f}, {judged.hi:.2f}]",
            ]
        )
        display.progress("searching widths", len(rows), count)
    heads = ["cut behind", "layers on the end", "bits", "KiB", "loss on calib", "loss on stream"]
    (call.directory / "precision.md").write_text(markdown(heads, rows))
    title = (
        f"fewest bits that lose at most {config.precision.limit_points} points on calib; "
        f"uncut accuracy on stream {100 * uncut.mean():.2f} %"
    )
    display.say(text_table(title, heads, rows))
    display.say(f"files: {call.directory}")
    return float(np.mean([int(row[2]) for row in rows]))


def _study(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """One of the studies that `conf/experiment` names."""
    if config.study is None:
        raise ConfigError("job=study needs a study; choose one with experiment=NAME")
    module = import_module(f"coach_exp.studies.{config.study.kind}")
    value: float = module.study(config.study.model_dump(), call.directory, display)
    display.say(f"files: {call.directory}")
    return value
