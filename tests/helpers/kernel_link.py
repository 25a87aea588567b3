"""A link shaped by the kernel, to judge ours by: two network namespaces, a veth pair between them,
and a token bucket (`tc tbf`) on the sender's side. Needs root, `ip` and `tc`.

Run as a program in one of the namespaces, this file is a bare socket that sends or receives.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

NEAR, FAR = "10.213.7.1", "10.213.7.2"
PORT = 5201
SEGMENT_BYTES = 1448  # of payload in a full TCP segment
WIRE_BYTES = 1514  # that tbf counts for it: Ethernet, IP, TCP with time stamps
BUCKET_S = 0.002
GRANT = struct.Struct(">IId")  # bytes of a message, how many, when the first may leave


def why_not() -> str | None:
    """Why this machine cannot shape in the kernel; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"there is no {tool}; install iproute2"
    try:
        with shaped(1e6):
            return None
    except subprocess.CalledProcessError as failed:
        return f"{' '.join(failed.cmd)}: {failed.stderr.strip()}"


class KernelLink:
    """Two namespaces and the shaped pair between them."""

    def __init__(self) -> None:
        self._near = f"coach-near-{os.getpid()}"
        self._far = f"coach-far-{os.getpid()}"

    def build(self, rate_bps: float) -> None:
        for name in (self._near, self._far):
            _run("ip", "netns", "add", name)
        ends = f"ip link add veth0 netns {self._near} type veth peer name veth0 netns {self._far}"
        _run(*ends.split())
        for name, address in ((self._near, NEAR), (self._far, FAR)):
            _run("ip", "-n", name, "addr", "add", f"{address}/30", "dev", "veth0")
            _run("ip", "-n", name, "link", "set", "veth0", "up")
        self.shape(rate_bps, "add")

    def shape(self, rate_bps: float, verb: str = "change") -> None:
        """Let `rate_bps` of payload through: the bucket counts headers too. It holds 2 ms, and so
        much passes ahead of its time at first; with a smaller one the kernel, which also wakes up
        late, stays several percent below a rate of 50 Mbps."""
        counted_bps = ceil(rate_bps * WIRE_BYTES / SEGMENT_BYTES)
        burst_bytes = max(WIRE_BYTES + 86, ceil(BUCKET_S * counted_bps / 8))
        bucket = f"tbf rate {counted_bps}bit burst {burst_bytes} limit 20000000"
        _run(*f"tc -n {self._near} qdisc {verb} dev veth0 root {bucket}".split())

    def remove(self) -> None:
        for name in (self._near, self._far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    @contextmanager
    def transfer(self, payload_bytes: int, messages: int) -> Iterator["Transfer"]:
        """A receiver and a sender, joined."""
        far = _program(self._far, "receive")
        near = None
        try:
            assert far.stdout is not None
            far.stdout.readline()  # it listens
            near = _program(self._near, "send", str(payload_bytes), str(messages))
            yield Transfer(near, far)
        finally:
            for process in (near, far):
                if process is not None:
                    process.kill()
                    process.communicate()


class Transfer:
    """Messages that cross from one namespace to the other."""

    def __init__(self, near: "subprocess.Popen[str]", far: "subprocess.Popen[str]") -> None:
        self._far = far
        assert near.stdout is not None
        self.start_s = float(near.stdout.readline())

    def arrivals(self) -> list[float]:
        """When each message had come whole, since the first was ready."""
        output, _ = self._far.communicate(timeout=60)
        return [float(line) - self.start_s for line in output.split()]


@contextmanager
def shaped(rate_bps: float) -> Iterator[KernelLink]:
    """The kernel's link, which is always taken down."""
    link = KernelLink()
    try:
        link.build(rate_bps)
        yield link
    finally:
        link.remove()


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)


def _program(namespace: str, *arguments: str) -> "subprocess.Popen[str]":
    command = ["ip", "netns", "exec", namespace, sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _send(payload_bytes: int, messages: int) -> None:
    with socket.create_connection((FAR, PORT), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start_s = time.monotonic() + 0.05
        sock.sendall(GRANT.pack(payload_bytes, messages, start_s))
        time.sleep(max(0.0, start_s - time.monotonic()))
        print(start_s, flush=True)
        payload = bytes(payload_bytes)
        sock.settimeout(60)
        for _ in range(messages):
            sock.sendall(payload)
        sock.recv(1)  # the receiver has all


def _receive() -> None:
    with socket.create_server(("", PORT)) as server:
        server.settimeout(20)
        print("listens", flush=True)
        sock, _ = server.accept()
    with sock, sock.makefile("rb") as stream:
        sock.settimeout(60)
        payload_bytes, messages, _ = GRANT.unpack(stream.read(GRANT.size))
        came_s = []
        for _ in range(messages):
            stream.read(payload_bytes)
            came_s.append(time.monotonic())
        sock.sendall(b"!")
    print(*came_s)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        _send(int(sys.argv[2]), int(sys.argv[3]))
    else:
        _receive()
