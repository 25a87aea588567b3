"""The identity of the code changes with every change that could change a number."""

import json
import subprocess
import sys

import pytest

from coach_exp.tracking.provenance import Code, code, provenance


def git(root, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("outputs/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_committed_tree_is_named_by_its_commit(tree):
    (tree / "outputs").mkdir()
    (tree / "outputs" / "ignored").write_text("x")
    found = code(tree)
    assert found.reproducible
    assert len(found.commit) == 40
    assert found.diff_sha256 is None


def test_every_change_gives_a_dirty_tree_another_hash(tree):
    seen = set()
    for name, text in [("a.py", "a = 2\n"), ("a.py", "a = 3\n"), ("new.py", ""), ("new.py", "b")]:
        (tree / name).write_text(text)
        found = code(tree)
        assert found.dirty
        seen.add(found.diff_sha256)
    assert len(seen) == 4
    assert code(tree) == found


def test_a_directory_below_the_root_sees_the_whole_tree(tree):
    (tree / "src").mkdir()
    (tree / "new.py").write_text("b")
    assert code(tree / "src") == code(tree)


def test_without_git_nothing_is_claimed(tmp_path):
    assert code(tmp_path / "absent") == Code()
    assert not Code().reproducible


def test_provenance_is_json_and_hides_secrets(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "transport.token=abc", "seed=1"])
    found = json.loads(json.dumps(provenance()))
    assert found["command"] == ["run.py", "transport.token=***", "seed=1"]
    assert found["packages"]["numpy"][0].isdigit()
    assert found["hardware"]["cores"] >= 1
    assert found["hardware"]["cpu"]


def test_provenance_imports_nothing_heavy():
    program = (
        "import sys; from coach_exp.tracking.provenance import provenance; provenance();"
        "print([m for m in ('torch', 'mlflow', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"
