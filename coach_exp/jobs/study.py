"""A look at the framework itself: one of the studies that `conf/experiment` names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import keep
from coach_exp.pipeline.parts import Parts
from coach_exp.results.findings import Findings
from coach_exp.results.progress import Display


def _given(study: Any) -> Any:
    if study is None:
        raise ValueError("no study is named; choose one with experiment=NAME")
    return study


Asks = Annotated[Callable[[Parts, Display], Findings], BeforeValidator(_given)]


@dataclass(frozen=True)
class Study:
    """`study` is a component that asks its question of the config's parts."""

    study: Asks

    def __call__(self, job: Job) -> float | None:
        """Returns the study's own number."""
        return keep(job, "study", lambda work: self.study(job.builder(), job.display))
