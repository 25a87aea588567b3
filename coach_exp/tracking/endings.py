"""How runs end: by signals, by exceptions, or with a process that dies.

Signals are turned into exceptions, so that blocks are left in order, and wait while the store is
written. A run is tagged with its process; by these tags the runs of the dead are found.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class Terminated(SystemExit):
    """SIGTERM, raised where the program stands so that its blocks are left in order."""


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, unless someone handles it already."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the store has been written.

    An exception in the middle of a transaction becomes some other error, or leaves a run RUNNING.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def status_of(error: BaseException) -> str:
    """The status of a run that this exception leaves."""
    if isinstance(error, KeyboardInterrupt | Terminated):
        return "KILLED"
    if isinstance(error, SystemExit) and not error.code:
        return "FINISHED"
    return "FAILED"


def process_tags() -> dict[str, str]:
    """This process, so that another can tell later whether it still lives."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": str(pid),
        "process_start": birth(pid) or "unknown",
    }


def gone(tags: Mapping[str, str]) -> bool:
    """Whether the process of these tags, one of this host, is no more."""
    return birth(int(tags["pid"])) != tags["process_start"]


def birth(pid: int) -> str | None:
    """When a process of this host began, in ticks since the system started (its id may be used
    again); None when it is dead, or where the system has no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
