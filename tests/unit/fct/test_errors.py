import errno
import json
import pickle
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fct.arrays.files import read_object
from fct.errors import CODES, Altered, BadInput, FctError, LockHeld, NotPermitted, OperationFailed
from registry.formats import readable, unreadable_is_altered
from registry.verdicts import canaries

ROOT = Path(__file__).parents[3]


def test_all_parts_are_joined_into_one_sentence_of_one_line():
    error = BadInput("a file is\nbroken", wanted="3 rows", got=[1, 2], where="x.npy", todo="write it\n  again")
    assert str(error) == "a file is broken; wanted 3 rows; got [1, 2]; in x.npy; write it again"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("\x1b[2J\x1b]0;x\x07", "\\x1b[2J\\x1b]0;x\\x07"),
        ("\ud800", "\\ud800"),
        ("a\u202eb", "a\\u202eb"),
        ("Größe 図 ✓", "Größe 図 ✓"),
        ("a\u200bb", "a\\u200bb"),
    ],
)
def test_what_cannot_be_seen_is_escaped(given, said):
    error = str(BadInput("a name", got=given))
    assert error == f"a name; got {said}"
    error.encode()


def test_what_is_left_out_leaves_no_trace_but_zero_is_said():
    assert str(FctError("it failed")) == "it failed"
    assert str(FctError("it failed", got=0)) == "it failed; got 0"


@pytest.mark.parametrize(("kind", "code"), [(FctError, 1), (OperationFailed, 1), (LockHeld, 1), (BadInput, 2), (NotPermitted, 3)])
def test_exit_codes_follow_the_kind_of_error(kind, code):
    assert kind("x").exit_code == code
    assert issubclass(kind, FctError)


def test_a_held_lock_is_a_failed_operation():
    assert issubclass(LockHeld, OperationFailed)


def test_the_parts_and_a_code_are_kept_as_fields():
    error = BadInput("a file is\nbroken", wanted="3 rows", got=[1, 2], where="x\x1b.npy", todo="write it\n  again")
    assert error.to_json() == {
        "code": "bad-input",
        "exit": 2,
        "sentence": "a file is broken; wanted 3 rows; got [1, 2]; in x\\x1b.npy; write it again",
        "message": "a file is broken",
        "wanted": "3 rows",
        "got": "[1, 2]",
        "where": "x\\x1b.npy",
        "todo": "write it again",
    }
    bare = OperationFailed("the disk is full", got=0, code="disk-full").to_json()
    assert (bare["code"], bare["got"], bare["wanted"], bare["todo"]) == ("disk-full", "0", None, None)


def test_they_outlive_the_way_through_another_process():
    error = pickle.loads(pickle.dumps(NotPermitted("no", wanted="yes", code="not-approved")))
    assert error.to_json() == NotPermitted("no", wanted="yes", code="not-approved").to_json()


def kinds(kind=FctError):
    return [kind, *(one for below in kind.__subclasses__() for one in kinds(below))]


def test_every_code_is_one_of_the_list_and_the_list_is_documented():
    from registry import ledger
    from registry.mlflow import releases

    sources = [path.read_text() for room in ("fct", "registry", "flows") for path in (ROOT / room).rglob("*.py")]
    used = {word for source in sources for word in re.findall(r'\bcode="([^"]*)"', source)} | {kind.code for kind in kinds()}
    assert {ledger.Overtaken, releases.Missing} <= set(kinds())
    assert used == set(CODES)
    table = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (.*) \|$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert {name: said for name, _, said in table} == CODES
    exits = {kind.code: kind.exit_code for kind in kinds()}
    assert all(exits.get(name, int(number)) == int(number) for name, number, _ in table)


def test_only_what_cannot_be_read_was_altered_and_a_fault_of_ours_stays_one():
    said = "the candidate 2 was altered or deleted since it was measured: a file is missing"
    with pytest.raises(Altered, match=said) as caught, unreadable_is_altered("the candidate 2"):
        raise BadInput("a file is missing")
    assert (caught.value.code, caught.value.exit_code) == ("altered", 3)
    for fault in (TypeError("ours"), KeyError("ours"), AttributeError("ours"), StopIteration(), FileNotFoundError("ours")):
        with pytest.raises(type(fault)), unreadable_is_altered("the candidate 2"):
            raise fault
    with pytest.raises(BadInput, match="later version"), unreadable_is_altered("the candidate 2"):
        readable("revision", {"format": 99}, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "spaces/v2-ab", "v1"]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(["1", "items", "rows", "folder", "x"]), some, max_size=3),
    max_leaves=8,
)
PROMISE = {"promised": {"rate": 1.0, "mean_cosine": 0.9, "scale": 1.0, "k": 5, "others": 20}}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, key=st.sampled_from(["promised", *PROMISE["promised"]]))
def test_a_promise_of_another_form_is_bad_input_and_never_a_fault(tmp_path, value, key):
    told = {"promised": value} if key == "promised" else {"promised": PROMISE["promised"] | {key: value}}
    (tmp_path / "canaries.json").write_text(json.dumps(told))
    try:
        assert asdict(canaries.read_promise(tmp_path / "canaries.json")) == told["promised"]
    except BadInput:
        return


def test_a_whole_one_is_read(tmp_path):
    (tmp_path / "canaries.json").write_text(json.dumps(PROMISE))
    assert asdict(canaries.read_promise(tmp_path / "canaries.json")) == PROMISE["promised"]


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "5", "null", '{"a": NaN}', '{"a": Infinity}', "[" * 100_000, '{"a": 1' + "0" * 5000 + "}", "\udcff"]
)
def test_a_file_that_is_no_object_of_plain_json_is_bad_input(tmp_path, text):
    (tmp_path / "x.json").write_text(text, errors="surrogateescape")
    with pytest.raises(BadInput):
        read_object(tmp_path / "x.json")


def ran(capsys, monkeypatch, *args):
    from flows.cli import main

    monkeypatch.setattr(sys, "argv", ["fct", *map(str, args)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def test_a_command_that_fails_gives_its_error_as_json_where_that_was_asked_for(tmp_path, capsys, monkeypatch):
    asked = ("evaluate", "--query", tmp_path / "q.npy", "--gallery", "g", "--query-labels", "l", "--gallery-labels", "l")
    code, out, err = ran(capsys, monkeypatch, *asked)
    assert (code, out) == (2, "") and err.startswith("fct: ")
    code, out, err = ran(capsys, monkeypatch, *asked, "--json")
    error = json.loads(out)["error"]
    assert code == error["exit"] == 2 and error["code"] == "bad-input" and err.strip().endswith(f"fct: {error['sentence']}")
    assert "q.npy" in error["sentence"]
    code, out, err = ran(capsys, monkeypatch, "evaluate", "--json", "--no-such")
    error = json.loads(out)["error"]
    assert (code, error["code"], error["exit"]) == (2, "usage", 2) and "--no-such" in error["message"] and "--no-such" in err


@pytest.mark.parametrize(
    ("raised", "code", "exit_code"),
    [
        (TypeError("ours"), "unexpected", 1),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (Altered("a file", where="x"), "altered", 3),
    ],
)
def test_whatever_ends_a_command_has_a_code(capsys, monkeypatch, raised, code, exit_code):
    def fails(*_):
        raise raised

    monkeypatch.setattr("flows.cli.searching.workspace", fails)
    found, out, err = ran(capsys, monkeypatch, "search", "x.png", "--json")
    error = json.loads(out)["error"]
    assert found == error["exit"] == exit_code and error["code"] == code
    assert err.strip() == f"fct: {error['sentence']}" and "Traceback" not in err
