"""What several benchmarks measure."""

import pytest
from helpers.networks import full_size


@pytest.fixture(scope="module", params=["resnet101", "googlenet"])
def captured(request):
    return full_size(request.param)
