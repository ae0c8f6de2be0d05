"""A new project, and the stages of dvc.yaml that need images, releases or params.yaml: data, train, embed, index, validate."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from flows.cli.common import DEFAULT, Json, Out, Params, give, say, set_threads

DEV = "A project and its development pipeline (stages of dvc.yaml)"


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new project. It is made if it does not exist.")] = Path(),
) -> None:
    """Begin a project: put a params.yaml and a dvc.yaml into a folder. You need no copy of the repository for that.

    params.yaml holds every setting with a comment. data.source in it names your images. dvc.yaml holds the development pipeline, which
    `dvc repro` runs: images, two releases, h, and the gates of the second release. If the folder has no .gitignore, it gets one for build/ and
    workspace/. If it has a params.yaml or a dvc.yaml, the command changes nothing.

    Example: fct init shop
    """
    from flows.starting import begin, repository

    names, needed = begin(folder), repository(folder)
    say(f"{folder}: {', '.join(names)}. Next:")
    say(*([] if folder.resolve() == Path.cwd() else [f"  cd {quote(str(folder))}"]))
    say("  in params.yaml, set data.source to your folder of images (root/class/image.png), and model to a name")
    say(*([f"  {needed}"] if needed else []))
    say("  dvc repro, or step by step: fct data, fct train v1, fct train v2, …")


def data(
    out: Out = Path("build/data"),
    params: Params = DEFAULT,
    npm_cache: Annotated[Path, typer.Option(help="Folder in which the icon packs are kept.")] = Path("build/npm"),
    json: Json = False,
) -> None:
    """Prepare the images. It renders the icon packs, or converts your own ImageFolder if params.yaml names one (data.source).

    Files that are not images and images that cannot be read are skipped. The summary counts them by reason.

    Example: fct data --out build/data
    """
    from fct.datasets.stage import prepare
    from registry.params import read

    settings = read(params)
    summary = prepare(settings.data, out, npm_cache)
    if json:
        give(summary, json, "")
    for note in summary["notes"]:
        say(f"note: {note}")
    say(f"{summary['images']} images in {out}; look at {out / 'contact_sheet.png'}. Next: fct train v1")


def train(
    name: Annotated[str, typer.Argument(help="Name of the version: a key of the block train in params.yaml, such as v1.")],
    data: Annotated[Path, typer.Option(help="Folder that `fct data` wrote.")] = Path("build/data"),
    out: Annotated[Path | None, typer.Option("--out", help="Release folder to write. The default is build/releases/NAME.")] = None,
    params: Params = DEFAULT,
) -> None:
    """Train the embedder of a version, prepare its side-information and write its release folder.

    Example: fct train v1 --data build/data --out build/releases/v1
    """
    from fct.errors import BadInput
    from fct.sample.making import make_release
    from registry.params import read

    settings = read(params)
    set_threads(settings)
    if name not in settings.train:
        raise BadInput(f"params.yaml has no recipe for {name}", wanted=" or ".join(settings.train), where="train")
    how = settings.train[name]
    target = out or Path("build/releases") / name
    release = make_release(
        name,
        data,
        target,
        how.embedder,
        how.side,
        size=settings.data.image_size,
        mode=settings.data.mode,
        seed=settings.seed,
        device=settings.device,
        precision=settings.fit.precision,
    )
    say(f"{target}: φ {release.dim}-d, ψ {release.side_bytes} bytes an item. Next: fct register {target}")


def embed(
    old: Annotated[Path, typer.Option(help="Release folder of the old version.")],
    new: Annotated[Path, typer.Option(help="Release folder of the new version.")],
    out: Out,
    data: Annotated[Path, typer.Option(help="Folder that `fct data` wrote.")] = Path("build/data"),
    params: Params = DEFAULT,
) -> None:
    """Embed the fitting images, the pool, the evaluation sample and the canaries with both releases.

    Example: fct embed --old build/releases/v1 --new build/releases/v2 --out build/embed
    """
    from fct.release.examining import open_release
    from fct.sample.pairs import write_pairs
    from registry.params import read

    settings = read(params)
    set_threads(settings)
    counts = write_pairs(open_release(old), open_release(new), data, out, settings.embed, seed=settings.seed, device=settings.device)
    say(", ".join(f"{count} rows of {name}" for name, count in counts.items()) + f" in {out}")


def index(
    vectors: Annotated[Path, typer.Option(help="VECTORS.npy, of shape (rows, dimensions).")],
    ids: Annotated[Path, typer.Option(help="IDS.npy, with one string for each row.")],
    out: Out,
    metric: Annotated[str, typer.Option(help="Distance metric: cosine or l2.")] = "cosine",
    params: Params = DEFAULT,
) -> None:
    """Build a FAISS index from a file of vectors.

    Example: fct index --vectors carried.npy --ids ids.npy --out index
    """
    from fct.arrays import digests
    from fct.arrays import vectors as files
    from fct.gallery import indexing
    from registry.params import read

    settings = read(params).index
    names = files.load(ids)
    rows = files.check("vectors", files.load(vectors), rows=len(names))
    about = indexing.save(indexing.build(rows, metric, settings), names, out, digests.of_rows(names, vector=rows), settings, metric)
    say(f"{out}: {about['kind']} index of {about['rows']} rows")


def validate(
    pairs: Annotated[Path, typer.Option(help="Folder that `fct embed` wrote.")],
    forward: Annotated[Path, typer.Option(help="Folder that `fct fit` wrote.")],
    transformed: Annotated[Path, typer.Option(help="GALLERY.npy that `fct transform` made from the gallery of `fct embed`.")],
    index: Annotated[Path, typer.Option(help="Folder that `fct index` wrote.")],
    evaluation: Annotated[Path, typer.Option(help="Folder that `fct evaluate --pairs` wrote.")],
    new: Annotated[Path, typer.Option(help="Release folder of the new version.")],
    out: Out,
    data: Annotated[Path, typer.Option(help="Folder that `fct data` wrote.")] = Path("build/data"),
    params: Params = DEFAULT,
) -> None:
    """Measure the gates on the evaluation sample, which stands in for the gallery. A failed gate is a result, not an error.

    Example: see dvc.yaml, stage validate
    """
    from registry.params import read
    from registry.upgrades.validate import validate_sample

    settings = read(params)
    set_threads(settings)
    verdict = validate_sample(pairs, forward, transformed, index, evaluation, new, data, out, settings)
    say(f"{out / 'verdict.json'}: {verdict['outcome']}", *(f"  {problem}" for problem in verdict["problems"]))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (init, data, train, embed, index, validate):
        app.command(rich_help_panel=DEV)(command)
