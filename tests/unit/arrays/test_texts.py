"""Ids, labels and sources: one text for one thing, whatever type it came in."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fct.arrays import arrow, texts
from fct.errors import BadInput

BIG = [2**53, 2**53 + 1, 2**63 - 1]
UUIDS = [uuid.UUID(int=one) for one in (1, 2**100, 2**128 - 1)]


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array(["a", "", "é\u2028"]), ["a", "", "é\u2028"]),
        (pa.array(["a", None, "a"], pa.large_string()).dictionary_encode(), ["a", None, "a"]),
        (pa.array(["a", "b", "c"], pa.string_view()), ["a", "b", "c"]),
        (pa.array(BIG, pa.int64()), [str(one) for one in BIG]),
        (pa.array([2**64 - 1, None, 0], pa.uint64()), [str(2**64 - 1), None, "0"]),
        (pa.array([one.bytes for one in UUIDS], pa.uuid()), [str(one) for one in UUIDS]),
        (pa.array([Decimal(10**37), Decimal(-3), None], pa.decimal128(38, 0)), [str(10**37), "-3", None]),
        (pa.array([3.0, None, 2.0**53 - 1], pa.float64()), ["3", None, str(2**53 - 1)]),
        (pa.nulls(3), [None, None, None]),
        (pa.chunked_array([pa.array([1]), pa.array([2, 3])]), ["1", "2", "3"]),
    ],
)
def test_what_has_an_exact_text_gets_it(column: pa.Array, wanted: list[str | None]) -> None:
    assert arrow.texts("ids", column, "t") == wanted


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([one.bytes for one in UUIDS], pa.binary(16)), r"fixed_size_binary\[16\].*str\(uuid.UUID\(bytes=…\)\)"),
        (pa.array([b"a", b"b"]), "binary.*cast to text"),
        (pa.array([1.5]), "no exact text; got .*1.5"),
        (pa.array([2.0**53]), "large whole numbers fall together in floats"),
        (pa.array([2.0**24], pa.float32()), "cast to int64 or text"),
        (pa.array([float("nan")]), "NaN"),
        (pa.array([Decimal("1.5")]), "decimal.*cast to text"),
        (pa.array([True]), "bool.*cast to text"),
        (pa.array([datetime.date(2026, 1, 1)]), "date32.*cast to text"),
        (pa.array([["a"]]), "list.*cast to text"),
        (pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], "i4")), pa.py_buffer(b"\xff")]), "no UTF-8"),
    ],
)
def test_what_has_none_is_refused_with_the_cast(column: pa.Array, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        arrow.texts("ids", column, "t")


def test_arrays_follow_the_same_rule() -> None:
    for values, wanted in (
        (np.array(BIG), [str(one) for one in BIG]),
        (np.array([2**64 - 1], dtype="u8"), [str(2**64 - 1)]),
        (np.array(["é".encode(), b"b"]), ["é", "b"]),
        (np.array([3.0, -1.0]), ["3", "-1"]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
    ):
        assert texts.of_array("ids", values).tolist() == wanted
    for values in (
        np.array([b"\xff"]),
        np.array([1.5]),
        np.array([2.0**53]),
        np.array([2049.0], "f2"),
        np.array([True]),
        np.array([b"\0" * 15 + b"\1"], "V16"),
        np.array(["2026-01-01"], "M8[D]"),
        np.array([1, "a"], dtype=object),
        np.ones((2, 2), dtype=int),
    ):
        with pytest.raises(BadInput):
            texts.of_array("ids", values)


def test_two_columns_are_compared_as_one_kind() -> None:
    both = texts.alike("labels", np.array([5, -1, 7]), np.array(["5", "-1", ""]))
    assert both[0].tolist() == ["5", "", "7"] and both[1].tolist() == ["5", "-1", ""]
    both = texts.alike("ids", np.array([2**60], dtype="i8"), np.array([2**60 + 1], dtype="u8"))
    assert both[0][0] != both[1][0]
    both = texts.alike("labels", np.array([1.0, 2.0]), np.array([2, 3]))
    assert both[0].tolist() == [1, 2] and both[0].dtype.kind == "i"
    with pytest.raises(BadInput, match="no exact text"):
        texts.alike("labels", np.array([0.5]), np.array([0.5]))


def test_a_text_with_nul_or_of_a_length_that_all_rows_would_pay_for_is_refused() -> None:
    assert texts.array("ids", ["a", None, "b" * 500]).tolist() == ["a", "", "b" * 500]
    assert texts.array("ids", []).shape == (0,)
    with pytest.raises(BadInput, match="without NUL.*row 1"):
        texts.array("ids", ["a", "a\0"])
    with pytest.raises(
        BadInput, match=r"too long; got 1,000,000 characters, for which all 11,008 rows together would take 44\.0 GB; in row 7"
    ):
        texts.array("labels", ["x"] * 7 + ["y" * 10**6] + ["x"] * 11_000)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("text", "point"), [("\ud800x", "U\\+D800"), ("x\udfff", "U\\+DFFF"), ("a\0b", "U\\+0000"), (None, "U\\+110005")])
def test_texts_of_what_is_no_character_or_is_cut_off_are_refused_by_row(text: str | None, point: str, order: str) -> None:
    points = np.array([[97, 98, 0], [0x110005, 0, 0]], dtype="u4")
    values = np.array(["ab", text]) if text else points.view("<U3")[:, 0]
    with pytest.raises(BadInput, match=f"without NUL; got {point}; in row 1"):
        texts.of_array("labels", values.astype(values.dtype.newbyteorder(order)))
    for given in [] if text is None else [values.tolist(), np.array(values.tolist(), dtype=object)]:
        with pytest.raises(BadInput, match="without NUL.*row 1"):
            texts.array("labels", given) if isinstance(given, list) else texts.of_array("labels", given)
    fine = np.array(["", "\ue000\ud7ff", "\U0010ffff"])
    assert texts.of_array("labels", fine.astype(fine.dtype.newbyteorder(order))).tolist() == fine.tolist()
    assert texts.of_array("labels", fine[:0]).tolist() == [] and texts.of_array("labels", fine[:1]).tolist() == [""]


def test_bytes_with_nul_are_refused_too() -> None:
    with pytest.raises(BadInput, match="without NUL"):
        texts.of_array("ids", np.array([b"a", b"a\0b"]))


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeffa\u2028b\r\n\x0cc\x85\n\nlast".encode())
    assert texts.lines("ids", path) == ["a\u2028b", "\x0cc\x85", "", "last"]
    path.write_bytes(b"a\nb\n")
    assert texts.lines("ids", path) == ["a", "b"]
    path.write_bytes(b"\xff")
    for place in (path, tmp_path / "none"):
        with pytest.raises(BadInput, match="ids cannot be read"):
            texts.lines("ids", place)
