"""A component is its class: what its parameters say, its config must keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import pytest
from pydantic import Field, PositiveInt

from coach_exp.types.component import Component, Facts, built, of_class, read
from coach_exp.types.errors import ConfigError, LinkError

HERE = __name__


class Speaks(Protocol):
    def words(self) -> int: ...


@dataclass(frozen=True)
class Inner:
    """With a rule of its own between two fields."""

    low: int = 0
    high: int = 1

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError(f"low = {self.low} exceeds high = {self.high}")

    def words(self) -> int:
        return self.high


@dataclass(frozen=True)
class Outer:
    rate_bps: float
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    kind: Literal["a", "b"] = "a"
    sizes: tuple[PositiveInt, ...] = (1,)
    inner: Inner = field(default_factory=Inner)
    speaker: Speaks | None = None
    later: Mapping[str, Any] = field(default_factory=dict)


class Plain:
    """No dataclass, no annotations: taken as it is."""

    def __init__(self, size, *, name="plain"):
        self.size, self.name = size, name


class Open:
    def __init__(self, size: PositiveInt, **others: Any) -> None:
        self.size, self.others = size, others


class Breaks:
    """Fails in a way that none of our own classes does."""

    def __init__(self, how: str) -> None:
        ways = {
            "key": lambda: {}["x"],
            "run": lambda: next(iter(())),
            "io": Path("/no/file").read_text,
        }
        ways[how]()


def refuses(size: int) -> None:
    raise LinkError(f"size = {size} is nothing for a link")


def group(target: object, **fields: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.{target.__name__}", **fields}  # type: ignore[attr-defined]


def test_fields_are_checked_and_converted():
    made = built(group(Outer, rate_bps=8, sizes=[1, 2]), "link")
    assert made == Outer(rate_bps=8.0, sizes=(1, 2))
    assert isinstance(made.rate_bps, float)


def test_defaults_stay_with_the_class():
    assert read(group(Outer, rate_bps=8), "link").settings == {"rate_bps": 8.0}


def test_every_mistake_is_named_with_key_value_and_rule():
    with pytest.raises(ConfigError) as refused:
        built(group(Outer, wieght=1, weight=2, kind="c", sizes=[0]), "link")
    assert str(refused.value).splitlines() == [
        "link.wieght = 1: there is no such key; did you mean 'weight'?",
        f"link.rate_bps: is not set; {HERE}.Outer needs it",
        "link.weight = 2: should be less than or equal to 1",
        "link.kind = c: should be 'a' or 'b'",
        "link.sizes = 0: should be greater than 0",
    ]


def test_a_value_that_is_null_is_said_to_be_missing():
    with pytest.raises(ConfigError, match=r"link\.weight: is not set; it must be given"):
        built(group(Outer, rate_bps=1, weight=None), "link")


def test_where_nothing_is_near_all_keys_are_named():
    with pytest.raises(ConfigError, match=r"link\.zzz = 1: .*; there are high, low"):
        built(group(Inner, zzz=1), "link")


def test_facts_of_the_run_come_later_and_are_no_settings():
    component = read(group(Outer), "link", facts=("rate_bps", "unknown"))
    assert component.asks == {"rate_bps"}
    assert component(rate_bps=3.0, unknown=4).rate_bps == 3.0
    with pytest.raises(ConfigError, match=r"link\.rate_bps = 1: there is no such key"):
        read(group(Outer, rate_bps=1), "link", facts=("rate_bps",))


def test_components_within_components():
    given = group(Outer, rate_bps=1, inner=group(Inner, high=7))
    assert built(given, "link").inner == Inner(high=7)
    assert built(group(Outer, rate_bps=1, inner={"high": 7}), "link").inner == Inner(high=7)
    with pytest.raises(ConfigError, match=r"^link\.inner\.hihg = 7: .* did you mean 'high'\?$"):
        built(group(Outer, rate_bps=1, inner={"hihg": 7}), "link")
    with pytest.raises(ConfigError, match=r"^link\.inner\.low = 5 exceeds high = 1$"):
        built(group(Outer, rate_bps=1, inner=group(Inner, low=5)), "link")


def test_a_component_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"link\.inner\._target_ = .*: makes a Plain"):
        built(group(Outer, rate_bps=1, inner=group(Plain, size=1)), "link")
    with pytest.raises(ConfigError, match=r"has no words; see .*\.Speaks"):
        built(group(Plain, size=1), "who", Speaks)
    assert built(group(Inner), "who", Speaks).words() == 1


def test_what_is_read_later_is_left_as_it_is():
    later = group(Inner, nonsense=1)
    assert built(group(Outer, rate_bps=1, later=later), "link").later == later


def test_a_component_among_settings_may_wait_for_its_facts():
    @dataclass(frozen=True)
    class Holder:
        estimator: Annotated[Component, Facts(("rate_bps",))]

    held = of_class(Holder, {"estimator": group(Outer, weight=0.25)}, "")()
    assert held.estimator(rate_bps=9.0) == Outer(9.0, weight=0.25)
    with pytest.raises(ConfigError, match=r"^estimator\.weight = 0: should be greater than 0$"):
        of_class(Holder, {"estimator": group(Outer, weight=0)}, "")


@pytest.mark.parametrize("value", [3, "text", [1, 2]])
def test_classes_without_annotations_take_what_they_are_given(value: object):
    assert built(group(Plain, size=value), "it").size == value
    with pytest.raises(ConfigError, match=r"it\.nmae = x: .* did you mean 'name'\?"):
        built(group(Plain, size=value, nmae="x"), "it")


def test_a_class_that_takes_anything_is_given_anything():
    assert built(group(Open, size=1, colour="red"), "it").others == {"colour": "red"}
    with pytest.raises(ConfigError, match=r"it\.size = 0: should be greater than 0"):
        built(group(Open, size=0, colour="red"), "it")


def test_errors_of_a_class_keep_their_kind_and_name_the_key():
    with pytest.raises(LinkError, match=r"^link\.size = 3 is nothing for a link$"):
        built(group(refuses, size=3), "link")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("fast", r"^it = fast: a component is a class and its fields"),
        ({}, r"^it = \{\}: a component is a class"),
        ({"_target_": "no.such.Class"}, r"^it\._target_ = no\.such\.Class: cannot be imported"),
        ({"_target_": "math.nothing"}, r"cannot be imported: .*nothing"),
        ({"_target_": "Nameless"}, r"cannot be imported"),
        ({"_target_": "math.pi"}, r"is a float, not a class"),
        ({"_target_": "os.system", "command": "false"}, r"of Python's own library"),
        ({"_target_": "builtins.eval", "source": "1"}, r"of Python's own library"),
        ({"_target_": "subprocess.Popen", "args": "false"}, r"of Python's own library"),
    ],
)
def test_what_is_no_class_is_refused(given: object, words: str):
    with pytest.raises(ConfigError, match=words):
        built(given, "it")


@pytest.mark.parametrize(
    ("how", "words"),
    [("key", "KeyError: 'x'"), ("run", "StopIteration: "), ("io", "FileNotFoundError: .*no/file")],
)
def test_a_class_that_breaks_is_named_with_its_line(how: str, words: str):
    rule = rf"^it: .*Breaks cannot be made: {words}.* \(.*\.py, line \d+\)$"
    with pytest.raises(ConfigError, match=rule):
        built(group(Breaks, how=how), "it")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:", "SyntaxError: "),
        ("1 / 0", r"ZeroDivisionError: .*broken_module\.py, line 1\)"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_module_that_breaks_is_refused(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "broken_module.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"^it\._target_ = .*: cannot be imported: {words}"):
        built({"_target_": "broken_module.Class"}, "it")


@pytest.mark.parametrize("value", [None, 5, {"high": 1}])
def test_where_a_component_is_wanted_no_plain_value_will_do(value: object):
    @dataclass(frozen=True)
    class Needs:
        speaker: Speaks

    with pytest.raises(ConfigError, match=r"^it\.speaker = .*: a component is a class"):
        of_class(Needs, {"speaker": value}, "it")


@pytest.mark.parametrize(
    ("target", "low"), [(Plain, {"size": 1}), (Open, {"size": 1}), (Inner, {})]
)
def test_a_component_may_stand_where_no_class_is_named(target: type, low: dict[str, int]):
    assert isinstance(built(group(Plain, size=group(target, **low)), "it").size, target)


@pytest.mark.parametrize("absent", [None, "speaker"])
def test_a_component_that_may_be_left_out_is_left_out(absent: object):
    given = group(Outer, rate_bps=1, speaker=None if absent is None else group(Inner))
    speaker = built(given, "link").speaker
    assert speaker is None if absent is None else speaker.words() == 1


def test_what_may_be_left_out_must_fit_where_it_is_given():
    with pytest.raises(ConfigError, match=r"link\.speaker\._target_ = .*Plain: has no words"):
        built(group(Outer, rate_bps=1, speaker=group(Plain, size=1)), "link")
