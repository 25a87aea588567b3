"""Our shaper against the kernel's: the same messages, and when each had come."""

import asyncio
import functools
import time

import pytest
from helpers.kernel_link import shaped, why_not

from coach_exp.network.precise import new_loop
from coach_exp.network.self_check import arrivals
from coach_exp.network.trace import Trace, constant, steps

pytestmark = pytest.mark.socket


@functools.cache
def reason():
    return why_not()


@pytest.fixture(autouse=True)
def _where_the_kernel_shapes():
    if reason() is not None:
        pytest.skip(f"the kernel cannot be asked here: {reason()}")


def ours(trace: Trace, payload_bytes: int, messages: int) -> list[float]:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(arrivals(trace, payload_bytes, messages))


def kernels(trace: Trace, payload_bytes: int, messages: int) -> list[float]:
    """Arrivals through the kernel's link, whose rate is changed when the trace's does."""
    with shaped(trace.rates_bps[0]) as link, link.transfer(payload_bytes, messages) as transfer:
        for starts_s, rate_bps in zip(trace.starts_s[1:], trace.rates_bps[1:], strict=True):
            time.sleep(max(0.0, transfer.start_s + starts_s - time.monotonic()))
            link.shape(rate_bps)
        return transfer.arrivals()


def apart(trace: Trace, payload_bytes: int, messages: int) -> float:
    """The median difference of a message's arrivals, as a part of the whole transfer's time."""
    pairs = zip(
        kernels(trace, payload_bytes, messages),
        ours(trace, payload_bytes, messages),
        strict=True,
    )
    gaps = [(kernel_s - our_s, kernel_s) for kernel_s, our_s in pairs]
    middle = sorted(gap for gap, _ in gaps)[len(gaps) // 2]
    print(
        f"{trace.rates_bps} {payload_bytes} B: median {middle * 1e3:.2f} ms, last "
        f"{gaps[-1][0] * 1e3:.2f} ms of {gaps[-1][1] * 1e3:.1f} ms"
    )
    return max(abs(middle), abs(gaps[-1][0])) / gaps[-1][1]


@pytest.mark.timing
@pytest.mark.parametrize(
    ("mbps", "payload_bytes", "messages"),
    [(2, 20_000, 12), (10, 100_000, 12), (50, 100_000, 60), (50, 1_000_000, 6)],
)
def test_messages_come_when_the_kernel_lets_them(mbps, payload_bytes, messages):
    # A few attempts, since two processes wake up late on a busy machine; a shaper that is wrong is
    # wrong in all of them.
    assert any(apart(constant(mbps * 1e6), payload_bytes, messages) < 0.03 for _ in range(3))


@pytest.mark.timing
def test_a_step_of_the_rate_is_the_kernels():
    assert any(apart(steps([20e6, 5e6], step_s=0.4), 100_000, 15) < 0.03 for _ in range(3))


def test_the_namespaces_are_taken_down():
    with pytest.raises(RuntimeError), shaped(1e6):
        raise RuntimeError
    with shaped(1e6):  # the names are free again
        pass
