"""The emulated link: schedules by hand, and the same on a clock, a list in the peer's place."""

import asyncio
from functools import partial
from math import inf
from time import monotonic

import pytest
from helpers.attempts import attempted
from helpers.reference import sent_by
from hypothesis import given, settings
from hypothesis import strategies as st

from coach_exp.network.precise import new_loop, sleep_until
from coach_exp.network.shaped_link import Hold, PlainLink, ShapedLink, VirtualLink
from coach_exp.network.trace import Trace, constant, steps
from coach_exp.types.errors import LinkError

MBIT = 125_000  # bytes
LATE_S = 0.05  # what a busy machine may wake up late


def run(main):
    """A coroutine on the loop that runs it."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


# The schedule


def test_messages_queue_by_hand():
    link = VirtualLink(constant(1e6))
    assert link.hold(0.5, MBIT) == Hold(0.5, 1.5)
    assert link.hold(0.5, 2 * MBIT) == Hold(1.5, 3.5)  # was ready; waited for the link
    assert link.hold(4.0, MBIT) == Hold(4.0, 5.0)  # the link waited for it
    assert link.hold(4.5, 0) == Hold(5.0, 5.0)
    assert link.free_s == 5.0


def test_outages_steps_and_laps_by_hand():
    link = VirtualLink(Trace((0, 1, 2), (2e6, 1e6, 0), period_s=4))
    assert link.hold(0.0, 3 * MBIT) == Hold(0.0, 2.0)  # 2 + 1 Mbit
    assert link.hold(1.0, MBIT) == Hold(2.0, 4.5)  # an outage until 4, then 2 Mbps
    assert link.hold(4.5, 4 * MBIT) == Hold(4.5, 9.0)  # 1 + 1 Mbit, an outage, 2 Mbit in lap three


def test_a_message_is_abandoned_at_its_latest_and_the_link_is_free_then():
    link = VirtualLink(constant(1e6))
    assert link.hold(0.0, MBIT, latest_s=1.0) == Hold(0.0, 1.0)  # just in time
    assert link.hold(0.5, MBIT, latest_s=1.75) == Hold(1.0, None)
    assert link.free_s == 1.75
    assert link.hold(1.0, MBIT) == Hold(1.75, 2.75)


def test_a_message_that_could_begin_only_at_its_latest_never_has_the_link():
    link = VirtualLink(constant(1e6))
    link.hold(0.0, 2 * MBIT)
    assert link.hold(0.0, MBIT, latest_s=2.0) == Hold(2.0, None)
    assert link.hold(0.0, MBIT, latest_s=1.0) == Hold(2.0, None)
    assert link.hold(5.0, MBIT, latest_s=4.0) == Hold(5.0, None)
    assert link.free_s == 2.0
    assert link.hold(0.0, MBIT) == Hold(2.0, 3.0)


def test_one_that_never_had_the_link_leaves_the_trace_where_it_was():
    link = VirtualLink(steps([1e6, 2e6], step_s=1))
    assert link.hold(2.0, MBIT, latest_s=2.0) == Hold(2.0, None)
    assert link.hold(0.0, MBIT) == Hold(0.0, 1.0)


def test_a_message_abandoned_in_an_outage_leaves_the_trace_where_it_was():
    link = VirtualLink(Trace((0, 1, 3), (1e6, 0, 2e6)))
    assert link.hold(0.5, MBIT, latest_s=2.0) == Hold(0.5, None)
    assert link.hold(0.5, MBIT) == Hold(2.0, 3.5)  # the outage's second half, then 2 Mbps


def test_an_outage_that_never_ends_is_refused_to_a_message_without_latest():
    link = VirtualLink(Trace((0, 1), (1e6, 0)))
    assert link.hold(0.0, 2 * MBIT, latest_s=5.0) == Hold(0.0, None)
    with pytest.raises(LinkError, match="1 bytes never leave"):
        link.hold(0.0, 1)


def test_a_message_is_taken_off_the_link():
    link = VirtualLink(steps([1e6, 2e6, 4e6], step_s=1))
    link.hold(0.0, 5 * MBIT)  # until 2.5, beyond two edges
    link.release(0.5)
    assert link.free_s == 0.5
    assert link.hold(0.25, MBIT) == Hold(0.5, 1.25)  # as if the trace had not been read on
    link.release(7.0)  # it had left
    assert link.free_s == 1.25
    link.hold(2.0, MBIT)
    link.release(1.5)  # it had not begun
    assert link.free_s == 1.25


instants = st.floats(0, 8)
may_give_up = instants | st.just(inf)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(instants, st.integers(0, 4 * MBIT), may_give_up, instants | st.none()),
        max_size=8,
    )
)
def test_the_schedule_is_that_of_bits_counted_from_the_beginning(messages):
    trace = Trace((0, 0.75, 1, 2), (2e6, 1e6, 0, 3e6), period_s=3)
    link, free_s = VirtualLink(trace), 0.0
    for ready_s, size, latest_s, cut_s in messages:
        hold = link.hold(ready_s, size, latest_s)
        assert hold.begin_s == max(ready_s, free_s)
        end_s = sent_by(trace.starts_s, trace.rates_bps, trace.period_s, hold.begin_s, size)
        if hold.end_s is None:
            assert end_s > latest_s - 1e-9
            assert link.free_s == (latest_s if hold.begin_s < latest_s else free_s)
        else:
            assert hold.end_s == link.free_s == pytest.approx(end_s)
            assert hold.end_s <= latest_s
        if cut_s is not None and free_s <= cut_s < link.free_s:
            link.release(cut_s)
            assert link.free_s == (cut_s if cut_s > hold.begin_s else free_s)
        free_s = link.free_s


# On the clock


class Far:
    """Takes the peer's place: frames, and when each was written."""

    def __init__(self):
        self.start_s = monotonic() + 0.02
        self.frames = []
        self.times_s = []

    def write(self, frame):
        self.frames.append(frame)
        self.times_s.append(monotonic() - self.start_s)

    def came_at(self, *expected_s):
        """Nothing is early, and late by a wake-up alone."""
        assert len(self.times_s) == len(expected_s)
        for came_s, due_s in zip(self.times_s, expected_s, strict=True):
            assert due_s <= came_s < due_s + LATE_S


