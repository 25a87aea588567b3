"""The documentation holds together: links lead somewhere, commands compose, examples can be read.

A command is a line of `python run.py` or `coach` in a code block or between backquotes. Those that
name the reader's own files (`--config-dir`) are composed with the files that the page itself gives:
code blocks whose first line is a comment with their path.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.paths import CONF, ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from coach_exp.setup.config import validated
from coach_exp.setup.invocation import in_hydras_words
from coach_exp.types import component
from coach_exp.types.errors import ConfigError

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```\s*?$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OWN_FILE = re.compile(r"\A(?:# @package .*\n)?# ((?:my_|mine/)[\w/.-]+\.(?:py|yaml))\n")
CALLS = ("python run.py ", "coach ")
ARGUMENT = re.compile(r"-|~|[\w+.@/]+=")
SWEEP_FLAGS = {"-m", "--multirun"}
FOREIGN = re.compile(  # places of one machine or one workplace: a page speaks of the project alone
    r"(?<![\w.~-])/(?:work|tmp|opt|root|home)/|\bissue #?\d|\bpypi\.org\b|\blocalhost:\d"
)
OLD_KEYS = re.compile(  # by their last names; CHANGELOG.md tells the new ones
    r"\btrack=|\bmost_(?:s|clients|layers|kib_per_min)\b|\bpatience_s\b|\bobjective=pareto\b"
    r"|(?<![\w./])study\.\w+=|(?<!job\.)\btable\.(?:rows|groups|columns)\b"
    r"|(?<!job\.)\bdynamic\.methods\b"
)


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", text(page))


# --- Links ----------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading.

    >>> slug("What `T_e` costs, and why")
    'what-t_e-costs-and-why'
    """
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    found: Counter[str] = Counter()
    named = set(re.findall(r'<a (?:id|name)="([^"]+)"', text(page)))
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        anchor = slug(heading)
        named.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
        found[anchor] += 1
    return frozenset(named)


def broken(page: Path) -> Iterator[str]:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            yield f"{target}: there is no such file"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            yield f"{target}: {there.name} has no such heading; it has {sorted(anchors(there))}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(broken(page))


def test_every_page_can_be_reached_from_the_index() -> None:
    start = ROOT / "docs/README.md"
    seen, ahead = {start}, [start]
    while ahead:
        page = ahead.pop()
        for target in LINK.findall(prose(page)):
            there = (page.parent / target.partition("#")[0]).resolve()
            if there in PAGES and there not in seen:
                seen.add(there)
                ahead.append(there)
    assert not [str(page) for page in PAGES if "docs" in page.parts and page not in seen]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_modules_and_tests_that_are_named_exist(page: Path) -> None:
    paths = re.findall(
        r"\b(?:tests|coach_exp|baselines|examples)/[\w/]+\.(?:py|ipynb)\b", text(page)
    )
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_pages_that_code_and_configs_name_exist() -> None:
    sources = [path for name in ("coach_exp", "baselines") for path in (ROOT / name).rglob("*.py")]
    named = {
        f"{path.relative_to(ROOT)}: {page}"
        for path in [*sources, *CONF.rglob("*.yaml")]
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", text(path))
        if not (ROOT / page).exists()
    }
    assert not named


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_speak_of_the_project_alone(page: Path) -> None:
    assert not FOREIGN.findall(text(page))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_keys_by_their_present_names(page: Path) -> None:
    if page.name != "CHANGELOG.md":
        assert not OLD_KEYS.findall(text(page))


# --- Commands -------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command as it stands on a page, with the arguments that Hydra will see."""

    line: str
    args: tuple[str, ...]


def commands(page: Path) -> Iterator[Command]:
    for block in _joined(page):
        for line in block.splitlines():
            spoken = re.sub(r"^(?:\$ )?(?:\w+=\S+ )*", "", line.strip())
            call = next((each for each in CALLS if f"{spoken} ".startswith(each)), None)
            if call is None:
                continue
            args = tuple(shlex.split(spoken.removeprefix(call.strip()), comments=True))
            if (args or call != "coach ") and all(map(ARGUMENT.match, args)):
                yield Command(line.strip(), args)


