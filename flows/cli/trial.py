"""The front door: two files of vectors in, one page and ten lines out. No server, no registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import VECTORS, Json, give, say
from flows.cli.inputs import SkipBad, read, warn


def try_(
    old: Annotated[
        str, typer.Option(help="OLD.npy: vectors of the old model. Every input can also be table.parquet::column or table.lance::column.")
    ],
    new: Annotated[str, typer.Option(help="NEW.npy: vectors of the new model. Its rows are the same items in the same order.")],
    side: Annotated[str | None, typer.Option(help="SIDE.npy: side-information of the same items. The page shows what it adds.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="L.npy: the class of each item. A negative number or an empty string means unknown.")
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help="S.npy: sources. Rows of one source stay together in the split and do not find each other.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="I.npy: ids. Rows with equal ids are one item and do not find each other.")] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images, named by id or, without --ids, in sorted order. It can also be a text file with one path a line."
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder to which the list of images, or links, may point. It can be given several times."),
    ] = None,
    head: Annotated[
        Path | None, typer.Option(help="HEAD.safetensors: the new model's classifier. Labels are then row numbers of the head.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Distance metric: cosine or l2.")] = "cosine",
    method: Annotated[str, typer.Option(help="auto, or a method of `fct fit`.")] = "auto",
    gallery_rows: Annotated[
        int | None, typer.Option(min=1, help="Number of items in your real gallery. The default is the number of rows given.")
    ] = None,
    seconds_per_million: Annotated[float, typer.Option(min=0, help="Seconds that you need to embed one million items.")] = 0.0,
    price_per_million: Annotated[float, typer.Option(min=0, help="Price of embedding one million items, in any currency.")] = 0.0,
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Seed of the split, the fit and the intervals.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    out: Annotated[Path, typer.Option("--out", help="Path of the HTML page. It is written atomically.")] = Path("trial.html"),
    json: Json = False,
) -> None:
    """Measure whether an upgrade is worth it and how much of the gain you get without re-embedding. It takes about a minute and needs only vectors.

    Example: fct try --old old.npy --new new.npy --labels labels.npy
    """
    from fct.arrays.files import whole_file
    from fct.arrays.given import place
    from fct.release.folder import read_head
    from fct.sample import trying
    from fct.search import copies
    from registry.report import trial as report
    from registry.report import trial_answers, trial_page

    place(out)  # before a minute of work, not after it
    arrays, left = read({"old": old, "new": new, "side": side, "labels": labels, "sources": sources, "ids": ids}, skip_bad)
    walked = trial_page.admitted(images, root or ()) if images is not None else None
    files = trial_page.pictures(images, len(arrays["old"]), arrays.get("ids"), walked) if images is not None else None
    found = trying.run(
        **arrays,
        head=read_head(head) if head is not None else None,
        metric=metric,
        method=method,
        seed=seed,
        device=device,
        progress=lambda words: say(f"{words} …"),
    )
    warn([*copies.warnings(0.0, doubtful=found.given["doubtful"]), *found.h.about["warnings"]])
    costs = trial_answers.Costs(gallery_rows, seconds_per_million, price_per_million)
    page = trial_page.html(found, costs, files, walked)
    with whole_file(out) as part:
        part.write_text(page, encoding="utf-8")
    give(
        report.to_json(found, costs, str(out)) | ({"left_out": left} if skip_bad else {}),
        json,
        *report.summary(found, report.answers(found, costs), str(out)),
    )


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("try", rich_help_panel=VECTORS)(try_)
