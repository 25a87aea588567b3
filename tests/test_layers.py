"""Imports point one way; offenders are named."""

import ast
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

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
TESTS = ROOT / "tests"
BESIDE = {"benchmarks"}  # of tests: no package's
OF_ALL = {"conftest.py", "test_docs.py", "test_layers.py"}  # of tests: the whole repository's
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


def offenders(wrong: Callable[[Path], Collection[str]], *folders: str) -> dict[str, list[str]]:
    """What is wrong with each file of these folders, where something is."""
    found = {str(path.relative_to(ROOT)): sorted(wrong(path)) for path in modules(*folders)}
    assert found, folders
    return {path: names for path, names in found.items() if names}


def own_part(path: Path) -> str | None:
    return part(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_imports_point_down():
    def not_below(path: Path) -> set[str]:
        own = own_part(path)
        parts = {part(name) for name in imports(path)} - {own, None}
        return {name for name in parts if own is not None and FLOOR[name] >= FLOOR[own]}

    assert offenders(not_below, "coach_exp") == {}


def test_the_framework_does_not_know_the_baselines():
    assert offenders(lambda path: _from(path, {"baselines"}), "coach_exp") == {}


def test_baselines_use_what_coach_uses():
    allowed = set().union(*FLOORS[:2]) | {"online", None}
    assert (
        offenders(lambda path: {part(name) for name in imports(path)} - allowed, "baselines") == {}
    )


def test_planner_simulator_and_codec_need_no_torch():
    heavy = {"torch", "torchvision", "pytorch_lightning"}
    folders = [f"coach_exp/{name}" for name in WITHOUT_TORCH]
    assert offenders(lambda path: _from(path, heavy), *folders) == {}


def _from(path: Path, packages: Collection[str]) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in packages}


# --- The tests themselves -------------------------------------------------------------------------


def test_no_test_module_imports_another():
    """What several need lies in tests/helpers, by that name, or in a conftest.py."""
    strange = {"tests"} | {path.stem for path in (TESTS / "helpers").glob("*.py")}

    def of_tests(path: Path) -> set[str]:
        return {
            name
            for name in imports(path)
            if name.split(".")[0] in strange
            or any(each == "conftest" or each.startswith("test_") for each in name.split("."))
        }

    assert offenders(of_tests, "tests") == {}


def test_folders_of_tests_mirror_the_packages():
    folders = {path.name for path in TESTS.iterdir() if any(path.glob("**/test_*.py"))}
    assert folders - BESIDE <= set(FLOOR) | {"baselines"}
    for folder in folders & set(FLOOR):
        for inner in {path.parent for path in (TESTS / folder).rglob("test_*.py")}:
            package = ROOT / "coach_exp" / inner.relative_to(TESTS)
            assert package.is_dir(), f"{inner.relative_to(ROOT)}: there is no {package}"
    lost = [path.name for path in TESTS.glob("*.py") if path.name not in OF_ALL]
    assert not lost, f"{lost} lie in tests/ itself; each belongs into its package's folder"
