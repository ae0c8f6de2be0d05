"""What a gate declares is what it does."""

from dataclasses import fields
from string import Formatter

import pytest
from gates_sample import JUDGED, MADE_UP, live, values

from fct.errors import BadInput
from registry.verdicts import declaration
from registry.verdicts.declaration import declared, gallery_gates, sample_gates
from registry.verdicts.names import GATES
from registry.verdicts.settings import GateSettings

KEYS = {field.name for field in fields(GateSettings)} - {"must_apply"}


class Noted:
    """The bounds, and which of them were read."""

    def __init__(self):
        self.read = set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(MADE_UP, name)


def test_gates_are_in_the_order_of_a_verdict_and_new_ones_after_those_of_their_kind():
    assert [gate for gate in declared() if gate in JUDGED] == list(JUDGED)
    assert [*sample_gates(), *gallery_gates()] == list(declared()) and set(declared()) == set(GATES)
    for kind in (sample_gates(), gallery_gates()):
        places = [gate.place for gate in kind.values()]
        named = [place for place in places if place != declaration.LAST]
        assert places == sorted(places) and len(set(named)) == len(named)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_says_all_that_people_are_told(name):
    gate = declared()[name]
    assert gate.question[0].isupper() and gate.question.endswith("?") and gate.measured and gate.passes
    assert gate.title[0].islower() or gate.title.startswith("h "), "a title stands after a sign"
    assert not gate.title.endswith(".") and "|" not in gate.measured + gate.passes + gate.question
    told = {key for text in (gate.measured, gate.passes) for _, key, *_ in Formatter().parse(text) if key is not None}
    assert told <= set(gate.keys) <= KEYS


def test_every_bound_belongs_to_a_gate():
    assert {key for gate in declared().values() for key in gate.keys} == KEYS


@pytest.mark.parametrize("name", JUDGED)
def test_a_gate_reads_the_bounds_that_it_declares_and_no_other(name):
    noted, checks = Noted(), live()
    if name in sample_gates():
        assert sample_gates()[name].measure(values(), noted, 0)
    else:
        assert gallery_gates()[name].measure(({"rollback": checks.rollback} | checks.found)[name], noted)
    assert noted.read <= set(declared()[name].keys)


def test_a_gate_that_must_apply_is_one_that_is_declared():
    raw = {field.name: getattr(MADE_UP, field.name) for field in fields(GateSettings)}
    assert GateSettings(**(raw | {"must_apply": tuple(declared())})).must_apply == tuple(declared())
    with pytest.raises(BadInput, match="must_apply names a gate that does not exist.*canary.*worthit"):
        GateSettings(**(raw | {"must_apply": ("canary", "worthit")}))
    with pytest.raises(BadInput, match="random_orders has an unusable value"):
        GateSettings(**(raw | {"random_orders": 4}))
