"""The front door: two files of vectors in, one page and ten lines out. No server, no registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import VECTORS, Json, give, say
from flows.cli.inputs import SkipBad, read, warn


def try_(
    old: Annotated[str, typer.Option(help="OLD.npy, or table.parquet::column, table.lance::column (rows, old dimensions).")],
    new: Annotated[str, typer.Option(help="NEW.npy (rows, new dimensions), row by row of the same items.")],
    side: Annotated[str | None, typer.Option(help="SIDE.npy, side-information; what it adds is measured.")] = None,
    labels: Annotated[str | None, typer.Option(help="L.npy, the class of each item; negative or empty = unknown.")] = None,
    sources: Annotated[str | None, typer.Option(help="S.npy; rows of one source are never split, and hidden from each other.")] = None,
    ids: Annotated[str | None, typer.Option(help="I.npy; rows of equal id are one item and do not find each other.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images (named by id; without ids in sorted order), or a text file, one path a line.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="HEAD.safetensors of the new model; labels are then the numbers of its rows.")] = None,
    metric: Annotated[str, typer.Option(help="cosine or l2.")] = "cosine",
    method: Annotated[str, typer.Option(help="auto, or a method of fct fit.")] = "auto",
    gallery_rows: Annotated[int | None, typer.Option(min=1, help="Items in your real gallery; by default the rows given.")] = None,
    seconds_per_million: Annotated[float, typer.Option(min=0, help="What embedding a million items takes you.")] = 0.0,
    price_per_million: Annotated[float, typer.Option(min=0, help="What embedding a million items costs you, any currency.")] = 0.0,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Of the split, the fit and the intervals.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    out: Annotated[Path, typer.Option("--out", help="The page; whole or not at all.")] = Path("trial.html"),
    json: Json = False,
) -> None:
    """Should you upgrade, and what comes back without re-embedding? About a minute, on vectors alone.

    Example: fct try --old old.npy --new new.npy --labels labels.npy
    """
    from fct import copies
    from fct import trial as trials
    from fct.files import whole_file
    from fct.given import place
    from fct.release import read_head
    from registry.report import trial as report
    from registry.report import trial_page

    place(out)  # before a minute of work, not after it
    arrays, left = read({"old": old, "new": new, "side": side, "labels": labels, "sources": sources, "ids": ids}, skip_bad)
    files = trial_page.pictures(images, len(arrays["old"]), arrays.get("ids")) if images is not None else None
    found = trials.run(
        **arrays,
        head=read_head(head) if head is not None else None,
        metric=metric,
        method=method,
        seed=seed,
        device=device,
        progress=lambda words: say(f"{words} …"),
    )
    warn([*copies.warnings(0.0, doubtful=found.given["doubtful"]), *found.h.about["warnings"]])
    costs = report.Costs(gallery_rows, seconds_per_million, price_per_million)
    page = trial_page.html(found, costs, files)
    with whole_file(out) as part:
        part.write_text(page, encoding="utf-8")
    give(
        report.to_json(found, costs, str(out)) | ({"left_out": left} if skip_bad else {}),
        json,
        "\n".join(report.summary(found, report.answers(found, costs), str(out))),
    )


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("try", rich_help_panel=VECTORS)(try_)