@attempted
def test_the_loop_wakes_up_on_time_and_never_early():
    async def lateness():
        late_s = []
        for k in range(50):
            due_s = monotonic() + 0.0013 + 1e-5 * k
            await sleep_until(due_s)
            late_s.append(monotonic() - due_s)
        return sorted(late_s)

    # The median: a busy machine takes the processor away now and then. epoll rounds 1.3 ms up to 2.
    late_s = run(lateness())
    assert late_s[0] >= 0
    assert late_s[25] < 0.0005


def test_others_run_where_nothing_is_to_wait_for():
    async def main():
        others = asyncio.create_task(asyncio.sleep(0))
        await sleep_until(monotonic() - 1)
        return others.done() or others

    assert run(main())


@attempted
def test_a_message_comes_whole_half_an_rtt_behind_its_last_bit():
    async def main():
        far = Far()
        link = ShapedLink(constant(8e6), 0.1, far.start_s)
        assert await link.carry(partial(far.write, b"one"), 100_000, 0.0) == Hold(0.0, 0.1)
        assert monotonic() - far.start_s < 0.1 + LATE_S  # half the RTT does not hold the link
        assert await link.carry(partial(far.write, b"two"), 50_000, 0.0) == Hold(
            0.1, pytest.approx(0.15)
        )
        await link.flushed()
        assert far.frames == [b"one", b"two"]
        far.came_at(0.2, 0.25)

    run(main())


