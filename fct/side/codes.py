"""Side-information in few bits: step sizes that lose least, bits shared out over components, and codes packed into bytes.

A code of b bits is an int8 number c in −2^(b−1) … 2^(b−1) − 1 (4 bits: −8 … 7) and stands for the middle of its cell, (c + ½)·step:
with an even number of cells none of the few levels is lost, and one bit is a sign. Codes of 8 bits as :mod:`fct.side.kinds` makes them
are −127 … 127 around zero instead; they are packed and unpacked like any others.

Legend: N images, P dimensions of ψ, b bits of a code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fct.arrays.shapes import Bool, Float, Float64, Int8, Int64, UInt8
from fct.errors import BadInput

FIT_ROWS = 4096
BLOCK = 16_384

Bits = int | Sequence[int] | np.ndarray


def bits_of(bits: Bits, dims: int) -> Int64[np.ndarray, " P"]:
    """Bits of each of ``dims`` codes, (P,) int64, from one number for all or one for each.

    Raises:
        BadInput: not a whole number from 1 to 8 each, or as many as neither one nor ``dims``.
    """
    given = np.asarray(bits, dtype=None if np.size(bits) else np.int64)  # no codes have no bits
    if given.dtype.kind not in "iu" or given.ndim > 1 or (given.ndim == 1 and len(given) != dims):
        raise BadInput("the bits of the codes have the wrong form", wanted=f"one whole number, or {dims}", got=bits)
    if given.size and not (given.min() >= 1 and given.max() <= 8):
        raise BadInput("codes have from 1 to 8 bits", wanted="1 … 8", got=bits)
    return np.broadcast_to(given, (dims,)).astype(np.int64)


def packed_bytes(dims: int, bits: Bits) -> int:
    """Bytes of one packed row: ceil(Σ bits / 8)."""
    return -(-int(bits_of(bits, dims).sum()) // 8)


def pack(codes: np.ndarray, bits: Bits) -> UInt8[np.ndarray, "N B"]:
    """Codes (N, P) int8 → (N, ceil(P·bits / 8)) uint8; :func:`unpack` is the exact inverse.

    Code c is written as the unsigned number c + 2^(b−1), highest bit first, one code after the other without gaps; the last byte is
    filled with zero bits.

    Args:
        bits: of every code, or one number for each of the P codes.

    Raises:
        BadInput: not (N, P) int8, or a code that does not fit its bits.
    """
    if codes.ndim != 2 or codes.dtype != np.int8:
        raise BadInput("codes have the wrong form", wanted="(N, P) int8", got=f"{codes.shape} {codes.dtype}")
    each = bits_of(bits, codes.shape[1])
    half = (2 ** (each - 1)).astype(np.int16)
    if codes.size:
        outside = (codes.max(axis=0) >= half) | (codes.min(axis=0) < -half)
        if outside.any():
            at = int(np.argmax(outside))
            raise BadInput(
                "a code does not fit its bits",
                wanted=f"{-half[at]} … {half[at] - 1}",
                got=f"{codes[:, at].min()} … {codes[:, at].max()}",
                where=f"column {at}",
            )
    written = _written(each)
    packed = np.empty((len(codes), packed_bytes(codes.shape[1], each)), np.uint8)
    for start in range(0, len(codes), BLOCK):
        shifted = (codes[start : start + BLOCK].astype(np.int16) + half).astype(np.uint8)
        packed[start : start + BLOCK] = np.packbits(np.unpackbits(shifted, axis=1)[:, written], axis=1)
    return packed


def unpack(packed: np.ndarray, dims: int, bits: Bits) -> Int8[np.ndarray, "N P"]:
    """Rows (N, ceil(dims·bits / 8)) uint8 of :func:`pack` → codes (N, dims) int8.

    Raises:
        BadInput: not uint8, or rows of another length than ``dims`` codes of ``bits`` bits have.
    """
    each = bits_of(bits, dims)
    wanted = packed_bytes(dims, each)
    if packed.ndim != 2 or packed.dtype != np.uint8 or packed.shape[1] != wanted:
        raise BadInput("packed codes have the wrong form", wanted=f"(N, {wanted}) uint8", got=f"{packed.shape} {packed.dtype}")
    half = (2 ** (each - 1)).astype(np.int16)
    written = _written(each)
    codes = np.empty((len(packed), dims), np.int8)
    for start in range(0, len(packed), BLOCK):
        block = packed[start : start + BLOCK]
        loose = np.zeros((len(block), 8 * dims), np.uint8)
        loose[:, written] = np.unpackbits(block, axis=1, count=int(each.sum()))
        codes[start : start + BLOCK] = (np.packbits(loose, axis=1).astype(np.int16) - half).astype(np.int8)
    return codes


def _written(each: Int64[np.ndarray, " P"]) -> Bool[np.ndarray, " 8*P"]:
    """Which of the 8·P bits of P bytes are written: the lowest b of each. Bool (8·P,)."""
    return (np.arange(8) >= 8 - each[:, None]).reshape(-1)


def quantise(values: Float[np.ndarray, "N P"], step: Float[np.ndarray, " P"], bits: Int64[np.ndarray, " P"]) -> Float[np.ndarray, "N P"]:
    """(N, P) float → (N, P) float: the code of the cell that each value lies in, the outermost cells without end."""
    half = 2.0 ** (bits - 1)
    return np.clip(np.floor(values / step), -half, half - 1)


def best_steps(values: Float[np.ndarray, "N P"], bits: Bits) -> Float64[np.ndarray, " P"]:
    """The step of each column that loses least: the mean squared error between values and the middles of their cells is smallest.

    A grid over the step, then two finer ones around the best. At one bit the answer is known, 2·mean|x|.

    Args:
        values: (N, P) float, around zero. More than :data:`FIT_ROWS` rows: evenly spaced ones are used.
        bits: of every column, or one number for each.

    Returns:
        (P,) float64, above zero also where a column never varies.
    """
    rows = np.asarray(values, dtype=np.float64)[:: max(1, len(values) // FIT_ROWS)]
    each = bits_of(bits, rows.shape[1])
    widest = np.maximum(np.abs(rows).max(axis=0) / 2.0 ** (each - 1), 1e-12)  # with this step nothing is cut off
    low, high, found = np.log(widest / 40), np.log(1.2 * widest), widest
    for points in (40, 12, 12):
        least = np.full(len(found), np.inf)
        for place in np.linspace(0, 1, points):
            step = np.exp(low + place * (high - low))
            loss = (((quantise(rows, step, each) + 0.5) * step - rows) ** 2).mean(axis=0)
            found = np.where(loss < least, step, found)
            least = np.minimum(loss, least)
        width = (high - low) / (points - 1)
        low, high = np.log(found) - width, np.log(found) + width
    return found


def bits_per_component(variances: Float[np.ndarray, " P"], total_bits: int, most: int = 8) -> Int64[np.ndarray, " P"]:
    """Share ``total_bits`` out over components: reverse water-filling (Cover & Thomas, Elements of Information Theory, 10.3.3).

    One bit divides the error of a component by about four, so each bit goes to the component whose error σ²·4^(−b) is largest now.

    Args:
        variances: (P,) of the components, at least zero.
        most: bits that one component may get.

    Returns:
        (P,) int64 from 0 to ``most``; 0 means that the component is not stored. Equal variances: the first get more.

    Raises:
        BadInput: more bits than the components can take.
    """
    if not 0 <= total_bits <= most * len(variances):
        raise BadInput("these components cannot take so many bits", wanted=f"0 … {most * len(variances)}", got=total_bits)
    error = np.asarray(variances, dtype=np.float64).copy()
    given = np.zeros(len(error), np.int64)
    for _ in range(total_bits):
        at = int(np.argmax(np.where(given < most, error, -1.0)))
        given[at] += 1
        error[at] /= 4
    return given
