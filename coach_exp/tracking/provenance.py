"""Where a number comes from: the code, the packages, the machine and the command.

In: nothing but this process. Out: the contents of `provenance.json`, and the identity of the code
that decides whether a finished run may stand for a new one.
"""

import hashlib
import os
import platform
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_SECRETS = ("token", "password", "secret")  # ends of names whose values are never kept


@dataclass(frozen=True, slots=True)
class Code:
    """State of a git work tree; all None where there is none.

    `dirty`: something differs from `commit`, untracked files included. `diff_sha256` is of what
    differs, None when nothing does.
    """

    commit: str | None = None
    dirty: bool | None = None
    diff_sha256: str | None = None

    @property
    def reproducible(self) -> bool:
        """Whether `commit` alone says which code ran.

        >>> Code("c0ffee", dirty=False).reproducible, Code("c0ffee", dirty=True).reproducible
        (True, False)
        >>> Code().reproducible
        False
        """
        return self.dirty is False


def code(root: Path = ROOT) -> Code:
    """The work tree at `root`."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=all", "-z")
    if commit is None or changes is None:
        return Code()
    if not changes:
        return Code(commit.decode().strip(), dirty=False)
    digest = hashlib.sha256(changes + (_git(root, "diff", "HEAD", "--binary") or b""))
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", ":/") or b""
    top = Path((_git(root, "rev-parse", "--show-toplevel") or b".").decode().strip())
    for name in sorted(filter(None, new.split(b"\0"))):
        path = top / os.fsdecode(name)
        if path.is_file():  # a link may lead nowhere
            digest.update(path.read_bytes())
    return Code(commit.decode().strip(), dirty=True, diff_sha256=digest.hexdigest())


def provenance() -> dict[str, Any]:
    """Time, command line (secrets masked), code, Python, packages and hardware. Imports nothing to
    find out; a GPU is named only where torch is loaded anyway.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [masked(argument) for argument in sys.argv],
        "directory": os.getcwd(),
        "code": asdict(code()),
        "python": platform.python_version(),
        "packages": _packages(),
        "hardware": _hardware(),
    }


def masked(argument: str) -> str:
    """A command line argument without the secret it may carry.

    >>> masked("transport.token=abc"), masked("bandwidth.mbps=20")
    ('transport.token=***', 'bandwidth.mbps=20')
    """
    name, equals, _ = argument.partition("=")
    return f"{name}=***" if equals and name.lower().endswith(_SECRETS) else argument


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git answers, None where it is absent or refuses."""
    try:
        # Taking no lock keeps runs side by side from disturbing one another or a commit.
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _packages() -> dict[str, str]:
    found = ((d.metadata["Name"], d.version) for d in distributions())
    return dict(sorted((name, version) for name, version in found if name))


def _hardware() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "ram_bytes": _ram_bytes(),
        "gpus": _gpus(),
    }


def _cpu() -> str:
    """Model name: of the processor, or of the board where (as on a Jetson) that says more."""
    board, cpuinfo = Path("/proc/device-tree/model"), Path("/proc/cpuinfo")
    if board.is_file():
        return board.read_text().strip("\0 \n")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None  # not known on this system


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
