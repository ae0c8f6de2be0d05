"""A method is one file with one spec: what is found, and that reading it is light."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fct.forward import METHODS, ladder, methods
from fct.forward.inputs import check
from fct.forward.methods import KNOWN
from fct.forward.settings import CLOSED, LEARNED, PUBLISHED
from fct.forward.spec import USES

FOLDER = Path(methods.__file__).parent
SHIPPED = ["none", "mean-shift", "procrustes", "ridge", "low-rank", "fct", "fastfill", "contrastive", "mixed", "fastfill-pool"]
ONE = """
from fct.forward.spec import Closed

METHOD = Closed(name="halved", rung=25, help="It halves.", h="x/2", minimises="nothing", source="this test", fit=lambda material, without: None)
"""


def test_every_file_is_a_method_of_its_name_and_its_own_rung():
    assert {f"{name.replace('-', '_')}.py" for name in KNOWN} == {path.name for path in FOLDER.glob("*.py")} - {"__init__.py"}
    rungs = [method.rung for method in KNOWN.values()]
    assert rungs == sorted(set(rungs)), "two methods are alike simple"
    assert METHODS == CLOSED + LEARNED == tuple(KNOWN) and set(PUBLISHED) < set(LEARNED)


@pytest.mark.parametrize("method", KNOWN.values(), ids=lambda method: method.name)
def test_a_spec_is_whole(method):
    assert set(method.needs) | set(method.uses) <= set(USES)
    assert method.help.endswith(".") and method.help[0].isupper()
    assert method.h and method.minimises and method.source and "|" not in method.h + method.minimises + method.source


def test_a_file_more_is_a_method_more(tmp_path, monkeypatch):
    (tmp_path / "halved.py").write_text(ONE)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    try:
        names = [method.name for method in methods._found()]
    finally:
        sys.modules.pop("fct.forward.methods.halved", None)
    assert [name for name in names if name != "halved"] == list(METHODS)
    assert names.index("mean-shift") < names.index("halved") < names.index("procrustes")


def test_reading_the_methods_imports_nothing_heavy():
    code = "import sys, fct.forward.settings; print(sorted({'torch', 'numpy', 'torchvision', 'pydantic'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parents[2], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("labels", "head", "items", "wanted"),
    [
        (True, True, 50, ("fct", "fastfill", "contrastive", "fastfill-pool")),
        (True, False, 50, ("fct", "contrastive", "fastfill-pool")),
        (False, True, 1000, ("fastfill-pool",)),
        (False, True, 999, ()),
    ],
)
@pytest.mark.parametrize("equal", [True, False])
def test_auto_climbs_over_what_the_inputs_allow(labels, head, items, wanted, equal):
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(items, 4)), rng.normal(size=(items, 4 if equal else 5))
    weights = (rng.normal(size=(3, new.shape[1])), np.zeros(3)) if head else None
    given = check(old, new, None, np.arange(items) % 3 if labels else None, None, weights, None, None, None)
    found = [name for name in ladder._methods(given) if name in SHIPPED]
    assert found == [*(("none", "mean-shift") if equal else ()), "procrustes", "ridge", "low-rank", *wanted]
