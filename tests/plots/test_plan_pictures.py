"""The pictures of a plan are not blank: judged by the colours of their pixels."""

from dataclasses import replace

import pytest
from helpers.graphs import chain, diamond, random_problem
from helpers.pictures import pixels
from helpers.reference import closed_end_sets
from numpy.random import default_rng

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.pareto import pareto_front
from coach_exp.planner.planning import Planner
from coach_exp.plots.figures import BLUE, CLOUD, END, IDLE, LINK
from coach_exp.plots.front import front_picture
from coach_exp.plots.graph import graph_picture
from coach_exp.plots.schedule import schedule_picture
from coach_exp.types.method import FixedPlans
from coach_exp.types.plan import PlanSet
from coach_exp.types.workload import Workload


def inside():
    """A diamond cut inside: in and light on the end, heavy and add on the cloud."""
    problem = diamond((0, 1, 9, 9), (0, 1, 1, 1), (1, 1, 1, 0))
    return problem, Planner().plan_for(problem, ["in", "light"])


def stream(problem, plan, **changes):
    problem = replace(problem, workload=Workload("saturated", tasks=60, in_flight=4), **changes)
    trace = steps([problem.link.bandwidth_bps], 1.0)
    return simulate(problem, FixedPlans(PlanSet((plan,))), trace, Ewma(8000.0))


def test_the_graph_shows_end_cloud_and_what_crosses(tmp_path):
    problem, plan = inside()
    graph_picture(problem.graph, plan).savefig(tmp_path / "cut.png")
    seen = pixels(tmp_path / "cut.png")
    assert min(seen[END], seen[CLOUD], seen[LINK]) > 1000
    only = Planner().plan_for(problem, ["in", "light", "heavy", "add"])
    graph_picture(problem.graph, only).savefig(tmp_path / "only.png")
    seen = pixels(tmp_path / "only.png")
    assert seen[END] > 10 * seen[CLOUD], "the legend's patch alone has the cloud's colour"


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["chain", "one_level", "nested", "any"])
def test_every_closed_end_set_can_be_drawn(tmp_path, shape):
    problem = random_problem(default_rng(3), shape, size=7)
    for number, end_set in enumerate(closed_end_sets(problem)):
        if number in (1, 4):
            plan = Planner(release="after_decision").plan_for(problem, end_set)
            graph_picture(problem.graph, plan).savefig(tmp_path / "graph.png")
            assert len(pixels(tmp_path / "graph.png")) > 10


def test_the_schedule_shows_the_stages(tmp_path):
    problem, plan = inside()
    schedule_picture(problem, plan, stream(problem, plan)).savefig(tmp_path / "schedule.png")
    seen = pixels(tmp_path / "schedule.png")
    assert min(seen[END], seen[CLOUD], seen[LINK]) > 1000


@pytest.mark.slow
def test_the_front_is_drawn(tmp_path):
    front = pareto_front(Planner(), chain((0, 2, 2, 8), (0, 1, 1, 3), (4, 5, 3, 0)))
    front_picture(front).savefig(tmp_path / "pareto.png")
    seen = pixels(tmp_path / "pareto.png")
    assert seen[BLUE] > 300
    assert seen[IDLE] > 10_000
    assert seen[LINK] > 100
