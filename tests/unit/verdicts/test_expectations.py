import math
from dataclasses import replace

import numpy as np
import pytest

from fct.arrays import digests
from fct.errors import BadInput
from registry.verdicts.deciding import decide
from registry.verdicts.expectations import check_batch, check_measurements
from registry.verdicts.measurement import Measurement

BASE = Measurement("known top-1", 0.5, 0.3, 0.7, 100, 0.3, gate="worth_it")
CASES = {
    "lower on the bound": (BASE, True),
    "lower on a strict bound": (replace(BASE, strict=True), False),
    "lower just above a strict bound": (replace(BASE, strict=True, lower=float(np.nextafter(0.3, 1))), True),
    "lower just below": (replace(BASE, lower=float(np.nextafter(0.3, 0))), False),
    "value is tested, not lower": (replace(BASE, test="value", lower=0.0), True),
    "upper is tested": (replace(BASE, test="upper", upper=0.3, most=True), True),
    "upper just above": (replace(BASE, test="upper", upper=float(np.nextafter(0.3, 1)), most=True), False),
    "at most, on the bound": (replace(BASE, test="value", value=0.3, most=True), True),
    "at most, above": (replace(BASE, test="value", value=0.31, most=True), False),
    "at most, strict, on the bound": (replace(BASE, test="value", value=0.3, most=True, strict=True), False),
    "negative": (replace(BASE, lower=-0.02, bound=-0.02), True),
    "undefined": (replace(BASE, value=math.nan, lower=math.nan, upper=math.nan), False),
    "minus infinity": (replace(BASE, lower=-math.inf), False),
    "does not apply": (replace(BASE, applies=False, lower=0.9), False),
}


@pytest.fixture(scope="module")
def checked():
    """All cases in one suite; the subject tells them apart."""
    return check_measurements([replace(m, subject=name) for name, (m, _) in CASES.items()])


@pytest.mark.parametrize("name", CASES)
def test_great_expectations_decides_with_the_bound(checked, name):
    m, wanted = CASES[name]
    assert checked[0][replace(m, subject=name).key] is wanted


def test_the_suite_has_one_expectation_a_measurement_with_its_bound_and_its_gate(checked):
    expectations = checked[1]["expectations"]
    assert len(expectations) == len(CASES) - 3
    by_column = {e["kwargs"]["column"]: e for e in expectations}
    strict = by_column["worth_it:_lower_on_a_strict_bound"]
    assert strict["kwargs"]["min_value"] == 0.3 and strict["kwargs"]["strict_min"] is True
    assert strict["meta"]["gate"] == "worth_it" and strict["meta"]["tested"] == "lower"
    assert by_column["worth_it:_at_most,_above"]["kwargs"]["max_value"] == 0.3


def test_the_suite_says_the_same_in_the_same_words_twice(checked):
    again = check_measurements([replace(m, subject=name) for name, (m, _) in CASES.items()])
    assert digests.of_json(again[1]) == digests.of_json(checked[1])
    other = check_measurements([replace(BASE, bound=0.31)])
    assert digests.of_json(other[1]) != digests.of_json(check_measurements([BASE])[1])


def test_a_strict_bound_that_is_met_exactly_is_not_passed():
    m = replace(BASE, strict=True, lower=0.3)
    assert decide([m], check_measurements([m])[0])[0].outcome == "inconclusive"
    certain = replace(m, value=0.3, upper=0.3)
    assert decide([certain], check_measurements([certain])[0])[0].outcome == "refused"
    assert decide([BASE], check_measurements([BASE])[0])[0].outcome == "passed"


def test_nothing_to_ask_is_answered():
    absent = replace(BASE, applies=False)
    found, suite = check_measurements([absent])
    assert found == {absent.key: False} and suite["expectations"] == []


def batch(n=20, dim=4):
    return np.array([f"item-{i}" for i in range(n)], dtype=object), np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)


def ask(ids, phi, **changes):
    return check_batch("gallery", ids, phi, **{"dim": 4, "fingerprint": "abc", "found_fingerprint": "abc", **changes})


def test_a_good_batch_passes_and_its_suite_is_the_same_twice():
    first, again = ask(*batch()), ask(*batch())
    assert first["rows"] == 20 and first["median_norm"] > 0
    assert digests.of_json(first) == digests.of_json(again)


def repeated():
    ids, phi = batch()
    ids[3] = ids[4]
    return ids, phi


def missing():
    ids, phi = batch()
    ids[3] = None
    return ids, phi


def spoilt(value):
    ids, phi = batch()
    phi[5] = value
    return ids, phi


@pytest.mark.parametrize(
    ("given", "changes", "words"),
    [
        (repeated(), {}, "expect_column_values_to_be_unique on id"),
        (missing(), {}, "expect_column_values_to_not_be_null on id"),
        (batch(), {"dim": 5}, "on dimension"),
        (spoilt(np.nan), {}, "on finite"),
        (spoilt(np.inf), {}, "on finite"),
        (spoilt(0.0), {}, "on norm"),
        (spoilt(1e4), {}, "on norm"),
        (batch(), {"found_fingerprint": "other"}, "on fingerprint"),
    ],
)
def test_a_batch_that_is_not_what_it_should_be_is_refused_by_what_failed(given, changes, words):
    with pytest.raises(BadInput, match=words):
        ask(*given, **changes)


def test_all_that_failed_is_named_at_once():
    ids, phi = repeated()
    with pytest.raises(BadInput, match=r"on id .*on dimension .*on fingerprint"):
        ask(ids, phi, dim=5, found_fingerprint="other")
