"""Errors a user can cause and can mend. Each message names the thing, the rule and the way out.

The command line prints them without a traceback; anything else that escapes is our own mistake and
keeps its traceback.
"""


class CoachError(Exception):
    """A mistake in what the user gave: a config, a graph, data or a peer."""


class ConfigError(CoachError):
    """A config value that cannot be used."""


class GraphError(CoachError):
    """A layer graph that is not one rooted, acyclic flow from the input to one sink."""


class CutError(CoachError):
    """A cut that cannot be executed: its end set is not closed under predecessors."""


class CaptureError(CoachError):
    """A model from which no layer graph can be captured."""


class ProfileError(CoachError):
    """A device profile that does not fit the graph or its file."""


class InfeasibleError(CoachError):
    """No cut satisfies the constraints."""


class CodecError(CoachError):
    """A tensor that cannot be quantised, or a payload that cannot be decoded."""


class LinkError(CoachError):
    """A bandwidth trace that cannot be read, or cannot carry the traffic."""


class DataError(CoachError):
    """A data set that is absent, or not laid out as it must be."""


class WireError(CoachError):
    """A peer that breaks the wire protocol, or one that this side cannot speak with; the connection
    is to be closed."""
