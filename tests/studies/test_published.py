"""The constants of the analytic profiles against published latencies."""

import dataclasses
from math import exp

import pytest
from helpers.paths import ROOT

from coach_exp.profiling.device import DeviceSpec
from coach_exp.profiling.devices import analytic_spec
from coach_exp.studies import published


@pytest.mark.slow
@pytest.mark.parametrize("name", published.SPECS)
def test_predictions_are_close_to_published_latencies(name: str) -> None:
    ratios = published.log_ratios(name, analytic_spec(name))
    assert 0.97 < exp(sum(ratios) / len(ratios)) < 1.03
    assert all(0.7 < exp(ratio) < 1.3 for ratio in ratios)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in published.SPECS if not name.startswith("a6000")])
def test_fitted_constants_are_where_the_fit_is_best(name: str) -> None:
    """Neither a fifth more nor a fifth less of any fitted constant brings the rows closer."""
    spec = analytic_spec(name)

    def error(changed: DeviceSpec) -> float:
        return sum(ratio**2 for ratio in published.log_ratios(name, changed))

    for factor in (0.8, 1.2):
        for kind in ("conv", "depthwise"):
            efficiency = {**spec.efficiency, kind: spec.efficiency[kind] * factor}
            changed = dataclasses.replace(spec, efficiency=efficiency)
            assert error(changed) >= 0.98 * error(spec), (kind, factor)
        changed = dataclasses.replace(spec, launch_s=spec.launch_s * factor)
        assert error(changed) >= 0.98 * error(spec), ("launch", factor)


@pytest.mark.slow
def test_the_documented_tables_are_the_present_ones() -> None:
    assert published.tables() in (ROOT / "docs/results/tables/devices.md").read_text(
        encoding="utf-8"
    )
