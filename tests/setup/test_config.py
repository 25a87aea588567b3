"""Every config composes; wrong values are refused with key, value and rule."""

import pytest
from helpers.paths import CONF
from hydra import compose

from coach_exp.jobs.run import Run
from coach_exp.setup.config import validated
from coach_exp.setup.invocation import in_hydras_words
from coach_exp.types.errors import ConfigError

OPTIONS = {
    group.name: [option.stem for option in sorted(group.glob("*.yaml"))]
    for group in sorted(CONF.iterdir())
    if group.is_dir() and group.name not in ("experiment", "job")
}
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))

pytestmark = pytest.mark.usefixtures("hydra")


def test_the_defaults_are_valid():
    config = validated(compose("config"))
    assert isinstance(config.job, Run)
    assert config.bandwidth.mbps == (20, 10, 5)


@pytest.mark.parametrize("turn", range(max(map(len, OPTIONS.values()))))
def test_every_option_of_every_group_composes(turn: int):
    """Options of different groups go together, so each turn takes one of each group."""
    chosen = {group: options[turn % len(options)] for group, options in OPTIONS.items()}
    chosen["estimator"] = "ewma" if chosen["transport"] == "remote" else chosen["estimator"]
    overrides = [f"{group}={option}" for group, option in chosen.items()]
    overrides += [f"{group}.path=some.json" for group, name in chosen.items() if name == "file"]
    validated(compose("config", overrides=overrides))


@pytest.mark.parametrize("estimator", OPTIONS["estimator"])
def test_every_estimator_composes(estimator: str):
    validated(compose("config", overrides=[f"estimator={estimator}"]))


@pytest.mark.parametrize("job", sorted(path.stem for path in (CONF / "job").glob("*.yaml")))
def test_every_job_composes_or_names_the_way_out(job: str):
    raw = compose("config", overrides=[f"job={job}"])
    if job in ("table", "orderings", "study"):
        with pytest.raises(ConfigError, match="experiment=NAME"):
            validated(raw)
    else:
        assert validated(raw).job_name == job


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_its_method_can_be_built(experiment: str):
    config = validated(compose("config", overrides=[f"experiment={experiment}"]))
    assert config.built_method().name == config.method["name"]


