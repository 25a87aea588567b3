"""What every baseline is given alike: divisions, the online part, re-planning.

Three divisions, in MLPerf's sense, make a comparison fair. `as_published`: the payload of the
method's own paper, float32 unless it says otherwise. `same_codec`: the bit-widths that COACH uses,
tensor by tensor; what is left is which cut is chosen and how tasks are scheduled. `same_online`:
COACH's semantic cache and adaptive widths as well; what is left is the planner. The raw input, the
link's estimator, the period of re-planning and the executor are the same for all methods in every
division.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cache
from inspect import isclass
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from coach_exp.online.method import Online, OnlinePart
from coach_exp.online.replan import Replan
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.planning import ObjectiveName, Planner, settled
from coach_exp.quant.precision import FLOAT32, FixedBits
from coach_exp.types.component import misfit, rule_of
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Controller, FixedPlans, Problem
from coach_exp.types.plan import Plan, PlanSet, Release

Division = Literal["as_published", "same_codec", "same_online"]


@dataclass(frozen=True, kw_only=True)
class Baseline(ABC):
    """A method of another paper. It says which plans it makes for one rate (`plans_for`); this
    class gives it its division, prepares plans for other rates and lets the online part decide.
    """

    name: str
    division: Division = "as_published"
    online: OnlinePart = field(default_factory=Online)
    replan: Replan = field(default_factory=Replan)

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The plans for the problem's rate, their widths settled."""

    def view(self, problem: Problem) -> Problem:
        """With the payloads of the division."""
        return float32(problem) if self.division == "as_published" else problem

    def plan(self, problem: Problem) -> PlanSet:
        """The plans for the link's initial rate, and those prepared for others.

        Raises InfeasibleError when no cut is allowed.
        """
        decides = (
            self.division == "same_online"
            and self.online.decides
            and problem.calibration is not None
        )
        release: Release = "after_decision" if decides else "per_tensor"
        plans = self.replan.plans(problem, lambda given: self.plans_for(given, release))
        return self.online.calibrated(problem, plans) if decides else plans

    def controller(self, plans: PlanSet) -> Controller:
        """Follows the rate if it may, dispatches as the method does, and decides at the cut on the
        division `same_online`."""
        inner = self.replan.controller(plans, self.dispatch)
        return self.online.controller(inner) if self.division == "same_online" else inner

    def dispatch(self, plans: PlanSet) -> Controller:
        """The method's own online half for the plans of one rate."""
        return FixedPlans(plans)


def check_fields(method: Any) -> None:
    """Raises ConfigError for a setting that its annotation does not allow, and says what it does:
    a method that is made in Python is held to what its config is held to.
    """
    annotations = get_type_hints(type(method), include_extras=True)
    for name in (each.name for each in fields(method)):
        value, annotation = getattr(method, name), annotations[name]
        if isclass(annotation) and annotation.__module__ != "builtins":  # a component
            words = misfit(value, annotation)
            if words is not None:
                raise ConfigError(f"method.{name} = {value!r}: {words}")
            continue
        try:
            _checker(annotation).validate_python(value, strict=True)
        except ValidationError as error:
            rule = rule_of(dict(error.errors()[0]))
            raise ConfigError(f"method.{name} = {value!r}: {rule}") from None


@cache
def _checker(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def float32(problem: Problem) -> Problem:
    """Crossing tensors go uncompressed; the raw input keeps the encoding that all methods share."""
    raw = problem.graph.input.name
    return replace(problem, bits=FixedBits(FLOAT32, raw, problem.bits.bits(raw)))


def costs(problem: Problem, objective: ObjectiveName, release: Release) -> CostModel:
    """The costs by which a baseline plans. It does not know constraint (4), which is COACH's."""
    planner = Planner(objective=objective, release=release, overlap_limited=False)
    return planner.cost_model(problem)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a baseline chose: end sets by position, the share of the tasks of each, how many cuts
    it looked at, what it has to say, and what bounds its objective from below."""

    end_sets: tuple[frozenset[int], ...]
    weights: tuple[float, ...] = (1.0,)
    evaluations: int = 1
    remarks: tuple[str, ...] = ()
    lower_bound: float | None = None


def chosen(
    problem: Problem,
    objective: ObjectiveName,
    release: Release,
    choose: Callable[[CostModel], Choice],
) -> PlanSet:
    """The plans of what `choose` picks, chosen again until the widths it uses are known."""

    def made() -> PlanSet:
        model = costs(problem, objective, release)
        choice = choose(model)
        return PlanSet(
            _plans(model, choice),
            choice.weights,
            remarks=choice.remarks,
        )

    return settled(problem, made)


def _plans(model: CostModel, choice: Choice) -> tuple[Plan, ...]:
    bounded = (
        replace(model.plan(held), lower_bound=choice.lower_bound) for held in choice.end_sets
    )
    first, *others = bounded
    return (replace(first, evaluations=choice.evaluations), *others)
