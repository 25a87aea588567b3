"""COACH's command line: compose the config, call the job, return its metric."""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads must not spin on busy cores

import hydra
from omegaconf import DictConfig

from coach_exp.types.errors import CoachError


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run one job. A user's mistake ends with its message; a sweep goes on with its other jobs."""
    from coach_exp.jobs.start import run_job
    from coach_exp.setup.invocation import invocation

    call = invocation()
    try:
        return run_job(config, call)
    except CoachError as error:
        print(f"error: {error}", file=sys.stderr)
        if call.sweep is not None:
            raise error.with_traceback(None) from None
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
