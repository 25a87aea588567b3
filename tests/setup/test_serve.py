"""End and cloud as two processes, started as a user does: what they say, and how they end."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pandas
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from helpers.paths import ROOT
from hydra import compose, initialize_config_dir

from coach_exp.jobs.start import run_job
from coach_exp.setup.invocation import Invocation
from coach_exp.types.errors import ConfigError, LinkError, WireError

pytestmark = pytest.mark.socket

TOKEN = "a long random one"
LAYERS = (("in", [], 0, 0, 976), ("a", ["in"], 0.002, 0.001, 1952), ("b", ["a"], 0.009, 0.001, 99))
TIMES = ("model=dag_file", "precision=fixed", "bandwidth.mbps=8", "method=cloud_only")
FEW = ("workload.tasks=60", "references=[]", "tracking=none")


class Typed:
    """A command of its own process group, as a terminal runs it."""

    def __init__(self, root: Path, *overrides: str, token: str | None = None) -> None:
        known = {key: value for key, value in os.environ.items() if key != "COACH_TOKEN"}
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *overrides, f"output.root={root}"],
            cwd=ROOT,
            env=known if token is None else {**known, "COACH_TOKEN": token},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts tests in the background lets them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.said = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until a line has it. Fails where the process ends before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line
            if found := re.search(pattern, line):
                return found
        pytest.fail(f"ended without saying {pattern!r}: {self.said}")

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def ended(self) -> int:
        """Its exit code, once it and all that it has started are over."""
        assert self._process.stdout is not None
        self.said += self._process.stdout.read()  # ends when nobody of the group can write
        self._process.stdout.close()
        return self._process.wait(30)

    def end(self) -> None:
        """Whatever the test was."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def layer_graph(path: Path, last: str = "b") -> str:
    layers = [
        {
            "name": last if name == "b" else name,
            "inputs": inputs,
            "end_s": end_s,
            "cloud_s": cloud_s,
            "elements": elements,
        }
        for name, inputs, end_s, cloud_s, elements in LAYERS
    ]
    path.write_text(json.dumps({"layers": layers}))
    return f"model.path={path}"


