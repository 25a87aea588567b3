"""Imports point one way; offenders are named."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

FLOORS = (  # a package may import itself and what lies on the floors before its own
    {"types"},
    {"quant", "network", "planner", "profiling", "learning", "tracking"},
    {"online", "pipeline", "results"},
    {"live", "plots", "coach"},
    {"setup", "studies"},
    {"jobs"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FACES = {"__init__", "__main__"}  # of the package: they may know everything
WITHOUT_TORCH = ("types", "quant", "network", "planner", "online", "pipeline", "results")


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Modules that a file imports, those needed for annotations alone left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if _for_annotations(node) or (at_import_time and isinstance(node, ast.FunctionDef))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _for_annotations(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def part(module: str) -> str | None:
    """The part of coach_exp a module belongs to."""
    names = module.split(".")
    return names[1] if names[0] == "coach_exp" and len(names) > 1 and names[1] in FLOOR else None


def test_every_part_of_the_package_has_its_place():
    parts = {
        path.stem
        for path in (ROOT / "coach_exp").iterdir()
        if path.is_dir() or path.suffix == ".py"
    }
    parts -= FACES | {"__pycache__"}
    assert parts == set(FLOOR)


def test_the_package_itself_holds_its_faces_and_coach_alone():
    modules_ = {path.stem for path in (ROOT / "coach_exp").glob("*.py")}
    assert modules_ <= FACES | {"coach"}


@pytest.mark.parametrize("path", modules("coach_exp"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path):
    own = part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        return
    parts = {part(name) for name in imports(path)} - {own, None}
    wrong = [name for name in parts if FLOOR[name] >= FLOOR[own]]
    assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}, which are not below it"


@pytest.mark.parametrize("path", modules("coach_exp"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_framework_does_not_know_the_baselines(path: Path):
    assert not [name for name in imports(path) if name.split(".")[0] == "baselines"]


@pytest.mark.parametrize("path", modules("baselines"), ids=lambda p: p.name)
def test_baselines_use_what_coach_uses(path: Path):
    allowed = set().union(*FLOORS[:2]) | {"online"}
    parts = {part(name) for name in imports(path)} - {None}
    assert parts <= allowed


@pytest.mark.parametrize("path", modules(*(f"coach_exp/{name}" for name in WITHOUT_TORCH)))
def test_planner_simulator_and_codec_need_no_torch(path: Path):
    heavy = {"torch", "torchvision", "pytorch_lightning"}
    assert not [name for name in imports(path) if name.split(".")[0] in heavy]
