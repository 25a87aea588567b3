"""Every method at many settings, and the orderings that must hold between them.

In: named settings × rates × methods, times alone. Out: a table of costs for each setting, one of
orderings with the settings that break them; `orderings.md`, `orderings.json`, `orderings.png`. A
method that cannot run at a setting is left out there, aloud.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig

from coach_exp.jobs.single_run import method_of, planned, write_json
from coach_exp.network.estimator import Oracle
from coach_exp.network.trace import constant
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.plots.figures import COLOURS, new_figure, save_figure
from coach_exp.results import report
from coach_exp.results.metrics import summarise
from coach_exp.results.orderings import (
    HEADS,
    Cost,
    Setting,
    cost_heads,
    cost_rows,
    judged,
    verdict_json,
    verdict_row,
)
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.setup.builder import Builder
from coach_exp.setup.config import Config, Orderings, validated
from coach_exp.setup.invocation import Invocation
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.method import Method, Problem
from coach_exp.types.profile import DeviceProfile

Methods = Mapping[str, DictConfig]


def orderings(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """`job=orderings`; returns the number of orderings that are broken somewhere."""
    wanted = config.orderings
    if wanted is None:
        raise ConfigError("job=orderings needs orderings; use experiment=orderings")
    composed = {
        group: {
            name: _composed(call, [*more, *overrides]) for name, overrides in wanted.methods.items()
        }
        for group, more in wanted.groups.items()
    }
    done: dict[str, list[Setting]] = {}
    for number, (group, methods) in enumerate(composed.items()):
        display.progress("settings", number, len(composed))
        done[group] = list(_settings(group, methods, wanted, display))
        heads, cells = cost_heads(wanted.mbps), cost_rows(done[group])
        title = f"{group}: T_e + T_t + T_c, longest stage, answers per second"
        display.say(text_table(title, heads, cells))
    display.progress("settings", len(composed), len(composed))
    verdicts = judged([setting for each in done.values() for setting in each])
    lines = [verdict_row(verdict) for verdict in verdicts]
    display.say(text_table("orderings", HEADS, lines))
    parts = [markdown(HEADS, lines)]
    parts += [
        f"### {group}\n\n{markdown(cost_heads(wanted.mbps), cost_rows(settings))}"
        for group, settings in done.items()
    ]
    (call.directory / "orderings.md").write_text("\n".join(parts))
    kept = {"orderings": [verdict_json(v) for v in verdicts], "costs": _json(done)}
    write_json(call.directory / "orderings.json", kept)
    _draw(done, call)
    display.say(f"files: {call.directory}")
    return float(sum(bool(verdict.broken) for verdict in verdicts))


def _composed(call: Invocation, overrides: list[str]) -> DictConfig:
    raw = call.with_overrides([*overrides, "job=run", "orderings=null"])
    validated(raw)
    return raw


def _settings(
    group: str, methods: Methods, wanted: Orderings, display: Display
) -> Iterator[Setting]:
    config = validated(next(iter(methods.values())))
    builder = Builder(config, display.progress)
    problem = builder.problem(builder.trace())
    for mbps in wanted.mbps:
        here = replace(problem, link=replace(problem.link, bandwidth_bps=1e6 * mbps))
        costs = {}
        for name, raw in methods.items():
            try:
                costs[name] = _cost(method_of(raw), here)
            except CoachError as error:
                display.say(f"{group}, {mbps:g} Mbps: {name} is left out: {error}")
        yield Setting(group, mbps, config.division != "as_published", costs)


def _cost(method: Method, problem: Problem) -> Cost:
    problem = method.view(replace(problem, bits=problem.bits.fresh()))
    plans, planning_s = planned(method, problem)
    trace = constant(problem.link.bandwidth_bps)
    records = simulate(problem, method.controller(plans), trace, Oracle(trace))
    stages = np.array([(p.stage_s.end_s, p.stage_s.link_s, p.stage_s.cloud_s) for p in plans.plans])
    weights = np.array(plans.weights)
    end_s, link_s, cloud_s = (weights @ stages).tolist()
    no_cloud = DeviceProfile("none", dict.fromkeys(problem.cloud.layer_s, 0.0))
    return Cost(
        *(end_s, link_s, cloud_s),
        latency_s=float(weights @ [plan.latency_s for plan in plans.plans]),
        rate_its=summarise(records)["throughput_its"].value,
        min_total_s=_least(problem, "sum"),
        min_period_s=_least(problem, "bottleneck"),
        min_local_s=_least(replace(problem, cloud=no_cloud), "bottleneck"),
        planning_s=planning_s,
        cut=report.cut(records),
    )


def _least(problem: Problem, objective: ObjectiveName) -> float:
    """The least value of all cuts at this payload."""
    planner = Planner("exhaustive", objective, overlap_limited=False)
    return planner.plan(problem).objective.value


def _json(done: Mapping[str, list[Setting]]) -> dict[str, Any]:
    return {
        group: [
            {"mbps": s.mbps, "methods": {name: asdict(cost) for name, cost in s.costs.items()}}
            for s in settings
        ]
        for group, settings in done.items()
    }


def _draw(done: Mapping[str, list[Setting]], call: Invocation) -> None:
    """Answers per second against the link's rate: a panel for each setting, a line for each
    method."""
    columns = min(4, len(done))
    rows = -(-len(done) // columns)
    figure = new_figure(3.6 * columns + 1.5, 2.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(done) :]:
        panel.set_axis_off()
    for panel, (group, settings) in zip(panels.flat, done.items(), strict=False):
        names = list(dict.fromkeys(name for each in settings for name in each.costs))
        for k, name in enumerate(names):
            known = [(s.mbps, s.costs[name].rate_its) for s in settings if name in s.costs]
            style = ("-", "--", ":")[k // len(COLOURS) % 3]
            colour = COLOURS[k % len(COLOURS)]
            panel.plot(*zip(*known, strict=True), style, color=colour, lw=1.2, label=name)
        panel.set_xscale("log")
        panel.set_title(group, fontsize=9, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("link (Mbps)", fontsize=9)
    figure.supylabel("answers per second", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    save_figure(figure, call.directory / "orderings.png")
