"""The orderings between methods: every rule can be broken, and is found broken."""

from dataclasses import replace

import pytest

from coach_exp.results.orderings import RULES, Cost, Setting, cost_rows, judged, verdict_row

# End 4, link 2, cloud 1 ms: a sum of 7, a longest stage of 4, 250 answers per second pipelined.
BASE = Cost(0.004, 0.002, 0.001, 0.007, 250.0, 0.007, 0.004, 0.004, 0.001, "a")
NAMES = (
    *("device_only", "ns", "ns_prefix", "dads_light", "dads_heavy", "jps", "jps_adjacent"),
    *("jps_path", "pipebalance", "oracle_latency", "oracle_bottleneck"),
)
SEQUENTIAL = replace(BASE, rate_its=1 / 0.007)


def setting(equal_payload: bool = True, **changed: Cost) -> Setting:
    costs = dict.fromkeys(NAMES, BASE) | {"ns_sequential": SEQUENTIAL}
    return Setting("m", 10, equal_payload, costs | changed)


def broken(one: Setting) -> set[str]:
    return {verdict.rule.words for verdict in judged([one]) if verdict.broken}


def test_methods_that_cost_the_same_break_nothing():
    assert broken(setting()) == set()
    assert [verdict.looked_at for verdict in judged([setting()])] == [1] * len(RULES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dads_light": replace(BASE, link_s=0.003)}, "dads_light has the least"),
        ({"ns_prefix": replace(BASE, link_s=0.001)}, "T_e + T_t + T_c: dads_light ≤"),
        ({"ns": replace(BASE, link_s=0.0)}, "T_e + T_t + T_c: dads_light ≤"),
        ({"dads_heavy": replace(BASE, end_s=0.0121)}, "longest stage: best cut ≤ dads_heavy"),
        ({"dads_heavy": replace(BASE, end_s=0.0039)}, "longest stage: best cut ≤ dads_heavy"),
        ({"dads_heavy": replace(BASE, end_s=0.0041)}, "longest stage: dads_heavy ≤ dads_light"),
        ({"jps": replace(BASE, end_s=0.0041)}, "end and link: jps ≤ jps_adjacent"),
        ({"jps_path": replace(BASE, end_s=0.0041)}, "end and link: jps_path ≤"),
        ({"pipebalance": replace(BASE, rate_its=450.0)}, "answers per second ≤ 3 /"),
        ({"dads_heavy": replace(BASE, rate_its=100.0)}, "dads_heavy answers"),
        ({"jps": replace(BASE, rate_its=100.0)}, "jps answers"),
        ({"pipebalance": replace(BASE, end_s=0.003)}, "longest stage: oracle_bottleneck"),
        ({"ns": replace(BASE, latency_s=0.006)}, "one task alone: oracle_latency"),
    ],
)
def test_every_rule_can_be_broken(changes, words):
    found = broken(setting(**changes))
    assert any(each.startswith(words) for each in found), found


def test_a_slow_cloud_and_other_payloads_are_not_spoken_of():
    slow_cloud = replace(BASE, rate_its=100.0, cloud_s=0.02)
    assert not any(words.startswith("jps answers") for words in broken(setting(jps=slow_cloud)))
    cheaper = replace(BASE, latency_s=0.006)
    assert broken(setting(equal_payload=False, ns=cheaper)) == set()


def test_a_broken_rule_names_its_setting():
    wrong = setting(dads_light=replace(BASE, link_s=0.003))
    verdict = judged([setting(), wrong])[0]
    assert verdict_row(verdict)[1:] == ["2", "1", "m 10 Mbps"]


def test_a_method_that_could_not_run_leaves_a_dash_and_its_rules_out():
    without = Setting("m", 20, True, {"ns": BASE})
    assert cost_rows([setting(), without])[0] == ["device_only", "7.0 ms, 4.0 ms, 250.0 it/s", "–"]
    assert judged([without])[0].looked_at == 0
