"""Which files count, wherever links lead."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from fct.datasets import walk as walks
from fct.datasets.folder import read_folder
from fct.datasets.images import HEIC, formats
from fct.datasets.walk import BROKEN, HIDDEN, LARGE, ODD, OTHER, OUTSIDE, RAW, TWICE, Walk, digest, dvc_cache, walk
from fct.errors import BadInput
from registry.images import admitted
from registry.items.arrivals import declared, find


def draw(path: Path, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), 7).save(path, format=kind)
    return path


def names(place: Path, **given: object) -> tuple[list[str], dict[str, list[str]]]:
    """Images below a folder, and reason → names of what was left out."""
    found = walk(place, None, **given)  # type: ignore[arg-type]
    files = [path.relative_to(place).as_posix() for path in found.below(place)]
    return files, {reason: [Path(path).name for path in paths] for reason, paths in found.left.by_reason.items()}


def test_one_image_is_one_item_whatever_other_programs_left_beside_it(tmp_path: Path) -> None:
    """The same for `fct ingest` and `fct data`."""
    clutter = ("a/._IMG.jpg", "a/@eaDir/IMG.jpg/THUMB.jpg", ".thumbnails/IMG.jpg", "__MACOSX/a/IMG.jpg", ".DS_Store")
    clutter += ("#recycle/a/IMG.jpg", "@Recycle/IMG.jpg", "$RECYCLE.BIN/IMG.jpg", "~snapshot/a/IMG.jpg", "a/Thumbs.db")
    for name in ("a/IMG.jpg", "b/IMG.jpg", *clutter):
        draw(tmp_path / name, "JPEG")
    passed = {
        "._IMG.jpg",
        "@eaDir",
        ".thumbnails",
        "__MACOSX",
        ".DS_Store",
        "#recycle",
        "@Recycle",
        "$RECYCLE.BIN",
        "~snapshot",
        "Thumbs.db",
    }
    files, left = names(tmp_path)
    assert files == ["a/IMG.jpg", "b/IMG.jpg"] and left.keys() == {HIDDEN} and set(left[HIDDEN]) == passed
    count, parts, arrived = find(tmp_path, tmp_path)
    assert count == 2 and [one.id for part in parts for one in part] == files and len(arrived.by_reason[HIDDEN]) == len(passed)
    walked = walk(tmp_path, None)
    assert read_folder(tmp_path, walked) == {"a": [tmp_path / "a/IMG.jpg"], "b": [tmp_path / "b/IMG.jpg"]}
    assert set(walked.left.by_reason[HIDDEN]) == set(arrived.by_reason[HIDDEN])


def test_content_counts_where_a_name_says_nothing(tmp_path: Path) -> None:
    for name, kind in (
        ("a.jfif", "JPEG"),
        ("b.JPE", "JPEG"),
        ("c", "PNG"),
        ("d.webp2", "WEBP"),
        ("e.PNG", "PNG"),
        ("f.x", "AVIF"),
        ("g", "GIF"),
    ):
        draw(tmp_path / name, kind)
    (tmp_path / "notes.txt").write_text("BMW is no bitmap"[2:])
    (tmp_path / "script").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    files, left = names(tmp_path)
    assert files == ["a.jfif", "b.JPE", "c", "d.webp2", "e.PNG", "f.x", "g"] and left == {OTHER: ["notes.txt", "script"]}


def test_what_is_called_an_image_and_is_of_another_kind_is_counted_by_its_kind(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.CR2", "TIFF")  # a camera's: its first picture would be a preview of the photograph beside it
    for name in ("c.jpg", "d.HEIC", "e"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    files, left = names(tmp_path)
    if "HEIF" in formats():
        assert files == ["a.png", "c.jpg", "d.HEIC", "e"] and left == {RAW: ["b.CR2"]}
    else:
        assert files == ["a.png"] and left == {RAW: ["b.CR2"], HEIC: ["c.jpg", "d.HEIC", "e"]}


def test_a_class_that_has_no_image_says_what_it_has_instead(tmp_path: Path) -> None:
    draw(tmp_path / "a/1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/1.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "b/notes").write_text("none")
    with pytest.raises(BadInput, match=rf"no images.*1 left out: {OTHER}, such as notes; 1 left out: {BROKEN}, such as 1\.png"):
        read_folder(tmp_path)


def test_class_folders_may_be_links_and_no_link_is_walked_in_a_circle(tmp_path: Path) -> None:
    """The same for `fct ingest` and `fct data`: a folder counts once, where it is and not where a link to it is."""
    place, store = tmp_path / "named", tmp_path / "store"
    draw(place / "cat/1.png")
    draw(store / "dog/2.png")
    (place / "all-cats").symlink_to("cat")  # sorts before the folder itself
    (place / "dog").symlink_to(store / "dog")
    (place / "gone").symlink_to(store / "gone")
    (place / "cat/up").symlink_to(place)
    (place / "cat/here").symlink_to(".")
    (place / "one").symlink_to("two")
    (place / "two").symlink_to("one")
    files, left = names(place, more=[store])
    assert files == ["cat/1.png", "dog/2.png"]
    assert left == {TWICE: ["all-cats", "here", "up"], BROKEN: ["gone", "one", "two"]}
    walked = walk(place, None, [store])
    assert read_folder(place, walked) == {"cat": [place / "cat/1.png"], "dog": [place / "dog/2.png"]}
    count, parts, _ = find(place, place, [store])
    assert count == 2 and [one.label for part in parts for one in part] == ["cat", "dog"]
    assert names(place)[1][OUTSIDE] == ["dog"]  # without --root


def test_links_count_below_declared_roots_alone(tmp_path: Path) -> None:
    place, other = tmp_path / "named", tmp_path / "other"
    for number in range(3):
        draw(place / f"{number}.png")
    draw(other / "deep/secret.png")
    (place / "in.png").symlink_to(place / "0.png")
    (place / "out.png").symlink_to(other / "deep/secret.png")
    (place / "nothing.png").symlink_to(place / "gone.png")
    (place / "round.png").symlink_to(place / "round.png")
    (place / "up").symlink_to(place.parent)
    (place / "self").symlink_to(place)
    (place / "folder").symlink_to(other / "deep")
    files, left = names(place)
    assert files == ["0.png", "1.png", "2.png", "in.png"]
    assert left == {OUTSIDE: ["folder", "out.png", "up"], BROKEN: ["nothing.png", "round.png"], TWICE: ["self"]}
    files, left = names(place, more=[other])
    assert files == ["0.png", "1.png", "2.png", "in.png", "out.png", "folder/secret.png"] and OUTSIDE in left  # `up` leads above both


def test_where_most_images_are_links_elsewhere_the_root_that_would_admit_them_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "store/a/1.png")
    draw(tmp_path / "store/b/2.png")
    place = tmp_path / "class"
    draw(place / "own.png")
    for number, target in enumerate(("a/1.png", "b/2.png")):
        (place / f"{number}.png").symlink_to(tmp_path / "store" / target)
    with pytest.raises(BadInput, match=rf"--root {tmp_path}/store\b.*2 of 3"):
        names(place)
    assert len(names(place, more=[tmp_path / "store"])[0]) == 3


def test_what_is_no_plain_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    draw(tmp_path / "large.png").write_bytes(bytes(2000))
    monkeypatch.setattr(walks, "MOST_BYTES", 1000)
    files, left = names(tmp_path)
    assert files == ["a.png"] and left == {ODD: ["pipe.png"], OUTSIDE: ["device.png"], LARGE: ["large.png"]}


def test_a_table_names_files_below_its_folder_or_a_root(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, secret = tmp_path / "t" / "items.parquet", draw(tmp_path / "secret.png")
    draw(table.parent / "a.png")
    os.mkfifo(table.parent / "pipe.png")
    uris = ["a.png", str(secret), "../secret.png", "/dev/zero", "pipe.png", "gone.png"]
    pq.write_table(pa.table({"id": [str(n) for n in range(len(uris))], "image_uri": uris}), table)

    def outcomes(*roots: Path) -> list[str]:
        said = []
        for part in find(table, tmp_path / "t", roots)[1]:
            for one in part:
                try:
                    said.append(str(one.read(4, "L")[0].max()))
                except BadInput as error:
                    said.append(str(error))
        return said

    read, *refused = outcomes()
    assert read == "7" and all("no declared root" in one and "--root" in one for one in refused[:3])
    assert "no plain file" in refused[3] and "cannot be read" in refused[4]
    assert outcomes(tmp_path)[:3] == ["7", "7", "7"]


def test_what_is_exchanged_after_the_look_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a path and its opening there is time enough for whoever gave it."""
    given, secret = draw(tmp_path / "given/below/a.png"), draw(tmp_path / "secret/a.png")
    walked = walk(tmp_path / "given", None)
    walked.open(given).close()
    given.unlink()
    given.parent.rmdir()
    given.parent.symlink_to(secret.parent)
    with pytest.raises(BadInput, match="declared root"):
        walked.open(given)
    monkeypatch.setattr(walked, "problem", lambda path: None)  # as if all this were done after the look
    with pytest.raises(BadInput, match="declared root"):
        walked.open(given)
    with pytest.raises(BadInput, match="no image file is named"):
        walked.open("")