@pytest.mark.parametrize("method", sorted(p.stem for p in (CONF / "method").glob("*.yaml")))
def test_every_method_can_be_built_and_carries_its_own_name(method: str):
    config = validated(compose("config", overrides=[f"method={method}"]))
    assert config.built_method().name == method


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bandwidth.mbps=-3", r"bandwidth\.mbps = -3: should be greater than 0"),
        ("bandwidth.mbps=abc", r"bandwidth\.mbps = abc: should be a valid number"),
        ("bandwidth.mbps=[]", r"bandwidth\.mbps = \[\]: .* at least 1 item"),
        ("bandwidth.mbps=[20,0]", r"bandwidth\.mbps = \[20, 0\]|bandwidth\.mbps.* greater than 0"),
        ("precision.bits=0", r"precision\.bits = 0: should be 1, 2, 3"),
        ("workload.tasks=0", r"workload\.tasks = 0: should be greater than 0"),
        ("planner.objective=fast", r"planner\.objective = fast: should be 'paper', 'bottleneck'"),
        ("device.slowdown=0", r"device\.slowdown = 0: should be greater than 0"),
        ("input.encoding=png", r"input\.encoding = png: should be 'uint8', 'float32'"),
        ("input.jpeg_quality=0", r"input\.jpeg_quality = 0: should be greater than or equal to 1"),
        ("input.jpeg_quality=101", r"input\.jpeg_quality = 101: should be less than or equal to"),
        ("+quantizer.kind=zip", r"quantizer\.kind is quantizer\._target_ .* now"),
        ("quantizer.header_bytes=-1", r"quantizer\.header_bytes = -1: should be greater"),
        ("t_max_ms=-1", r"t_max_ms = -1: should be greater than 0"),
        ("+typo=1", r"typo = 1: there is no such key"),
        ("estimator.weight=0", r"estimator\.weight = 0: should be greater than 0"),
        ("estimator.weight=1.5", r"estimator\.weight = 1\.5: should be less than or equal to 1"),
        ("cache.rule=eq12", r"cache\.rule = eq12: should be 'eq11' or 'fill'"),
        ("cache.limit_points=0", r"cache\.limit_points = 0: should be greater than 0"),
        ("cache.delta=1", r"cache\.delta = 1: should be less than 1"),
        ("cache.budget=guarantee", r"cache\.budget = guarantee: .* add cache\.update=none"),
        ("replan.period_s=0", r"replan\.period_s = 0: should be greater than 0"),
        ("bandwidth=file", r"bandwidth\.path.*: is not set; it must be given"),
        (
            "+bandwidth.stepp_s=1",
            r"bandwidth\.stepp_s = 1: there is no such key; did you mean 'step_s'\?",
        ),
        ("+transport.kind=carrier", r"transport\.kind is transport\._target_ .* now"),
        ("transport.port=65536", r"transport\.port = 65536: should be less than or equal to 65535"),
        ("transport.host=''", r"transport\.host = : String should have at least 1 character"),
        (
            "transport.replay_s=-1",
            r"transport\.replay_s = -1: should be greater than or equal to 0",
        ),
        ("transport.answer_s=0", r"transport\.answer_s = 0: should be greater than 0"),
        (
            "transport.send_buffer_kib=0",
            r"transport\.send_buffer_kib = 0: should be greater than 0",
        ),
        ("transport.max_clients=0", r"transport\.max_clients = 0: should be greater than 0"),
        ("transport.tls_key=k.pem", r"transport: .* give both transport\.tls_certificate and"),
        ("+transport.token=abc", r"transport\.token = abc: .* did you mean 'token_file'\?"),
        ("compute=dead", r"compute = dead: should be 'profile' or 'live'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_rule(override: str, message: str):
    raw = compose("config", overrides=[override])
    with pytest.raises(ConfigError, match=message):
        validated(raw)


def test_all_wrong_values_are_named_at_once():
    raw = compose("config", overrides=["bandwidth.mbps=-3", "precision.bits=0"])
    with pytest.raises(ConfigError) as refused:
        validated(raw)
    assert len(str(refused.value).splitlines()) == 2


def test_a_guarantee_is_of_one_plan():
    several = ["cache.budget=guarantee", "cache.update=none", "replan=on_change"]
    with pytest.raises(ConfigError, match="speaks of one plan"):
        validated(compose("config", overrides=several))


@pytest.mark.parametrize("transport", ["remote", "loopback"])
def test_an_end_with_a_certificate_says_whom_it_trusts(transport: str):
    own = ["transport.tls_certificate=e.pem", "transport.tls_key=e.key", f"transport={transport}"]
    with pytest.raises(ConfigError, match=r"tls_authority says who signed the cloud's"):
        validated(compose("config", overrides=own))
    validated(compose("config", overrides=["job=serve", *own]))
    validated(compose("config", overrides=[*own, "transport.tls_authority=ca.pem"]))


def test_an_oracle_knows_no_link_that_is_not_shaped():
    with pytest.raises(ConfigError, match=r"transport: estimator = oracle reads the trace"):
        validated(compose("config", overrides=["transport=remote", "estimator=oracle"]))


def test_a_range_that_is_upside_down_is_refused():
    raw = compose("config", overrides=["bandwidth=random_walk", "bandwidth.low_mbps=99"])
    with pytest.raises(ConfigError, match=r"low_mbps = 99.* exceeds high_mbps"):
        validated(raw)


def test_a_clip_that_is_upside_down_is_refused():
    file = ["bandwidth=file", "bandwidth.path=some.csv", "bandwidth.clip_mbps=[5,2]"]
    with pytest.raises(ConfigError, match=r"clip_mbps = \[5, 2\]: the low end 5.* exceeds"):
        validated(compose("config", overrides=file))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("track=same_codec", "track is division now"),
        ("transport.most_s=3", "transport.most_s is transport.max_s now"),
        ("transport.most_clients=3", "transport.most_clients is transport.max_clients now"),
        ("method.patience_s=3", "method.patience_s is method.timeout_s now"),
        ("study.depths=5", "study is job.study now"),
        ("++table.title=x", r"table is job \(experiment=NAME"),
        ("planner.objective=pareto", "planner.objective=pareto is job=plan job.pareto=true now"),
        ("+data.kind=gtsrb", r"data\.kind is data\._target_"),
    ],
)
def test_an_old_key_is_answered_with_the_new_one(old: str, new: str):
    with pytest.raises(ConfigError, match=new):
        in_hydras_words([old])


def test_an_old_key_in_a_config_file_is_answered_with_the_new_one():
    raw = compose("config", overrides=["+transport.most_s=3", "+track=same_codec"])
    with pytest.raises(ConfigError, match=r"track is division now\ntransport\.most_s is"):
        validated(raw)


def test_end_and_cloud_are_one_group():
    overrides = in_hydras_words(["device=a6000", "cloud=nx", "cloud.slowdown=2"])
    config = validated(compose("config", overrides=overrides))
    assert (config.device.name, config.cloud.name, config.cloud.slowdown) == ("a6000", "nx", 2)


@pytest.mark.parametrize("given", ["cloud=nx,a6000", "+cloud=nx", "~cloud", "cloud={name: x}"])
def test_only_the_choice_of_a_cloud_is_translated(given: str):
    (translated,) = in_hydras_words([given])
    chooses = given.partition("cloud")[2][:1] == "=" and "{" not in given
    assert translated == (given.replace("cloud=", "device@cloud=") if chooses else given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cache=null", "^cache = null: is a config group, .*: semantic$"),
        ("cloud=3", "^cloud = 3: is a config group, .*: a6000, "),
        ("+experiment=true", "^experiment = true: is a config group, .*budgets"),
    ],
)
def test_a_group_takes_an_option_and_no_value(given: str, words: str):
    with pytest.raises(ConfigError, match=words):
        in_hydras_words([given])


@pytest.mark.parametrize("given", ["seed=3", "t_max_ms=null", "references=null"])
def test_a_key_takes_values(given: str):
    assert in_hydras_words([given]) == [given]
