"""What a study may ask of the config: the graph, the link, the model's answers, each built when it
is first asked for. `setup.builder.Builder` is one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from coach_exp.network.trace import Trace
from coach_exp.pipeline.cloud.work import CloudWork
from coach_exp.pipeline.executor import MakeEnd
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import Outcomes


@dataclass(frozen=True)
class Sides:
    """What works on either side of a socket; `cloud` can be pickled, and is called where the cloud
    runs."""

    fingerprint: str
    end: MakeEnd
    cloud: Callable[[], CloudWork]


class Parts(Protocol):
    """The parts that a config names, each made when it is first asked for."""

    @property
    def trained(self) -> bool:
        """Whether the model has weights that mean something."""

    @property
    def subject(self) -> str:
        """Model and data in a few words, for captions."""

    @property
    def graph(self) -> LayerGraph:
        """The layer graph at the resolution that is timed."""

    def trace(self) -> Trace:
        """Returns the link's true rate over time."""

    def problem(self, trace: Trace) -> Problem:
        """Returns the offline problem, without the model's answers."""

    def answers(self, split: Literal["centres", "calib", "stream"]) -> Outcomes:
        """Returns the model's answers on a split, at the data's resolution."""

    def reference(self) -> Outcomes:
        """Returns the answers on the stream split computed one sample at a time, as tasks are: in a
        batch the last digits of scores differ, and so does the label where two scores are nearly
        equal.
        """

    def sides(self, problem: Problem) -> Sides:
        """Returns what works on both sides of a socket, as the config's `compute` says."""
