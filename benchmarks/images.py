"""How much memory reading an image takes, for each kind of file: bytes a pixel at the height, beside what ``fct.datasets.images`` reserves.

Linux alone says it (/proc).

    python -m benchmarks.images
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fct.datasets.images import COST, MAX_UPLOADED

SIDE = 3900  # just below what is shrunk while it is unpacked
CHILD = """
import re, sys, time
from fct.datasets.images import read_image
def kib(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
path, mode = sys.argv[1:]
open("/proc/self/clear_refs", "w").write("5")  # the height so far is forgotten
before, begun = kib("VmRSS"), time.perf_counter()
read_image(path, 64, mode)
print(kib("VmHWM") - before, time.perf_counter() - begun)
"""
KINDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P",),
    "BMP": ("L", "RGB"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "AVIF": ("RGB", "RGBA"),
    "JPEG2000": ("L", "RGB", "RGBA"),
}
MORE = {"TIFF": {"compression": "tiff_lzw"}, "WEBP": {"method": 0}, "AVIF": {"speed": 10}}


def drawn(mode: str, side: int) -> Image.Image:
    """A picture with large areas and some noise, so that files are of a usual size."""
    rng = np.random.default_rng(0)
    rows = np.linspace(0, 255, side, dtype=np.uint8)
    grey = np.broadcast_to(rows, (side, side)).copy()
    grey[::7] ^= rng.integers(0, 8, grey[::7].shape, dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    found = Image.fromarray(grey)
    if mode == "P":
        found = found.convert("RGB").quantize(16)
        found.info["transparency"] = 0
        return found
    return found.convert("RGBA" if mode == "LA" else mode).convert(mode)


def measured(path: Path, mode: str) -> tuple[float, float]:
    """Bytes and seconds that reading the file takes more than the process had before."""
    ran = subprocess.run([sys.executable, "-c", CHILD, str(path), mode], capture_output=True, text=True, check=True)
    grown, seconds = ran.stdout.split()
    return 1024 * int(grown), float(seconds)


def main() -> None:
    """Print the table; exit 1 where reading took more than is reserved."""
    argparse.ArgumentParser(prog="python -m benchmarks.images", description=(__doc__ or "").split("\n\n")[0]).parse_args()
    pixels, beyond = SIDE * SIDE, 0
    assert pixels <= MAX_UPLOADED
    print(f"{'file':<10}{'mode':<6}{'KiB':>9}{'bytes a pixel':>15}{'reserved':>10}{'s':>7}")
    with tempfile.TemporaryDirectory() as place:
        for kind, modes in KINDS.items():
            for mode in modes:
                path = Path(place) / f"{kind}-{mode.replace(';', '')}"
                drawn(mode, SIDE).save(path, format=kind, **MORE.get(kind, {}))
                most = max((measured(path, wanted) for wanted in ("L", "RGB")), key=lambda one: one[0])
                beyond += most[0] / pixels > COST[kind]
                print(
                    f"{kind:<10}{mode:<6}{path.stat().st_size // 1024:>9}{most[0] / pixels:>15.1f}{COST[kind]:>10}{most[1]:>7.2f}",
                    flush=True,
                )
    raise SystemExit(1 if beyond else 0)


if __name__ == "__main__":
    main()