def _joined(page: Path) -> Iterator[str]:
    """Blocks whose lines that end in a backslash are one."""
    rest = re.sub(r"\\\n\s*", "", text(page))
    yield from FENCE.findall(rest)
    plain = FENCE.sub("", rest)
    yield from re.findall(r"^ {4}(\S.*)$", plain, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", plain)


EACH_ONCE = {command.args: (page, command) for page in PAGES for command in commands(page)}.values()


def own_files(page: Path, folder: Path) -> None:
    """Write the reader's files that a page gives."""
    for block in FENCE.findall(text(page)):
        named = OWN_FILE.match(block)
        if named:
            path = folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf-8")


def first_choices(overrides: list[str]) -> list[str]:
    """A sweep's first point."""
    chosen = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            value = next(iter(override.sweep_string_iterator()))
            chosen.append(f"{override.key_or_group}={value}")
        else:
            assert override.input_line is not None
            chosen.append(override.input_line)
    return chosen


@pytest.fixture(scope="module")
def conf() -> Iterator[None]:
    """Hydra, looking into our configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    ("page", "command"), EACH_ONCE, ids=[f"{p.name}: {c.line[:60]}" for p, c in EACH_ONCE]
)
def test_commands_compose(
    page: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key is there, and every value is one that its component takes."""
    flags = {arg for arg in command.args if arg.startswith("-")} - SWEEP_FLAGS
    overrides = in_hydras_words(arg for arg in command.args if not arg.startswith("-"))
    if flags == {"--help"}:
        return
    for flag in flags:
        name, _, folder = flag.partition("=")
        assert name == "--config-dir", f"{command.line}: {flag} is no flag that a page explains"
        own_files(page, tmp_path)
        assert (tmp_path / folder).is_dir(), f"{page.name} gives no files below {folder}/"
        overrides.append(f"hydra.searchpath=[file://{tmp_path / folder}]")
        monkeypatch.syspath_prepend(str(tmp_path))
    composed = compose("config", first_choices(overrides))
    if not flags:
        validated(composed)
    OmegaConf.to_container(composed, resolve=True)


OWN_PACKAGE = ROOT / "docs/guide/extending.md"
COMPONENTS = [
    named[1]
    for block in FENCE.findall(text(OWN_PACKAGE))
    if (named := OWN_FILE.match(block)) and "/experiment/" not in named[1]
    if named[1].endswith(".yaml") and "/model/" not in named[1]  # torchvision's own
]


@pytest.mark.parametrize("path", COMPONENTS)
def test_a_component_of_ones_own_is_read(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class is found, takes its settings, and refuses a key that it lacks."""
    own_files(OWN_PACKAGE, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    given: Any = OmegaConf.to_container(OmegaConf.load(tmp_path / path))
    settings = {key: value for key, value in given.items() if "${" not in str(value)}
    facts = {"initial_bps", "trace"} | set(given) - set(settings)
    component.read(settings, "key", facts)
    with pytest.raises(ConfigError, match="no such key"):
        component.read({**settings, "no_such_key": 1}, "key", facts)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_experiments_that_are_named_exist(page: Path, tmp_path: Path) -> None:
    own_files(page, tmp_path)
    known = {
        path.stem for path in [*(CONF / "experiment").glob("*.yaml"), *tmp_path.rglob("*.yaml")]
    }
    named = ",".join(re.findall(r"(?<![\w.])experiment=([a-z][\w,]*)", text(page))).split(",")
    assert not set(filter(None, named)) - known


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_examples_are_python(page: Path) -> None:
    for source in re.findall(r"^```python\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL):
        compile(source, str(page), "exec")
