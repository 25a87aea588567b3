"""A cloud in another process of this machine: for `transport=loopback`, and for tests of faults.

In: settings, and a function that makes what computes, which the other process calls. Out: the port
on which it listens. The process ends with this one, however this one ends.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from coach_exp.pipeline.cloud.server import DRAIN_S, serve
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import CloudWork
from coach_exp.types.errors import CoachError, LinkError


class CloudProcess:
    """A running cloud: a context manager, which stops it in order.

    `make` and `say` are pickled: functions of a module, or partials of such. `make` makes what
    computes; `say` gets the cloud's words, there. The cloud ignores Ctrl-C, which a terminal sends
    to both processes: this one decides.
    """

    def __init__(
        self,
        settings: CloudSettings,
        make: Callable[[], CloudWork],
        say: Callable[[str], None],
        *,
        start_timeout_s: float = 300.0,
    ) -> None:
        self._settings = settings
        self._make = make
        self._say = say
        self._start_timeout_s = start_timeout_s
        self._process: SpawnProcess | None = None
        self._line: Connection | None = None

    def __enter__(self) -> "CloudProcess":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens, or listened last."""
        return self._settings.port

    @property
    def pid(self) -> int:
        """The process's number. Raises LinkError where none runs."""
        return self._running().pid or 0

    def start(self) -> None:
        """Start, and wait until it listens. Raises what kept it from that."""
        context = get_context("spawn")
        line, other = context.Pipe()
        process = context.Process(
            target=_run, args=(self._settings, self._make, self._say, other), name="cloud"
        )
        # It must ignore Ctrl-C from its first instruction on, not from `_run` on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()  # so that its end is the end of the line
        self._process, self._line = process, line
        try:
            self._settings = replace(self._settings, port=self._first_word(line, process))
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int | None:
        """Let it answer what it has and end. Returns its exit code, None where none ran."""
        if self._process is None:
            return None
        self.resume()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        self._process.join(DRAIN_S + 5.0)
        return self.kill()

    def kill(self) -> int | None:
        """End it at once, as a crash would. Returns its exit code, None where none ran."""
        if self._process is None or self._line is None:
            return None
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        self._line.close()
        self._process = self._line = None
        return code

    def restart(self) -> None:
        """Start it again, on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let it stall: it keeps its connections and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def _running(self) -> SpawnProcess:
        if self._process is None:
            raise LinkError("the cloud process does not run; start it first")
        return self._process

    def _first_word(self, line: Connection, process: SpawnProcess) -> int:
        if not line.poll(self._start_timeout_s):
            raise LinkError(
                f"the cloud process did not listen within {self._start_timeout_s:g} s; see what "
                "it printed, or give it more time"
            )
        try:
            word: int | CoachError = line.recv()
        except EOFError:
            process.join(1.0)
            raise LinkError(
                f"the cloud process ended before it listened (exit code {process.exitcode}); what "
                "it printed says why"
            ) from None
        if isinstance(word, CoachError):
            raise word
        return word


def _run(
    settings: CloudSettings,
    make: Callable[[], CloudWork],
    say: Callable[[str], None],
    line: Connection,
) -> None:
    """Run the cloud; this is what the other process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where the line breaks while the model is loaded, `listening` finds it broken.
    try:
        serve(settings, make(), say, listening=partial(_tell, line), signals=(signal.SIGTERM,))
    except CoachError as error:
        line.send(error)


def _tell(line: Connection, port: int, stop: Callable[[], None]) -> None:
    """Tell the port, and stop when the other side of the line is gone, which ends with it."""
    line.send(port)
    asyncio.get_running_loop().add_reader(line.fileno(), stop)
