"""H_DIR: a fitted h as weights.safetensors and a readable manifest.json.

The manifest says method, dimensions, settings, seed, digests of the inputs, version of the package and what was measured when it was
fitted. :meth:`fct.forward.Forward.save` writes it, :func:`fct.forward.load` checks it.
"""

from __future__ import annotations

from importlib import metadata

CARRIES, JOINS, OLDEST = 4, 5, 3  # JOINS: its gallery has several parts; 3: without a head
FORMAT = JOINS  # the newest that this code reads
DISTRIBUTION = "forward-compatible-releases"
FILES = ("weights.safetensors", "manifest.json")
READS, PARTS = "reads", ("phi", "psi", "preview")  # what h is given, in this order; earlier code did not say
KEYS = {"format", "package", "method", "dims", "network", "digest", "weights_sha256", "joined"}


def package_version() -> str:
    """The installed version of this package, or "unknown" where it runs from a plain folder."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
