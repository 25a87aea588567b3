"""The jobs of the command line: plain functions from a config to the job's metric.

`run` plans, simulates and reports; `plan` plans and explains; `precision` searches bit-widths;
`profile` times a device; `train` fits the classifier; `serve` is the cloud; `table` fills a table
of the paper cell by cell; `dynamic` changes the link under the methods; `orderings` runs them at
many settings and judges what must hold between them; `study` looks at the framework itself. Each
writes its files into the job's directory; runs are also kept in MLflow, where asked.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from math import ceil
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from coach_exp.jobs.dynamic import dynamic
from coach_exp.jobs.orderings import orderings
from coach_exp.jobs.single_run import (
    Result,
    keep,
    measured,
    method_of,
    plain,
    plan_metrics,
    planned,
    replayed,
    write_json,
)
from coach_exp.jobs.table import fill_table
from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.alternatives import Alternatives, alternatives
from coach_exp.planner.certificate import certified
from coach_exp.planner.cost_model import boundaries
from coach_exp.planner.pareto import pareto_front
from coach_exp.plots.front import front_picture
from coach_exp.plots.gantt import gantt
from coach_exp.plots.graph import graph_picture
from coach_exp.plots.schedule import schedule_picture
from coach_exp.plots.throughput import throughput_plot
from coach_exp.quant.precision import SearchedBits
from coach_exp.quant.sizes import mean_bytes
from coach_exp.results import agreement, report
from coach_exp.results.explain import explain, main_plan
from coach_exp.results.metrics import drop, ratio
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.setup.builder import Builder, World
from coach_exp.setup.config import Config, SearchedPrecision, validated
from coach_exp.setup.invocation import Invocation
from coach_exp.tracking import tracker as tracking
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.method import FixedPlans, Method, Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.task import Records

FLIP_SAMPLES = 300  # frames that job=train asks one by one, to see whether batches change answers
PLAIN_WIDTH = 130  # columns of a table that goes to a file
USUAL_REFERENCES = (
    *("device_only", "cloud_only", "ns", "jps"),
    *("coach_offline", "coach", "coach_bottleneck"),
)


def run_job(raw: DictConfig, call: Invocation) -> float | None:
    """Validate the config and do its job; the return value is what a sweep may optimise."""
    config = validated(raw)
    job = {
        "run": _run,
        "plan": _plan,
        "precision": _precision,
        "profile": _profile,
        "train": _train,
        "serve": _serve,
        "table": fill_table,
        "dynamic": dynamic,
        "orderings": orderings,
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
        method, references = method_of(raw), _references(config, call)
        world = Builder(config, display.progress).world()
        params = plain(raw)
        digest = tracking.config_hash(params, **world.identity)
        done = tracker.finished_run(digest) if call.sweep else None
        if done is not None:
            display.say(f"{call.name}: finished before as run {done.id}, not run again")
            return done.metrics.get("throughput_its")
        tags = {"coach.method": method.name, "coach.job": "run"}
        with tracker.run(
            call.name, config_hash=digest, params=params, tags=tags, parent=parent
        ) as run:
            result = measured(method, raw, world, display)
            if call.sweep is None and _is_replayed(config):
                result = _beside_sockets(result, method, world, display)
            keep(result, world, call.directory, run)
            beside = _run_references(references, world, call.directory, tracker, run, display)
            results = [result, *beside]
            run.log_files(_pictures(results, world, call.directory))
    _show(results, world, call, config, display)
    return result.summary["throughput_its"].value


def _is_replayed(config: Config) -> bool:
    return config.transport.kind == "simulated" and config.transport.replay_s > 0


def _beside_sockets(result: Result, method: Method, world: World, display: Display) -> Result:
    """With the disagreement of simulator and sockets; without, aloud, where there are none."""
    try:
        return replace(result, agreement=replayed(result, method, world, display))
    except CoachError as error:
        display.say(f"not repeated over loopback: {error}")
        return result


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
            result = measured(method_of(raw), raw, world, display)
        except CoachError as error:
            display.say(f"{name} is left out: {error}")
            continue
        tags = {"coach.method": name, "coach.job": "run"}
        with tracker.run(name, params=plain(raw), tags=tags, parent=run.id) as nested:
            keep(result, world, directory / "references" / name, nested)
        yield result


def _references(config: Config, call: Invocation) -> dict[str, DictConfig]:
    """The configs of the methods to be shown beside the main one."""
    usual = () if call.sweep or config.transport.kind != "simulated" else USUAL_REFERENCES
    names = usual if config.references is None else config.references
    others = [name for name in dict.fromkeys(names) if name != config.method.name]
    composed = {name: call.with_method(name) for name in others}
    for each in composed.values():
        validated(each)
    return composed


# --- Files and the screen -------------------------------------------------------------------------


def _pictures(results: list[Result], world: World, directory: Path) -> list[Path]:
    """The main method's first tasks, and every method's throughput over time."""
    files = [directory / "gantt.png", directory / "throughput.png"]
    gantt(results[0].records, files[0], title=results[0].method)
    throughput_plot({r.method: r.records for r in results}, world.true_trace, files[1])
    return files


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
    _show_agreement(results, config, display)
    display.say(f"files: {call.directory}")
    if config.tracking.kind == "mlflow":
        store = config.tracking.uri or f"sqlite:///{config.output.root / 'mlflow.db'}"
        display.say(f"compare runs: mlflow ui --backend-store-uri {store}")


def _show_agreement(results: list[Result], config: Config, display: Display) -> None:
    """How far simulator and sockets disagree, for every method that was run on both."""
    for result in results:
        found = result.agreement
        if found is None:
            continue
        seconds = config.transport.replay_s
        what = f"first {seconds:g} s over loopback" if _is_replayed(config) else "over sockets"
        title = f"{result.method}, {what}, compute={config.compute}"
        if _is_replayed(config):
            title = f"{result.method}, {what}"
        display.say(text_table(title, agreement.HEADS, agreement.cells(found)))
        efficiency = result.metrics()["plan_efficiency_percent"]
        display.say(
            f"{agreement.sentence(found)}; the bottleneck was held for "
            f"{found['hold_percent'].value:.1f} % of the time; efficiency of the plan, "
            f"ΣT / (3 · max T): {efficiency:.1f} %"
        )


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
    way = f"{rates} Mbps, RTT {1e3 * link.rtt_s:g} ms"
    if world.true_trace is None:
        way = f"the network as it is, planned for {link.bandwidth_bps / 1e6:g} Mbps"
    return (
        f"{problem.end.device} → {way} → "
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
    min_ms = 1e3 * results[0].plans.bounds["min_period_s"]
    rate = f" ({1e3 / min_ms:.0f} it/s)" if min_ms > 0 else ""
    bound = (
        f"bound: at the initial rate no plan or mixture of plans answers more often than every "
        f"{min_ms:.2f} ms{rate}, {widths}"
    )
    remarks = report.remarks({r.method: r.plans for r in results})
    if not world.measures_accuracy:
        return [
            bound,
            *remarks,
            "without trained weights accuracy was not measured and nothing is decided online: "
            "COACH is its offline component",
        ]
    records = results[0].records
    uncut = ratio(records.uncut == records.label, records.video)
    assert uncut.lo is not None
    assert uncut.hi is not None
    return [
        bound,
        *remarks,
        f"accuracy of the uncut float model on these tasks: {100 * uncut.value:.1f} % "
        f"[{100 * uncut.lo:.1f}, {100 * uncut.hi:.1f}]; drops are against it, in points",
        *report.online_notes({r.method: main_plan(r.plans) for r in results}),
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
    method = method_of(raw)
    problem = method.view(replace(problem, calibration=builder.calibration()))
    plans, planning_s = planned(method, problem)
    planner = instantiate(raw.planner, _convert_="all")
    plans = certified(planner, problem, plans)
    main = main_plan(plans)
    others = alternatives(planner, problem, main)
    metrics = plan_metrics(plans, planning_s)
    if others.runner_up is not None:
        metrics["plan_runner_up_objective_ms"] = 1e3 * others.runner_up.objective.value
    write_json(call.directory / "plan.json", plans.as_json())
    write_json(call.directory / "summary.json", metrics)
    graph_picture(problem.graph, main, call.directory / "graph.png", title=method.name)
    records = _steady_state(problem, plans)
    schedule_picture(problem, main, records, call.directory / "schedule.png", title=method.name)
    display.say(report.plan_table(method.name, plans))
    display.say(report.comparison_table(_beside(method.name, main, others)))
    for sentence in explain(method.name, plans, others, problem.workload, planning_s):
        display.say(sentence)
    for remark in report.remarks({method.name: plans}):
        display.say(remark)
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
    write_json(call.directory / "pareto.json", front.as_json())
    link_mbps = problem.link.bandwidth_bps / 1e6
    title = f"{problem.end.device} → {link_mbps:g} Mbps → {problem.cloud.device}"
    front_picture(front, call.directory / "pareto.png", title=title)
    display.say(report.front_table(front.plans))
    display.say(f"{len(front.plans)} plans; {front.source}")
    display.say(f"no plan, and no mixture, has a period below {1e3 * front.min_period_s:.3f} ms")
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
    write_json(
        call.directory / "summary.json",
        {
            "accuracy": accuracy.value,
            "accuracy_lo": accuracy.lo,
            "accuracy_hi": accuracy.hi,
            "batch_flips": flips,
        },
    )
    return accuracy.value


def _serve(raw: DictConfig, config: Config, call: Invocation, display: Display) -> None:
    """Be the cloud until Ctrl-C. Ends need the same model, weights, codec and, where it has exit
    heads, method."""
    builder = Builder(config, display.progress)
    builder.sockets().refuse_useless()
    if config.compute == "profile":
        builder.sockets().serve(builder.problem(builder.trace()))
        return
    world = builder.world()
    world.sockets.serve(method_of(raw).view(world.problem))


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
    places, rows = boundaries(graph, config.precision.cuts), []
    for place in places:
        layer = graph.layers[place]
        table.settle([layer.name])
        sent = (Crossing(layer.name, table.bits(layer.name)),)
        size = mean_bytes(stream, sent, graph, builder.codec)[layer.name]
        labels = np.array([stream.predict(i, sent).label for i in range(stream.samples)])
        judged = drop(uncut, labels == truth).scaled(100)
        rows.append(
            [
                *(layer.name, f"{place + 1} of {len(graph)}", str(sent[0].bits)),
                f"{size / 1024:.2f}",
                f"{table.loss_points(sent):.2f}",
                f"{judged.value:.2f} [{judged.lo:.2f}, {judged.hi:.2f}]",
            ]
        )
        display.progress("searching widths", len(rows), len(places))
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
    value: float = module.study(
        config.study.model_dump(), call.directory, display, Builder(config, display.progress)
    )
    display.say(f"files: {call.directory}")
    return value
