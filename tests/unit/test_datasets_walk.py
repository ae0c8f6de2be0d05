"""Which files count, wherever links lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from fct.datasets import walk as walks
from fct.datasets.walk import BROKEN, HIDDEN, LARGE, ODD, OTHER, OUTSIDE, TWICE, dvc_cache, walk
from fct.errors import BadInput
from registry.arrivals import find


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
    draw(tmp_path / "a/IMG.jpg", "JPEG")
    for name in ("a/._IMG.jpg", "a/@eaDir/IMG.jpg/THUMB.jpg", ".thumbnails/IMG.jpg", "__MACOSX/a/IMG.jpg", ".DS_Store"):
        draw(tmp_path / name, "JPEG")
    files, left = names(tmp_path)
    assert files == ["a/IMG.jpg"] and sorted(left[HIDDEN]) == sorted(["._IMG.jpg", "@eaDir", ".thumbnails", "__MACOSX", ".DS_Store"])


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
