"""COACH's command line: compose the config, call the job, return its metric.

`coach`, `python -m coach_exp` and `python run.py` are the same.
"""

import os
import sys
from traceback import extract_tb

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's threads must not spin on busy cores
os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here, where they are put into words

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from coach_exp.setup.invocation import in_hydras_words, invocation, refusal
from coach_exp.types.errors import CoachError
from coach_exp.types.packaged import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _run(config: DictConfig) -> float | None:
    """Run one job. A user's mistake ends with its message; a sweep goes on with its other jobs."""
    from coach_exp.jobs.start import run_job

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


def main() -> None:
    """The command line of this process."""
    if sys.path[0] != os.getcwd():  # a user's own components lie where the command is given
        sys.path.insert(0, os.getcwd())
    try:
        sys.argv[1:] = in_hydras_words(sys.argv[1:])
        _run()
    except (CoachError, HydraException) as error:  # the first also when jobs of a sweep failed
        words = refusal(error) if isinstance(error, HydraException) else str(error)
        print(f"error: {words}", file=sys.stderr)
        sys.exit(2)
    except (OSError, OmegaConfBaseException) as error:
        if _in_job(error):
            raise
        print(f"error: output.root: no folder for the job can be made: {error}", file=sys.stderr)
        sys.exit(2)


def _in_job(error: Exception) -> bool:
    """Whether the job had begun: what is raised before that, Hydra raises over the job's folder."""
    return any(frame.name == _run.__name__ for frame in extract_tb(error.__traceback__))


if __name__ == "__main__":
    main()
