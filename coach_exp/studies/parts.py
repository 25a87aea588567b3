"""What a study may ask of the config: the graph, the link, the model's answers, each built when it
is first asked for. `assembly.Builder` is one.
"""

from typing import Literal, Protocol

from coach_exp.network.trace import Trace
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import Outcomes


class Parts(Protocol):
    """The parts that a config names."""

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
        """The link's true rate over time."""

    def problem(self, trace: Trace) -> Problem:
        """The offline problem, without the model's answers."""

    def answers(self, split: Literal["centres", "calib", "stream"]) -> Outcomes:
        """The model's answers on a split, at the data's resolution."""