def certificate(folder: Path) -> list[str]:
    """Of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cloud")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cloud.pem").write_bytes(signed.public_bytes(pem))
    (folder / "cloud.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return [
        f"transport.tls_certificate={folder / 'cloud.pem'}",
        f"transport.tls_key={folder / 'cloud.key'}",
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two machines")


@pytest.fixture(scope="module")
def cloud(place: Path) -> Iterator[Typed]:
    """`job=serve` with a token and TLS."""
    serving = Typed(
        place / "cloud",
        *("job=serve", "transport.port=0", *TIMES, layer_graph(place / "g.json")),
        *certificate(place),
        token=TOKEN,
    )
    yield serving
    serving.end()


@pytest.fixture(scope="module")
def remote(cloud: Typed, place: Path) -> list[str]:
    """What an end that this cloud takes is given."""
    port = cloud.until(r"listening on 127\.0\.0\.1:(\d+): .* asks for the token, TLS")[1]
    return [
        *("transport=remote", f"transport.port={port}", "transport.shaped=true", *TIMES),
        *(f"model.path={place / 'g.json'}", f"transport.tls_authority={place / 'cloud.pem'}"),
    ]


@pytest.fixture
def do(tmp_path: Path):
    """A job in this process."""

    def job(*overrides: str) -> Path:
        here = tmp_path / "out"
        here.mkdir()
        given = [f"output.root={tmp_path}", *overrides]
        run_job(compose("config", overrides=given), Invocation(here, "test", tuple(given)))
        return here

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield job


def test_an_end_and_a_cloud_with_token_and_tls(cloud: Typed, remote: list[str], place: Path):
    end = Typed(place / "end", *remote, *FEW, token=TOKEN)
    assert end.ended() == 0, end.said
    assert "connected to 'cloud' at 127.0.0.1" in end.said
    assert "100.00 % of the tasks were decided alike" in end.said
    cloud.until(r"plan 0 \(in at 8 bits\) accepted")
    assert cloud.until(r"left: the peer said BYE; (\d+) tasks were answered")[1] == "0"  # it asks
    cloud.until("60 tasks were answered")
    (records,) = (place / "end").glob("*/*/tasks.parquet")
    tasks = pandas.read_parquet(records)
    assert (tasks.decision == "send").sum() == 60
    assert not tasks.fallback.any()


@pytest.mark.slow
def test_under_tls_a_tensor_waits_for_no_later_one(cloud, remote, do, monkeypatch):
    # A link that is not shaped begins with a tensor when the kernel has taken the one before. With
    # nothing else to write, that must not wait for the ping, which comes every second.
    monkeypatch.setenv("COACH_TOKEN", TOKEN)
    here = do(*remote, *FEW, "workload.tasks=20", "transport.shaped=false")
    assert pandas.read_parquet(here / "tasks.parquet").link_busy_s.median() < 0.25
    assert pandas.read_parquet(here / "tasks.parquet").finish_s.max() < 5


@pytest.mark.slow
def test_ctrl_c_on_the_end_leaves_the_cloud_serving(cloud: Typed, remote: list[str], place: Path):
    endless = ("workload.tasks=50000", "references=[]", "tracking=none")
    end = Typed(place / "stopped", *remote, *endless, token=TOKEN)
    try:
        end.until("connected to 'cloud'")
        end.interrupt()
        assert end.ended() == 130
    finally:
        end.end()
    assert end.said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in end.said
    cloud.until(r"left: .*; \d+ tasks were answered")
    assert "Traceback" not in cloud.said


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "asks for a token and this end has none.*COACH_TOKEN"),
        ("another", "does not prove that it has the cloud's token.*COACH_TOKEN"),
    ],
)
def test_a_wrong_token_is_refused_before_anything_is_planned(
    cloud, remote: list[str], do, monkeypatch, token: str | None, message: str
):
    monkeypatch.delenv("COACH_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("COACH_TOKEN", token)
    with pytest.raises(WireError, match=message):
        do(*remote, *FEW)


def test_another_model_is_refused(cloud, remote: list[str], do, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("COACH_TOKEN", TOKEN)
    other = layer_graph(tmp_path / "other.json", last="c")
    with pytest.raises(WireError, match=r"the end's model is profile-.*, the cloud's profile-"):
        do(*remote, *FEW, other)


def test_an_end_without_tls_is_told_so(cloud, remote: list[str], do, monkeypatch):
    monkeypatch.setenv("COACH_TOKEN", TOKEN)
    with pytest.raises(WireError, match=r"127\.0\.0\.1.*tls_authority"):
        do(*remote, *FEW, "transport.tls_authority=null")


def test_ctrl_c_stops_the_cloud_in_order(cloud: Typed, remote: list[str]):
    cloud.interrupt()
    assert cloud.ended() == 0
    assert [line.split(" ", 1)[1] for line in cloud.said.splitlines()[-2:]] == [
        "stopping: 0 tasks are at hand",
        "stopped",
    ]
    assert TOKEN not in cloud.said


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_loopback_stops_both_sides(tmp_path: Path):
    endless = ("transport=loopback", "workload.tasks=50000", "references=[]")
    run = Typed(tmp_path, *TIMES, *endless, layer_graph(tmp_path / "g.json"))
    try:
        run.until("connected to 'cloud'")
        run.interrupt()
        assert run.ended() == 130  # the cloud, which writes to the same pipe, is over as well
    finally:
        run.end()
    assert "cloud: stopped" in run.said
    assert "Traceback" not in run.said
    assert _statuses(tmp_path) == ["KILLED"]


def test_nobody_listens(do, tmp_path: Path):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    end = ("transport=remote", f"transport.port={port}", *TIMES, layer_graph(tmp_path / "g.json"))
    with pytest.raises(LinkError, match=rf"transport\.port={port} cannot be reached.*job=serve"):
        do(*end, *FEW)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("transport.host=0.0.0.0", r"transport\.host=0\.0\.0\.0: without a token .*COACH_TOKEN"),
        ("transport.token_file=/nowhere", r"transport\.token_file=/nowhere cannot be read"),
        ("transport.token_file=/dev/null", r"its first line is empty; the token of both sides"),
        ("transport.tls_authority=/no.pem", r"transport\.tls_authority.* asked for by TLS alone"),
    ],
)
def test_a_cloud_that_cannot_serve_says_so_before_it_has_a_model(
    do, monkeypatch, override: str, message: str
):
    monkeypatch.delenv("COACH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=message):  # model.path is asked for later
        do("job=serve", "model=dag_file", override)


@pytest.mark.slow
def test_tls_files_must_be_there_on_both_sides(do, tmp_path: Path):
    files = ("transport.tls_certificate=/no.pem", "transport.tls_key=/no.key")
    with pytest.raises(ConfigError, match=r"/no\.pem, /no\.key cannot be used"):
        do("job=serve", "model=dag_file", *files)
    (tmp_path / "out").rmdir()
    with pytest.raises(ConfigError, match=r"transport\.tls_authority=/no\.pem cannot be used"):
        do("transport=remote", "model=dag_file", "transport.tls_authority=/no.pem")


def test_a_port_that_is_taken(do, tmp_path: Path):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LinkError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*stop what"):
            do(
                *("job=serve", f"transport.port={port}", *TIMES),
                layer_graph(tmp_path / "g.json"),
            )


def _statuses(root: Path) -> list[str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        return [status for (status,) in store.execute("select status from runs")]
