"""What ``fct plan`` computes with what it has measured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flows.cli.gallery import spoken
from registry.upgrades import timing
from registry.upgrades.timing import Plan, slope


def test_a_slope_is_that_of_the_work_and_never_below_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    assert slope(lambda n: work(0.02 + 0.002 * n), 5, 25) == (pytest.approx(0.02), pytest.approx(0.002))
    assert slope(lambda n: work(0.03 / n), 2, 20) == (pytest.approx(0.015), 0.0)


def test_a_plan_adds_its_steps_up() -> None:
    plan = Plan("version 2", 2, {1: 5}, steps=[("embed", 1.25, "x"), ("fit", 2.5, "y")])
    assert plan.seconds == 3.75 and plan.to_json()["seconds"] == 3.8 and plan.to_json()["steps"][1] == ["fit", 2.5, "y"]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (240, "4 min"), (7000, "117 min"), (9000, "2.5 h")])
def test_a_duration_for_people(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
