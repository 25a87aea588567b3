"""What a run says at its end: the table, what a reader of it must know, where the rest lies.

In: the results of the methods, the main one first. Out: lines on the screen.
"""

from collections.abc import Iterator, Sequence

from coach_exp.jobs.job import Job
from coach_exp.jobs.result import Result
from coach_exp.quant.precision import SearchedBits
from coach_exp.results import agreement, report
from coach_exp.results.explain import main_plan
from coach_exp.results.metrics import ratio
from coach_exp.results.tables import Table, text_table
from coach_exp.setup.config import Config
from coach_exp.setup.world import World

USUAL_REFERENCES = (
    "device_only",
    "cloud_only",
    "ns",
    "jps",
    "coach_offline",
    "coach",
    "coach_bottleneck",
)
MAX_RATES = 4  # of a trace that are named one by one


def say_results(results: Sequence[Result], world: World, job: Job) -> None:
    """Say all of it."""
    display, config = job.display, job.config
    rows = [
        report.Row(r.method, r.summary, report.cut(r.records)) for r in sorted(results, key=_usual)
    ]
    display.say(text_table(report.result_table(rows, title=_headline(world, config))))
    for note in _notes(results, world):
        display.say(note)
    for result in results:
        _say_agreement(result, job)
    display.say(f"files: {job.directory}")
    viewer = config.tracking.viewer(config.output.root)
    if viewer is not None:
        display.say(f"compare runs: {viewer}")


def _say_agreement(result: Result, job: Job) -> None:
    """How far simulator and sockets disagree, for a method that was run on both."""
    found, config = result.agreement, job.config
    if found is None:
        return
    if config.replay_s > 0:
        title = f"{result.method}, first {config.replay_s:g} s over loopback"
    else:
        title = f"{result.method}, over sockets, compute={config.compute}"
    job.display.say(text_table(Table(title, agreement.HEADS, agreement.rows(found))))
    efficiency = result.metrics()["plan_efficiency_percent"]
    job.display.say(
        f"{agreement.sentence(found)}; the bottleneck was held for "
        f"{found['hold_percent'].value:.1f} % of the time; efficiency of the plan, "
        f"ΣT / (3 · max T): {efficiency:.1f} %"
    )


def _usual(result: Result) -> int:
    """The trivial methods first, then COACH, then any other."""
    known = result.method in USUAL_REFERENCES
    return USUAL_REFERENCES.index(result.method) if known else len(USUAL_REFERENCES)


def _headline(world: World, config: Config) -> str:
    """From which device to which over which link, how many tasks."""
    problem = world.problem
    link = problem.link
    mbps = [rate / 1e6 for rate in world.trace.rates_bps]
    rates = " → ".join(f"{rate:g}" for rate in mbps)
    if len(mbps) > MAX_RATES:
        rates = f"{min(mbps):.3g} … {max(mbps):.3g}"
    way = f"{rates} Mbps, RTT {1e3 * link.rtt_s:g} ms"
    if world.true_trace is None:
        way = f"the network as it is, planned for {link.bandwidth_bps / 1e6:g} Mbps"
    return (
        f"{problem.end.device} → {way} → "
        f"{problem.cloud.device}; {problem.workload.tasks} tasks, {config.workload.kind}"
    )


def _notes(results: Sequence[Result], world: World) -> Iterator[str]:
    """What a reader of the table must know."""
    yield _bound(results[0], world)
    yield from report.remarks({r.method: r.plans for r in results})
    if not world.measures_accuracy:
        yield (
            "without trained weights accuracy was not measured and nothing is decided online: "
            "COACH is its offline component"
        )
        return
    records = results[0].records
    uncut = ratio(records.uncut == records.label, records.video)
    assert uncut.lo is not None
    assert uncut.hi is not None
    yield (
        f"accuracy of the uncut float model on these tasks: {100 * uncut.value:.1f} % "
        f"[{100 * uncut.lo:.1f}, {100 * uncut.hi:.1f}]; drops are against it, in points"
    )
    yield from report.online_notes({r.method: main_plan(r.plans) for r in results})


def _bound(result: Result, world: World) -> str:
    """What no plan can beat, and at which bit-widths that holds."""
    widths = "tensors not searched counting as 2 bits wide"
    if not isinstance(world.problem.bits, SearchedBits):
        bits = world.config.precision.bits
        widths = f"every tensor at {bits} bits, which is assumed, not searched"
    min_ms = 1e3 * result.plans.bounds["min_period_s"]
    rate = f" ({1e3 / min_ms:.0f} it/s)" if min_ms > 0 else ""
    return (
        f"bound: at the initial rate no plan or mixture of plans answers more often than every "
        f"{min_ms:.2f} ms{rate}, {widths}"
    )
