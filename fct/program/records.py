"""Records of a torch.export archive: read whole, and refused by name where one is not JSON or raw numbers."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from pathlib import Path

from fct.errors import BadInput
from fct.program import graph

MOST_RECORDS, MOST_NAMES = 8192, 1 << 19  # of an archive; they go through a header of fct.program.sandbox.wire, together
_JSON = re.compile(r"(models/[^/]+|data/(weights|constants)/[^/]+_config)\.json")
_RAW = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_PLAIN = {"archive_format", "archive_version", "byteorder", "version", ".data/version", ".data/serialization_id"}
_SAMPLES = re.compile(r"data/sample_inputs/[^/]+\.pt")  # pickles that torch writes beside; nobody reads them
_PICKLE_OPCODE = b"\x80"


def records_of(path: Path) -> dict[str, bytes]:
    """Name without the archive's own first folder → bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) > MOST_RECORDS or len(json.dumps(names)) > MOST_NAMES:
                wanted = f"at most {MOST_RECORDS} records, and {MOST_NAMES} characters for their names"
                raise BadInput("the program has too many records, or too long names", wanted=wanted, got=len(names), where=path)
            # zip readers disagree on which of two equal names counts, so that one would check what the other does not load
            if len(set(names)) < len(names):
                raise BadInput("the program holds a record twice", got=next(name for name in names if names.count(name) > 1), where=path)
            if len({name.partition("/")[0] for name in names}) > 1 or not all("/" in name for name in names):
                raise BadInput(
                    "the program's records are not in one folder", got=sorted({name.partition("/")[0] for name in names})[:4], where=path
                )
            # torch stores records as they are; what unpacks to more than the file is not its work
            if (
                any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
                or sum(info.file_size for info in archive.infolist()) > path.stat().st_size
            ):
                raise BadInput("the program's records are compressed", wanted="records as torch.export stores them", where=path)
            return {name.split("/", 1)[1]: archive.read(name) for name in names if not name.endswith("/")}
    except FileNotFoundError as error:
        raise BadInput("the program is missing", wanted=path.name, where=path.parent) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise BadInput("the program is not a readable .pt2 archive", got=str(error), where=path) from error


def _refuse(path: Path, record: str, reason: str) -> BadInput:
    return BadInput(
        f"the program holds {reason}",
        got=record,
        where=path,
        todo="export it anew with torch.export; pickles and compiled payloads are never loaded",
    )


def checked_records(path: Path) -> dict[str, bytes]:
    """Name → bytes of an archive's records, all of them JSON or raw numbers. BadInput as :func:`fct.program.programs.load`."""
    records = records_of(path)
    if graph.MODEL not in records:
        raise BadInput("the program is not a torch.export archive", wanted="a record models/model.json", where=path)
    for name, data in records.items():
        if name in _PLAIN or _SAMPLES.fullmatch(name) or _JSON.fullmatch(name):
            continue
        if not _RAW.fullmatch(name):
            raise _refuse(path, name, "a record of an unknown kind (a pickle or a compiled payload)")
        if (data[:1] == _PICKLE_OPCODE and data[-1:] == b".") or data[:4] == b"PK\x03\x04":
            raise _refuse(path, name, "a pickle in place of a raw tensor")
    return records
