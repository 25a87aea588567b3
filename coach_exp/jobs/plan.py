"""The plan of the config's method, explained and drawn; or the front of all plans.

Out: `plan.json`, `plan.md`, `summary.json`, `graph.png`, `schedule.png`; of the front
`pareto.json`, `pareto.md` and `pareto.png`. No stream is run.
"""

from dataclasses import dataclass, replace
from math import ceil

from coach_exp.jobs.entry import planned
from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import keep
from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.alternatives import Alternatives, alternatives
from coach_exp.planner.certificate import certified
from coach_exp.planner.pareto import pareto_front
from coach_exp.planner.planning import Planner, own
from coach_exp.plots.front import front_picture
from coach_exp.plots.graph import graph_picture
from coach_exp.plots.schedule import schedule_picture
from coach_exp.results import report
from coach_exp.results.explain import explain, main_plan
from coach_exp.results.findings import Findings
from coach_exp.results.plan_metrics import plan_metrics
from coach_exp.types.method import FixedPlans, Method, Problem
from coach_exp.types.plan import Plan as CutPlan
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records

DRAWN_TASKS = 60  # long enough to have a middle


@dataclass(frozen=True)
class Plan:
    """With `pareto` no method is asked: the plans that none beats in both latency and period."""

    pareto: bool = False

    def __call__(self, job: Job) -> float | None:
        """Returns the objective in milliseconds; of a front there is no one number."""
        builder, planner = job.builder(), own(job.config.planner)
        problem = builder.problem(builder.trace())
        if self.pareto:
            return keep(job, "plan", lambda work: _front(planner, problem))
        method = job.config.built_method()
        return keep(
            job,
            "plan",
            lambda work: _explained(
                method, planner, replace(problem, calibration=builder.calibration())
            ),
        )


def _explained(method: Method, planner: Planner, problem: Problem) -> Findings:
    problem = method.view(problem)
    plans, planning_s = planned(method, problem)
    plans = certified(planner, problem, plans)
    main = main_plan(plans)
    others = alternatives(planner, problem, main)
    metrics = plan_metrics(plans, planning_s)
    if others.runner_up is not None:
        metrics["plan_runner_up_objective_ms"] = 1e3 * others.runner_up.objective.value
    records = _steady_state(problem, plans)
    return Findings(
        name="plan",
        tables=(
            report.plan_table(method.name, plans),
            report.comparison_table(_beside(method.name, main, others)),
        ),
        figures={
            "graph": graph_picture(problem.graph, main, title=method.name),
            "schedule": schedule_picture(problem, main, records, title=method.name),
        },
        data=plans.as_json(),
        notes=(
            *explain(method.name, plans, others, problem.workload, planning_s),
            *report.remarks({method.name: plans}),
        ),
        metrics=metrics,
        value=metrics["plan_objective_ms"],
    )


def _beside(method: str, plan: CutPlan, others: Alternatives) -> dict[str, CutPlan | None]:
    """The plans to compare, by what they are called."""
    second = {"runner-up": others.runner_up} if others.runner_up is not None else {}
    ends = {"device-only": others.device_only, "cloud-only": others.cloud_only}
    return {method: plan, **second, **ends}


def _steady_state(problem: Problem, plans: PlanSet) -> Records:
    """A stream at the link's initial rate; no more tasks in flight than fill the pipeline, for what
    waits in queues is not seen in a picture."""
    main = main_plan(plans)
    filling = ceil(main.latency_s / (main.stage_s.period_s or 1.0)) + 1
    workload = replace(
        problem.workload,
        tasks=DRAWN_TASKS,
        drop=False,
        in_flight=min(problem.workload.in_flight, filling),
    )
    rate_bps = problem.link.bandwidth_bps
    here = replace(problem, workload=workload, outcomes=None)
    return simulate(here, FixedPlans(plans), steps([rate_bps], 1.0), Ewma(rate_bps))


def _front(planner: Planner, problem: Problem) -> Findings:
    front = pareto_front(replace(planner, objective="bottleneck"), problem)
    link_mbps = problem.link.bandwidth_bps / 1e6
    title = f"{problem.end.device} → {link_mbps:g} Mbps → {problem.cloud.device}"
    min_period_ms = 1e3 * front.min_period_s
    return Findings(
        name="pareto",
        tables=(report.front_table(front.plans),),
        figures={"pareto": front_picture(front, title=title)},
        data=front.as_json(),
        notes=(
            f"{len(front.plans)} plans; {front.source}",
            f"no plan, and no mixture, has a period below {min_period_ms:.3f} ms",
        ),
        metrics={"front_plans": len(front.plans), "bound_min_period_ms": min_period_ms},
    )
