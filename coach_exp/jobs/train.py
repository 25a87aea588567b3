"""The classifier: trained, or found trained, and judged on videos it never saw."""

from dataclasses import dataclass

import numpy as np

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import keep
from coach_exp.results.findings import Findings
from coach_exp.results.metrics import ratio
from coach_exp.setup.builder import Builder
from coach_exp.types.errors import ConfigError

FLIP_SAMPLES = 300  # frames that are asked one by one, to see whether batches change answers


@dataclass(frozen=True)
class Train:
    """Leaves the weights in the cache, and `summary.json`."""

    def __call__(self, job: Job) -> float | None:
        """Returns the accuracy."""
        builder = job.builder()
        if not builder.trained:
            weights = job.config.weights
            raise ConfigError(f"job=train with weights = {weights}: there is nothing to train")
        return keep(job, "train", lambda work: _judged(builder))


def _judged(builder: Builder) -> Findings:
    answers = builder.answers("stream")
    right = np.array([answers.uncut(i) == answers.true_label(i) for i in range(answers.samples)])
    accuracy = ratio(right)
    assert accuracy.lo is not None
    assert accuracy.hi is not None
    flips = answers.flips(FLIP_SAMPLES)
    return Findings(
        name="train",
        notes=(
            f"accuracy on {len(right)} frames of videos it never saw: {100 * accuracy.value:.2f} % "
            f"[{100 * accuracy.lo:.2f}, {100 * accuracy.hi:.2f}]",
            f"labels that change at batch size 1: {flips} of {FLIP_SAMPLES} frames",
            f"weights: {builder.learned.weights.checkpoint or builder.learned.weights.source}",
        ),
        metrics={
            "accuracy": accuracy.value,
            "accuracy_lo": accuracy.lo,
            "accuracy_hi": accuracy.hi,
            "batch_flips": flips,
        },
        value=accuracy.value,
    )