@attempted
def test_being_late_once_makes_no_later_message_late():
    async def main():
        far = Far()
        link = ShapedLink(constant(8e6), 0.0, far.start_s)
        await link.carry(partial(far.write, b"one"), 50_000, 0.0)
        await asyncio.sleep(0.1)  # whoever sends is held up
        assert await link.carry(partial(far.write, b"two"), 150_000, 0.02) == Hold(0.05, 0.2)
        await link.flushed()
        far.came_at(0.05, 0.2)

    run(main())


@attempted
def test_nothing_of_an_abandoned_message_comes():
    async def main():
        far = Far()
        link = ShapedLink(constant(8e6), 0.0, far.start_s)
        assert await link.carry(partial(far.write, b"one"), 500_000, 0.0, latest_s=0.1) == Hold(
            0.0, None
        )
        assert 0.1 <= monotonic() - far.start_s < 0.1 + LATE_S
        assert link.free_s == 0.1
        await link.carry(partial(far.write, b"two"), 50_000, 0.0)
        await link.flushed()
        assert far.frames == [b"two"]
        far.came_at(0.15)

    run(main())


@attempted
def test_the_link_is_free_once_a_message_is_cancelled():
    async def main():
        far = Far()
        link = ShapedLink(constant(8e6), 0.0, far.start_s)
        sending = asyncio.create_task(link.carry(partial(far.write, b"one"), 5_000_000, 0.0))
        await sleep_until(far.start_s + 0.1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert 0.1 <= link.free_s < 0.1 + LATE_S
        free_s = link.free_s
        hold = await link.carry(partial(far.write, b"two"), 50_000, 0.0)
        assert hold == Hold(free_s, pytest.approx(free_s + 0.05))
        await link.flushed()
        assert far.frames == [b"two"]

    run(main())


def test_what_is_under_way_goes_to_the_connection_it_was_meant_for():
    async def main():
        old, new = Far(), Far()
        link = ShapedLink(constant(8e6), 0.05, old.start_s)
        await link.carry(partial(old.write, b"one"), 1000, 0.0)
        await link.carry(partial(new.write, b"two"), 1000, 0.0)
        await link.flushed()
        assert (old.frames, new.frames) == ([b"one"], [b"two"])

    run(main())


# A real network


class Slow:
    """A peer whose kernel takes what is written `seconds` after it was."""

    def __init__(self, seconds):
        self.frames = []
        self._seconds = seconds
        self._taken_s = 0.0

    def write(self, frame):
        self.frames.append(frame)
        self._taken_s = monotonic() + self._seconds

    async def drained(self):
        await sleep_until(self._taken_s)


@attempted
def test_a_plain_link_measures_what_the_kernel_takes():
    async def main():
        peer = Slow(0.1)
        link = PlainLink(peer.drained, monotonic())
        hold = await link.carry(partial(peer.write, b"one"), 1000, 0.0)
        assert 0.1 <= hold.end_s - hold.begin_s < 0.1 + LATE_S
        assert link.free_s == pytest.approx(hold.end_s, abs=LATE_S)
        assert peer.frames == [b"one"]

    run(main())


@attempted
def test_a_plain_link_gives_up_and_the_next_message_waits_for_what_was_written():
    async def main():
        start_s = monotonic()
        peer = Slow(0.2)
        link = PlainLink(peer.drained, start_s)
        one = await link.carry(partial(peer.write, b"one"), 1000, 0.0, latest_s=0.1)
        assert one.end_s is None
        assert one.begin_s < 0.1 <= link.free_s
        assert await link.carry(partial(peer.write, b"two"), 1000, 0.0, latest_s=0.15) == Hold(
            0.15, None
        )
        assert peer.frames == [b"one"]  # the second never had the link
        three = await link.carry(partial(peer.write, b"three"), 1000, 0.0)
        assert three.begin_s >= 0.2
        await link.flushed()
        assert peer.frames == [b"one", b"three"]

    run(main())
