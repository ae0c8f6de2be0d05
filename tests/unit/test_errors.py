import pytest

from fct.errors import BadInput, FctError, LockHeld, NotPermitted, OperationFailed


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
