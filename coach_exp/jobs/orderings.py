"""Every method at many settings, and the orderings that must hold between them.

In: named settings × rates × methods, times alone. Out: a table of costs for each setting, one of
orderings with the settings that break them; `orderings.md`, `orderings.json`, `orderings.png`. A
method that cannot run at a setting is left out there, aloud.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat

from coach_exp.jobs.composed import composed_run
from coach_exp.jobs.entry import own_view, planned
from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import Work, keep
from coach_exp.jobs.nested import Named
from coach_exp.network.estimator import Oracle
from coach_exp.network.trace import constant
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.plots.orderings import Curve, rates_figure
from coach_exp.results import report
from coach_exp.results.findings import Findings, Table
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
from coach_exp.setup.config import Config
from coach_exp.types.errors import CoachError
from coach_exp.types.method import Method, Problem
from coach_exp.types.profile import DeviceProfile

Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
Settings = Mapping[str, list[Setting]]


@dataclass(frozen=True)
class Orderings:
    """`groups` × `mbps` × `methods`; groups and methods are names with the overrides they mean."""

    groups: Named
    mbps: Rates
    methods: Named

    def __call__(self, job: Job) -> float | None:
        """Returns the number of orderings that are broken somewhere."""
        composed = {
            group: {
                name: composed_run(job.call, [*more, *overrides])
                for name, overrides in self.methods.items()
            }
            for group, more in self.groups.items()
        }
        return keep(job, "orderings", lambda work: self._judged(composed, job, work))

    def _judged(
        self, composed: Mapping[str, Mapping[str, Config]], job: Job, work: Work
    ) -> Findings:
        done: dict[str, list[Setting]] = {}
        costs = []
        for number, (group, methods) in enumerate(composed.items()):
            job.display.progress("settings", number, len(composed))
            done[group] = list(_settings(group, methods, self.mbps, job))
            title = f"{group}: T_e + T_t + T_c, longest stage, answers per second"
            table = Table(title, cost_heads(self.mbps), cost_rows(done[group]))
            costs.append(work.show(table))
        job.display.progress("settings", len(composed), len(composed))
        verdicts = judged([setting for each in done.values() for setting in each])
        broken = float(sum(bool(verdict.broken) for verdict in verdicts))
        return Findings(
            name="orderings",
            tables=(Table("orderings", HEADS, [verdict_row(v) for v in verdicts]), *costs),
            figures={"orderings": rates_figure({g: _curves(each) for g, each in done.items()})},
            data={"orderings": [verdict_json(v) for v in verdicts], "costs": _json(done)},
            metrics={"orderings_broken": broken},
            value=broken,
        )


def _settings(
    group: str, methods: Mapping[str, Config], rates_mbps: Sequence[float], job: Job
) -> Iterator[Setting]:
    """One setting for each rate; graph and profiles are the group's, whatever the method."""
    first = replace(job, config=next(iter(methods.values())))
    builder = first.builder()
    problem = builder.problem(builder.trace())
    equal_payload = first.config.division != "as_published"
    for mbps in rates_mbps:
        here = replace(problem, link=replace(problem.link, bandwidth_bps=1e6 * mbps))
        costs = {}
        for name, config in methods.items():
            try:
                costs[name] = _cost(config.built_method(), here)
            except CoachError as error:
                job.display.say(f"{group}, {mbps:g} Mbps: {name} is left out: {error}")
        yield Setting(group, mbps, equal_payload, costs)


def _cost(method: Method, problem: Problem) -> Cost:
    problem = own_view(method, problem)
    plans, planning_s = planned(method, problem)
    trace = constant(problem.link.bandwidth_bps)
    records = simulate(problem, method.controller(plans), trace, Oracle(trace))
    stages = np.array([(p.stage_s.end_s, p.stage_s.link_s, p.stage_s.cloud_s) for p in plans.plans])
    weights = np.array(plans.weights)
    end_s, link_s, cloud_s = (weights @ stages).tolist()
    no_cloud = DeviceProfile("none", dict.fromkeys(problem.cloud.layer_s, 0.0))
    return Cost(
        end_s=end_s,
        link_s=link_s,
        cloud_s=cloud_s,
        latency_s=float(weights @ [plan.latency_s for plan in plans.plans]),
        rate_its=summarise(records)["throughput_its"].value,
        min_total_s=_min_value(problem, "sum"),
        min_period_s=_min_value(problem, "bottleneck"),
        min_local_s=_min_value(replace(problem, cloud=no_cloud), "bottleneck"),
        planning_s=planning_s,
        cut=report.cut(records),
    )


def _min_value(problem: Problem, objective: ObjectiveName) -> float:
    """The least value of all cuts at this payload."""
    planner = Planner("exhaustive", objective, overlap_limited=False)
    return planner.plan(problem).objective.value


def _curves(settings: Sequence[Setting]) -> dict[str, Curve]:
    """Answers per second of each method at the rates where it could run."""
    names = dict.fromkeys(name for each in settings for name in each.costs)
    return {
        name: [(s.mbps, s.costs[name].rate_its) for s in settings if name in s.costs]
        for name in names
    }


def _json(done: Settings) -> dict[str, Any]:
    return {
        group: [
            {"mbps": s.mbps, "methods": {name: asdict(cost) for name, cost in s.costs.items()}}
            for s in settings
        ]
        for group, settings in done.items()
    }
