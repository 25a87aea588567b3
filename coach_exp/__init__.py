"""COACH: near bubble-free end-cloud collaborative inference of deep neural networks."""

__version__ = "0.1.0"
