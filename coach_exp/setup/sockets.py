"""From a config to sockets: the cloud that is started or spoken with, and runs over it.

In: a validated config, and what `compute=live` computes with. Out: the records of a run over real
TCP, or a cloud that serves until it is stopped.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from coach_exp.network.precise import new_loop
from coach_exp.network.self_check import self_check
from coach_exp.network.trace import Trace
from coach_exp.network.wire import DEFAULT_LIMITS
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.server import serve
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import CloudWork, ProfileWork
from coach_exp.pipeline.end_work import EmulatedEnd, EndWork
from coach_exp.pipeline.executor import Setting, execute
from coach_exp.pipeline.parts import Sides
from coach_exp.pipeline.trial import Trial
from coach_exp.pipeline.uplink import CloudAddress, TlsFiles, handshake
from coach_exp.results.progress import Display
from coach_exp.setup.tcp_settings import TcpSettings
from coach_exp.setup.transport import Kind, Live, Sites
from coach_exp.types.errors import ConfigError, LinkError, WireError
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from coach_exp.live.exit_heads import ExitHeads
    from coach_exp.profiling.capture import CapturedModel

TOKEN_VARIABLE = "COACH_TOKEN"
CHECK_WARNS = 0.02  # of the rate asked for

Seconds = float


@dataclass(frozen=True)
class Sockets:
    """Runs over real TCP between two sites, as `given` says. What `compute=live` computes with is
    asked for with `compute=live` alone."""

    kind: Kind
    given: TcpSettings
    sites: Sites

    @property
    def threads(self) -> int | None:
        """Torch's threads on either side, and when this machine is profiled; None: its own choice.
        Where both sides compute on one machine, each has half the cores: threads that wait for
        each other's cores take a hundred times as long."""
        if self.sites.compute == "live" and self.kind == "loopback":
            return max(1, (os.cpu_count() or 2) // 2)
        return None

    # --- The cloud ------------------------------------------------------------------------------

    def serve(self, problem: Problem) -> None:
        """Be the cloud of this problem's model until Ctrl-C. Raises ConfigError for a host that
        takes a token, without one."""
        serve(self._cloud_settings(problem), self._maker(problem)(), _log)

    def refuse_useless(self) -> None:
        """Raises ConfigError for what keeps a cloud from listening, before its model is made."""
        self._settings_of("", "").tls()

    def _cloud_settings(self, problem: Problem) -> CloudSettings:
        return self._settings_of(self.fingerprint(problem), problem.cloud.device)

    def _settings_of(self, fingerprint: str, name: str) -> CloudSettings:
        given = self.given
        return CloudSettings(
            fingerprint=fingerprint,
            host=given.host,
            port=given.port,
            name=name,
            token=self._token,
            tls_certificate=given.tls_certificate,
            tls_key=given.tls_key,
            tls_client_ca=given.tls_authority,
            max_clients=given.max_clients,
        )

    def fingerprint(self, problem: Problem) -> str:
        """What both sides must have alike: when they compute, weights, codec and picture; when
        stages are emulated, the layers that plans name."""
        from coach_exp.learning.array_cache import digest

        if self.sites.compute == "profile":
            return f"profile-{digest([layer.name for layer in problem.graph.layers])}"
        live = self._live
        return f"live-{digest(live.weights.fingerprint, problem.codec, live.jpeg)}"

    def _maker(self, problem: Problem) -> Callable[[], CloudWork]:
        """What makes the cloud's work, in the process where it is done."""
        if self.sites.compute == "profile":
            return ProfileWork
        from coach_exp.live.cloud import live_work
        from coach_exp.live.exit_training import load_heads
        from coach_exp.live.live_model import Machine

        live, layers = self._live, _exit_layers(problem)
        heads = None
        if layers:
            path = live.exit_training.checkpoint(live.weights, layers, live.cache)
            if not path.is_file():  # where this machine is the cloud alone, nobody has asked yet
                self._heads(layers)
            heads = partial(load_heads, path, layers)
        cloud = self.sites.cloud
        machine = Machine(cloud.slowdown, _torch_device(cloud), self.threads)
        return partial(live_work, live.weights, problem.codec, live.jpeg, heads, machine)

    @property
    def _token(self) -> str | None:
        """Of the file, or of the environment; never of the config, which is logged."""
        path = self.given.token_file
        if path is None:
            return os.environ.get(TOKEN_VARIABLE)
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"transport.token_file={path} cannot be read: {error}") from None
        if not lines or not lines[0].strip():
            raise ConfigError(
                f"transport.token_file={path}: its first line is empty; the token of both sides "
                "stands there"
            )
        return lines[0].strip()

    @cached_property
    def _live(self) -> Live:
        return self.sites.live()

    @cached_property
    def _captured(self) -> "CapturedModel":
        from coach_exp.profiling.capture import capture

        weights = self._live.weights
        return capture(weights.load(), weights.model.input_shape)

    def _heads(self, layers: tuple[str, ...]) -> "ExitHeads":
        """Exit heads behind these layers, trained now if they never were."""
        live = self._live
        return live.exit_training.heads(live.weights, self._captured, layers, live.cache)

    # --- The end --------------------------------------------------------------------------------

    def reach(self) -> None:
        """Where the cloud is remote: raises LinkError if nobody listens there, and ConfigError for
        files that cannot be used, before this machine is profiled and anything is trained."""
        given = self.given
        if self.kind != "remote" or self.sites.serves:
            return
        self._address_of(given.port, "", "").tls_context()
        try:
            socket.create_connection((given.host, given.port), given.connect_s).close()
        except OSError as error:
            raise LinkError(
                f"transport.host={given.host}, transport.port={given.port} cannot be reached: "
                f"{error}; the cloud is to be started there first (python run.py job=serve, with "
                "an address that others reach as its transport.host), and no firewall may be "
                "between"
            ) from None

    def handshake(self, problem: Problem, plans: PlanSet | None = None) -> None:
        """Where the cloud is remote: raises WireError if it refuses this end or one of its plans,
        before anything long rests on it."""
        given = self.given
        if self.kind == "remote":
            offered = () if plans is None else plans.every
            try:
                with asyncio.Runner(loop_factory=new_loop) as runner:
                    runner.run(handshake(self._address(problem, given.port), offered))
            except WireError as error:
                raise WireError(
                    f"{error} (the token: transport.token_file or COACH_TOKEN; TLS, if the cloud "
                    "has it: transport.tls_authority; what makes two models the same: "
                    "docs/guide/two-machines.md)"
                ) from None

    def run(self, trial: Trial, plans: PlanSet, display: Display) -> Records:
        """Run the workload over sockets. Raises LinkError, WireError, ConfigError before the first
        task where the cloud cannot be had."""
        if self.given.shaped:
            self._check(trial.trace, plans, display)
        with self._cloud(trial.problem) as port:
            run = self._execution(trial.problem, plans, port, "running over sockets", display)
            return run(trial, say=display.say)

    def replay(self, trial: Trial, plans: PlanSet, display: Display) -> Records:
        """The same over loopback, stages emulated, whatever the transport; quietly."""
        given = replace(self.given, shaped=True, host="127.0.0.1", token_file=None)
        sites = replace(self.sites, compute="profile")
        sockets = Sockets("loopback", given, sites)
        with sockets._cloud(trial.problem, _nothing) as port:
            run = sockets._execution(trial.problem, plans, port, "repeating over loopback", display)
            return run(trial, say=_nothing)

    def _execution(
        self, problem: Problem, plans: PlanSet, port: int, what: str, display: Display
    ) -> Callable[..., Records]:
        """`execute` on the cloud at `port`, for a trial and someone to say words to. Raises
        ConfigError for more tasks in flight than a connection bears."""
        given, workload = self.given, problem.workload
        if workload.places > DEFAULT_LIMITS.open_tasks:
            raise ConfigError(
                f"workload.in_flight={workload.places}: over sockets at most "
                f"{DEFAULT_LIMITS.open_tasks} tasks wait for answers; use fewer"
            )
        return partial(
            execute,
            plans=plans,
            make_end=self._end_maker(problem),
            setting=Setting(self._address(problem, port), given.shaped, given.answer_s),
            progress=lambda done: display.progress(what, done, workload.tasks),
        )

    @contextmanager
    def _cloud(self, problem: Problem, say: Callable[[str], None] | None = None) -> Iterator[int]:
        """A cloud to speak with: its port."""
        if self.kind == "remote":
            yield self.given.port
            return
        settings = replace(self._cloud_settings(problem), host="127.0.0.1", port=0)
        with CloudProcess(settings, self._maker(problem), say or _cloud_says) as cloud:
            yield cloud.port

    def _address(self, problem: Problem, port: int) -> CloudAddress:
        return self._address_of(port, self.fingerprint(problem), problem.end.device)

    def _address_of(self, port: int, fingerprint: str, client: str) -> CloudAddress:
        given = self.given
        tls = None
        if given.tls_authority is not None:
            tls = TlsFiles(given.tls_authority, given.tls_certificate, given.tls_key)
        buffer_kib = given.send_buffer_kib
        return CloudAddress(
            host=given.host if self.kind == "remote" else "127.0.0.1",
            port=port,
            fingerprint=fingerprint,
            client=client,
            token=self._token,
            tls=tls,
            server_name=given.server_name,
            connect_s=given.connect_s,
            stall_s=given.stall_s,
            send_buffer_bytes=None if buffer_kib is None else 1024 * buffer_kib,
        )

    def _end_maker(self, problem: Problem) -> Callable[[Seconds], EndWork]:
        if self.sites.compute == "profile":
            return lambda began_s: EmulatedEnd(problem, began_s)
        from coach_exp.live.end import LiveEnd
        from coach_exp.live.live_model import LiveModel, Machine
        from coach_exp.live.payloads import Payloads

        live, device, layers = self._live, self.sites.end, _exit_layers(problem)
        model = self._captured
        payloads = Payloads(problem.codec, model.graph, live.jpeg, live.weights.model.input_size)
        assert problem.outcomes is not None, "a model that computes has answers"
        known = problem.outcomes
        heads = self._heads(layers) if layers else None
        machine = Machine(device.slowdown, _torch_device(device), self.threads)
        computed = LiveModel(model, payloads, heads, machine)
        return lambda began_s: LiveEnd(computed, live.data, known, began_s=began_s)

    def sides(self, problem: Problem) -> Sides:
        """What works on both sides, for whoever joins them in its own way."""
        return Sides(self.fingerprint(problem), self._end_maker(problem), self._maker(problem))

    def _check(self, trace: Trace, plans: PlanSet, display: Display) -> None:
        """Say how well this machine holds the link's rate, before anything rests on it."""
        sizes = [sum(plan.payload_bytes) for plan in plans.plans if plan.crossing]
        if not sizes:
            return
        with asyncio.Runner(loop_factory=new_loop) as runner:
            found = runner.run(self_check(trace, sizes[0]))
        display.say(
            f"link: {found.asked_bps / 1e6:g} Mbps asked for, {found.achieved_bps / 1e6:.3f} "
            f"achieved ({100 * found.error:+.2f} %), {found.messages} messages of "
            f"{found.payload_bytes / 1024:.1f} KiB"
        )
        if abs(found.error) > CHECK_WARNS:
            display.say(
                "this machine does not hold the rate within 2 %: it may be too busy, or the rate "
                "too high for it; times on the link are off by as much"
            )


def _exit_layers(problem: Problem) -> tuple[str, ...]:
    """The layers whose heads the method asks for."""
    layers: tuple[str, ...] = getattr(problem.outcomes, "exit_layers", ())
    return layers


def _torch_device(side: object) -> str:
    """Where a side computes: what was profiled there, else the CPU."""
    named = getattr(side, "torch_device", None)
    if named is None:
        return "cpu"
    from coach_exp.profiling.device import resolved_device

    return str(resolved_device(named))


def _log(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


def _cloud_says(words: str) -> None:
    print(f"cloud: {words}", flush=True)


def _nothing(words: object) -> None:
    """Says nothing."""