def test_a_folder_that_an_ingest_named_counts_where_it_was(tmp_path: Path) -> None:
    """The folder itself may be exchanged for a link: then it is another one, and counts no longer."""
    given, secret = draw(tmp_path / "given/a.png"), draw(tmp_path / "secret/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "given")
    roots = declared(tmp_path / "link/a.png", [tmp_path / "more"])
    assert roots == sorted(map(digest, (tmp_path / "given", tmp_path / "more")))
    settings = SimpleNamespace(data=SimpleNamespace(roots=()))
    ledger = SimpleNamespace(
        entries=lambda: [SimpleNamespace(action="ingest", detail={"roots": roots}), SimpleNamespace(action="promote", detail={})]
    )
    workspace: Any = SimpleNamespace(root=tmp_path / "project", settings=settings, ledger=ledger)
    before = admitted(workspace)
    before.open(given).close()
    given.unlink()
    given.parent.rmdir()
    given.parent.symlink_to(secret.parent)
    for walked in (before, admitted(workspace)):
        with pytest.raises(BadInput, match="declared root"):
            walked.open(given)


@pytest.mark.parametrize("config", ["[cache]\n    dir = ../../store\n", "[cache]\n    dir = {store}\n", "", "[cache\n"])
def test_dvcs_cache_is_a_root_as_its_configuration_says(config: str, tmp_path: Path) -> None:
    project, store = tmp_path / "project", tmp_path / "store"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").write_text(config.format(store=store))
    cache = dvc_cache(project)
    assert cache.resolve() == (store if "dir" in config else project / ".dvc/cache")
    draw(cache / "files/md5/aa/bb")
    (project / "data").mkdir()
    (project / "data/a.png").symlink_to(cache / "files/md5/aa/bb")
    assert [path.name for path in walk(project / "data", project).below(project / "data")] == ["a.png"]


def test_beside_its_own_folder_a_file_is_read_and_a_link_is_not(tmp_path: Path) -> None:
    """Items of earlier code: nobody wrote down which folder was named."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").mkdir()
    for folder in ("mine", "other"):
        (tmp_path / folder / "a.png").write_bytes(b"a picture")
    (tmp_path / "mine" / "link.png").symlink_to(tmp_path / "other" / "a.png")
    walked = Walk([], beside=True)
    with walked.open(tmp_path / "mine" / "a.png") as file:
        assert file.read() == b"a picture"
    with pytest.raises(BadInput, match="--root"):
        walked.open(tmp_path / "mine" / "link.png")
    with pytest.raises(BadInput):
        Walk([]).open(tmp_path / "mine" / "a.png")
