"""The model's layers timed on `device`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import keep
from coach_exp.results.findings import Findings
from coach_exp.types.profile import DeviceProfile


@dataclass(frozen=True)
class Profile:
    """Leaves `profile.json`, which device=file reads."""

    def __call__(self, job: Job) -> float | None:
        """Returns the milliseconds of all layers."""
        builder = job.builder()
        return keep(
            job, "profile", lambda work: _findings(builder.profile("device"), job.directory)
        )


def _findings(profile: DeviceProfile, directory: Path) -> Findings:
    total_s = sum(profile.layer_s.values())
    notes = [f"{profile.device}: {len(profile.layer_s)} layers, {1e3 * total_s:.2f} ms in all"]
    metrics = {"profile_ms": 1e3 * total_s}
    whole_s = profile.provenance.get("whole_s")
    if whole_s is not None:
        notes.append(
            f"the whole model in one go: {1e3 * whole_s:.2f} ms; "
            f"the sum of its layers is {total_s / whole_s:.2f} × that"
        )
        metrics["whole_model_ms"] = 1e3 * whole_s
    notes.append(f"use it: device=file device.path={directory / 'profile.json'}")
    return Findings(
        name="profile",
        data=asdict(profile),
        notes=tuple(notes),
        metrics=metrics,
        value=1e3 * total_s,
    )
