"""Columns of Arrow tables as arrays: numbers, vectors, texts. What a row lacks is said by its kind, never passed over.

Legend: N rows, D dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from fct.arrays import flaws
from fct.arrays import texts as exact
from fct.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

NULL = "a null value"
PARSE = "texts such as '[0.1, …]' and bytes are to be parsed into lists of float32 first (json.loads, numpy.frombuffer), bfloat16 cast to float32"


def texts(name: str, values: pa.Array, where: object) -> list[str | None]:
    """N texts by the rule of :mod:`fct.arrays.texts`; null stays None.

    Raises:
        BadInput: as :func:`fct.arrays.texts.of_array`; decimals with fractions, bytes, dates, lists; texts that are no UTF-8.
    """
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if isinstance(kind, pa.UuidType):
        return [None if one is None else str(one if isinstance(one, UUID) else UUID(bytes=one)) for one in values.to_pylist()]
    if isinstance(kind, pa.BaseExtensionType):
        values, kind = values.storage, kind.storage_type
    if pa.types.is_null(kind):
        return [None] * len(values)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            return list(values.to_pylist())
        except UnicodeDecodeError as error:
            raise exact.refused(name, "bytes that are no UTF-8", exact.CASTS["bytes"]) from error
    if pa.types.is_integer(kind):
        return [None if one is None else str(one) for one in values.to_pylist()]
    if pa.types.is_decimal(kind):
        found = values.to_pylist()
        if all(one is None or one == one.to_integral_value() for one in found):
            return [None if one is None else str(int(one)) for one in found]
        raise exact.refused(name, kind, exact.CASTS["other"])
    if pa.types.is_floating(kind):
        there = values.is_valid().to_numpy(zero_copy_only=False)
        numbers = values.to_numpy(zero_copy_only=False)
        known = iter(exact.whole(name, numbers[there]).tolist())
        return [str(next(known)) if valid else None for valid in there.tolist()]
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    raise exact.refused(f"{name} (in {where})", kind, exact.CASTS["bytes" if binary else "other"])


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds whole numbers or floats, such as labels are."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def array(name: str, values: pa.Array, where: object) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Numbers (N,) or (N, D), or texts (N,), and the rows that hold none, by kind.

    Raises:
        BadInput: another type; lists of which all are null or empty. As :func:`texts`.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if isinstance(values.type, pa.BaseExtensionType):  # a tensor of one axis, for one
        values = values.storage
    kind = values.type
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    inner = kind.value_type if lists else kind
    if not lists and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        said, null = texts(name, values, where), values.is_null().to_numpy(zero_copy_only=False)
        return exact.array(name, said), ({NULL: np.flatnonzero(null)} if null.any() else {})
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)):
        raise BadInput(
            f"{name} has a type that cannot be used", wanted="numbers, texts or lists of numbers", got=kind, where=where, todo=PARSE
        )
    there, kinds = values.is_valid().to_numpy(zero_copy_only=False), {}
    if not there.all():
        kinds[flaws.NULL if lists else NULL] = np.flatnonzero(~there)
    if not lists:
        return _numbers(values.filter(pa.array(there)), there, None), kinds
    width, good = kind.list_size if pa.types.is_fixed_size_list(kind) else 0, there
    if not pa.types.is_fixed_size_list(kind):
        lengths = np.where(there, values.fill_null([]).value_lengths().to_numpy(zero_copy_only=False), 0)
        full = lengths[lengths > 0]
        width = int(np.bincount(full).argmax()) if len(full) else 0
        good = there & (lengths == width)
        if (there & ~good).any():
            kinds[f"{flaws.LENGTH} than {width}"] = np.flatnonzero(there & ~good)
    if not width:
        raise BadInput(
            f"{name} hold no number in any row", wanted="lists of numbers", got=f"{len(values):,} rows of null or []", where=where
        )
    chosen = values if good.all() else values.filter(pa.array(good))
    numbers = chosen.flatten()
    if numbers.null_count:
        holes = numbers.is_null().to_numpy(zero_copy_only=False).reshape(-1, width).any(axis=1)
        kinds[flaws.HOLE] = np.flatnonzero(good)[holes]
    return _numbers(numbers, good, width), kinds


def _numbers(values: pa.Array, good: np.ndarray, width: int | None) -> np.ndarray:
    """(N,) or (N, width) of the ``values`` of the good rows (N,) bool; zeros where there are none."""
    found = values.to_numpy(zero_copy_only=False)
    if values.null_count:
        held = values.is_null().to_numpy(zero_copy_only=False)
        found = np.where(held, 0, found).astype(values.type.to_pandas_dtype())
    found = found if width is None else found.reshape(-1, width)
    if good.all():
        return np.asarray(found)
    out = np.zeros((len(good), *found.shape[1:]), dtype=found.dtype)
    out[good] = found
    return out
