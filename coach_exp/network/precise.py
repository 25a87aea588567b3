"""Waking up on time: an event loop whose timers are good to tens of microseconds.

asyncio waits in epoll, which counts whole milliseconds and rounds up; every message would
have the link for up to one more. select counts microseconds.
"""

import asyncio
import selectors
from time import monotonic


def new_loop() -> asyncio.AbstractEventLoop:
    """Returns a loop on select, which serves file descriptors below 1024 alone: about a thousand
    connections."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def sleep_until(when_s: float) -> None:
    """Sleep until `when_s` of `time.monotonic()`, never less; other tasks run even if that is over.

    Only a loop of `new_loop` is as precise as this module says.
    """
    await asyncio.sleep(when_s - monotonic())
