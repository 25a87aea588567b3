"""COACH: near bubble-free end-cloud collaborative inference of deep neural networks.

    import coach_exp as coach

    problem = coach.problem(model, (3, 224, 224), end="nx", cloud="a6000", mbps=20)
    plans = coach.Coach().plan(problem)
    records = coach.simulate(problem, plans)
    print(records.summary()); records.gantt("gantt.png")

Names are imported when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coach_exp.types.version import __version__ as __version__

_WHERE = {
    "setup.interface": ("Simulated", "problem", "profile", "simulate"),
    "coach": ("Coach",),
    "network.estimator": ("Estimator", "Ewma", "HarmonicMean", "Oracle"),
    "network.trace": ("Trace", "constant", "random_walk", "steps"),
    "network.trace_files": ("load_trace",),
    "online.method": ("Online",),
    "online.replan": ("Replan",),
    "planner.planning": ("Planner",),
    "profiling.capture": ("CapturedModel", "capture"),
    "profiling.device": ("load_profile", "save_profile"),
    "quant.affine": ("UniformAffine",),
    "quant.precision": ("FixedBits",),
    "results.metrics": ("Estimate", "Summary"),
    "types.errors": ("CoachError",),
    "types.graph": ("Layer", "LayerGraph"),
    "types.method": (
        "Controller",
        "Decision",
        "FixedPlans",
        "Link",
        "Method",
        "Observation",
        "Problem",
        "Transfer",
    ),
    "types.outcomes": ("Codec", "Outcomes"),
    "types.plan": ("Plan", "PlanSet", "StageTimes"),
    "types.profile": ("DeviceProfile",),
    "types.task": ("Records", "TaskRecord"),
    "types.workload": ("Workload",),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

if TYPE_CHECKING:
    from coach_exp.coach import Coach as Coach
    from coach_exp.network.estimator import Estimator as Estimator
    from coach_exp.network.estimator import Ewma as Ewma
    from coach_exp.network.estimator import HarmonicMean as HarmonicMean
    from coach_exp.network.estimator import Oracle as Oracle
    from coach_exp.network.trace import Trace as Trace
    from coach_exp.network.trace import constant as constant
    from coach_exp.network.trace import random_walk as random_walk
    from coach_exp.network.trace import steps as steps
    from coach_exp.network.trace_files import load_trace as load_trace
    from coach_exp.online.method import Online as Online
    from coach_exp.online.replan import Replan as Replan
    from coach_exp.planner.planning import Planner as Planner
    from coach_exp.profiling.capture import CapturedModel as CapturedModel
    from coach_exp.profiling.capture import capture as capture
    from coach_exp.profiling.device import load_profile as load_profile
    from coach_exp.profiling.device import save_profile as save_profile
    from coach_exp.quant.affine import UniformAffine as UniformAffine
    from coach_exp.quant.precision import FixedBits as FixedBits
    from coach_exp.results.metrics import Estimate as Estimate
    from coach_exp.results.metrics import Summary as Summary
    from coach_exp.setup.interface import Simulated as Simulated
    from coach_exp.setup.interface import problem as problem
    from coach_exp.setup.interface import profile as profile
    from coach_exp.setup.interface import simulate as simulate
    from coach_exp.types.errors import CoachError as CoachError
    from coach_exp.types.graph import Layer as Layer
    from coach_exp.types.graph import LayerGraph as LayerGraph
    from coach_exp.types.method import Controller as Controller
    from coach_exp.types.method import Decision as Decision
    from coach_exp.types.method import FixedPlans as FixedPlans
    from coach_exp.types.method import Link as Link
    from coach_exp.types.method import Method as Method
    from coach_exp.types.method import Observation as Observation
    from coach_exp.types.method import Problem as Problem
    from coach_exp.types.method import Transfer as Transfer
    from coach_exp.types.outcomes import Codec as Codec
    from coach_exp.types.outcomes import Outcomes as Outcomes
    from coach_exp.types.plan import Plan as Plan
    from coach_exp.types.plan import PlanSet as PlanSet
    from coach_exp.types.plan import StageTimes as StageTimes
    from coach_exp.types.profile import DeviceProfile as DeviceProfile
    from coach_exp.types.task import Records as Records
    from coach_exp.types.task import TaskRecord as TaskRecord
    from coach_exp.types.workload import Workload as Workload

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
