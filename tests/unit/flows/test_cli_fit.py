import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import fct
from fct.forward import ladder
from tests.in_process import fct_

ROOT = Path(__file__).parents[3]


def write(folder, n=60, pool=40, d=4, e=4):
    """Arrays of a tiny world, as files; returns their options."""
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(d + 3, e))

    def some(count):
        old, side = rng.normal(size=(count, d)).astype(np.float32), rng.integers(-99, 99, (count, 3)).astype(np.int8)
        return old, side, (np.hstack([old, side / 50]) @ turn + 1).astype(np.float32)

    old, side, new = some(n)
    more = some(pool)
    arrays = {"old": old, "side": side, "new": new, "labels": np.arange(n) % 3, "sources": np.arange(n) // 2}
    arrays |= dict(zip(("pool-old", "pool-side", "pool-new"), more, strict=True))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    save_file({"weight": np.eye(3, e, dtype=np.float32), "bias": np.zeros(3, dtype=np.float32)}, folder / "head.safetensors")
    return arrays


def fit(folder, *more, names=("old", "new")):
    options = [part for name in names for part in (f"--{name}", folder / f"{name}.npy")]
    return fct_("fit", *options, "--out", folder / "h", "--device", "cpu", *more)


ALL = ("old", "new", "side", "labels", "sources", "pool-old", "pool-side", "pool-new")


def left(folder):
    return {path.name for path in folder.iterdir() if path.suffix != ".npy" and path.name != "head.safetensors"}


def test_fit_prints_one_json_object_and_writes_the_same_h_as_python(tmp_path):
    arrays = write(tmp_path)
    code, out, _ = fit(tmp_path, "--method", "ridge", "--head", tmp_path / "head.safetensors", "--json", names=ALL)
    assert code == 0
    found = json.loads(out)
    assert found["method"] == "ridge" and found["inputs_missing"] == [] and found["warnings"] == [] and found["seconds"] > 0
    assert {"held_out", "metric", "candidates", "chosen", "reason"} <= found["validation"].keys()
    assert {"method", "top1", "seconds"} <= found["validation"]["candidates"][0].keys()
    h = fct.load(tmp_path / "h")
    given = {name.replace("-", "_"): array for name, array in arrays.items()}
    head = np.eye(3, 4, dtype=np.float32), np.zeros(3, dtype=np.float32)
    assert h.digest == found["digest"] == fct.fit(**given, head=head, method="ridge", device="cpu").digest


def test_by_default_the_ladder_chooses_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "JUDGED_STEPS", 3)
    write(tmp_path, n=30)
    code, out, _ = fit(tmp_path, "--json")
    found = json.loads(out)
    assert code == 0 and found["validation"]["chosen"] == found["method"]
    assert [row["method"] for row in found["validation"]["candidates"]][:3] == ["none", "mean-shift", "procrustes"]
    assert found["method"] in found["validation"]["reason"] and len(found["inputs_missing"]) == 4


def test_without_json_people_get_a_table_and_the_next_command(tmp_path):
    write(tmp_path)
    code, out, _ = fit(tmp_path, "--method", "procrustes")
    assert code == 0 and "→ procrustes" in out and "Next: fct transform" in out and "Side-information" in out


def test_transform_writes_what_the_h_gives(tmp_path):
    arrays = write(tmp_path)
    assert fit(tmp_path, "--method", "ridge", names=("old", "new", "side"))[0] == 0
    files = [tmp_path / "carried.npy", tmp_path / "sigma.npy"]
    options = ["--forward", tmp_path / "h", "--old", tmp_path / "old.npy", "--side", tmp_path / "side.npy"]
    assert fct_("transform", *options, "--out", files[0], "--sigma", files[1])[0] == 0
    carried, sigma = fct.load(tmp_path / "h").transform(arrays["old"], arrays["side"])
    assert np.load(files[0]).tobytes() == carried.tobytes() and np.load(files[1]).tobytes() == sigma.tobytes()
    code, _, said = fct_("transform", "--forward", tmp_path / "h", "--old", tmp_path / "old.npy", "--out", tmp_path / "x.npy")
    assert code == 2 and "needs side-information" in said and not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_any_numbers_go_in_and_float32_comes_out(tmp_path, dtype):
    arrays = write(tmp_path)
    np.save(tmp_path / "old.npy", (arrays["old"] * 50).astype(dtype))
    assert fit(tmp_path, "--method", "ridge")[0] == 0
    assert fct_("transform", "--forward", tmp_path / "h", "--old", tmp_path / "old.npy", "--out", tmp_path / "x.npy")[0] == 0
    assert np.load(tmp_path / "x.npy").dtype == np.float32


def replaced(name, array):
    return lambda folder: np.save(folder / f"{name}.npy", array(np.load(folder / f"{name}.npy")))


def with_nan(array):
    array = array.astype(np.float32)
    array[7, 1] = np.nan
    return array


BAD = [
    (replaced("new", lambda a: a[1:]), "new has the wrong number of rows"),
    (replaced("side", lambda a: a[1:]), "side has the wrong number of rows"),
    (replaced("old", with_nan), "old contains NaN or infinity; in row 7"),
    (replaced("side", lambda a: with_nan(a) + np.inf), "side contains NaN or infinity"),
    (replaced("old", lambda a: a[:0]), "old is empty"),
    (replaced("old", lambda a: a[0]), "old has the wrong shape"),
    (replaced("labels", lambda a: a[1:]), "labels have the wrong length"),
    (replaced("labels", lambda a: a + 0.5), "labels have no exact text"),
    (replaced("labels", lambda a: a + 1), "a label has no row in the head"),
    (replaced("sources", lambda a: a[1:]), "sources have the wrong length"),
    (replaced("pool-old", lambda a: a[:, 1:]), "pool-old has the wrong dimension"),
    (lambda f: (f / "old.npy").write_text("old"), "old"),
    (lambda f: (f / "old.npy").write_bytes((f / "old.npy").read_bytes()[:300]), "old"),
    (lambda f: (f / "new.npy").unlink(), "new"),
    (lambda f: np.save(f / "old.npy", np.full((60, 4), None, dtype=object), allow_pickle=True), "old"),
    (lambda f: (f / "head.safetensors").write_text("{}"), "the head cannot be read"),
]


@pytest.mark.parametrize(("spoil", "sentence"), BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, spoil, sentence):
    write(tmp_path)
    spoil(tmp_path)
    code, out, said = fit(tmp_path, "--method", "ridge", "--head", tmp_path / "head.safetensors", names=ALL)
    assert code == 2 and sentence in said and "\n" not in said and out == "" and left(tmp_path) == set()


def test_fewer_pairs_than_dimensions_is_a_warning_in_both_places(tmp_path):
    write(tmp_path, n=20, d=30)
    with pytest.warns(UserWarning, match="fewer pairs"):
        code, out, said = fit(tmp_path, "--method", "fastfill", "--json")
    found = json.loads(out)
    assert code == 0 and found["method"] == "ridge"
    assert any("fewer pairs (20) than dimensions (30)" in sentence for sentence in found["warnings"]) and "warning: there are fewer" in said


@pytest.mark.parametrize(
    ("spoil", "code", "sentence"),
    [
        (lambda h: (h / "weights.safetensors").write_bytes((h / "weights.safetensors").read_bytes()[:-8]), 2, "were changed"),
        (lambda h: (h / "manifest.json").write_text((h / "manifest.json").read_text()[:50]), 2, "not valid JSON"),
        (lambda h: (h / "manifest.json").unlink(), 2, "a file is missing; wanted manifest.json"),
        (
            lambda h: (h / "manifest.json").write_text((h / "manifest.json").read_text().replace('"format": 4', '"format": 9')),
            2,
            "newer version",
        ),
    ],
)
def test_a_damaged_or_newer_h_is_refused(tmp_path, spoil, code, sentence):
    write(tmp_path)
    fit(tmp_path, "--method", "ridge")
    spoil(tmp_path / "h")
    found, _, said = fct_("transform", "--forward", tmp_path / "h", "--old", tmp_path / "old.npy", "--out", tmp_path / "x.npy")
    assert (found, sentence in said) == (code, True) and not (tmp_path / "x.npy").exists()


def test_an_interrupted_fit_leaves_nothing_and_exits_130(tmp_path):
    write(tmp_path, n=20_000)  # so many that the fit outlasts a busy machine's delay between its first words and the signal
    options = [f"--{name}={tmp_path / name}.npy" for name in ("old", "new")]
    command = [sys.executable, "-m", "flows.cli", "fit", *options, "--method", "fct", "--device", "cpu", "--out", str(tmp_path / "h")]
    environment = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment | {"TQDM_MININTERVAL": "0.1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests that a shell runs in the background ignore it
    )
    os.set_blocking(process.stderr.fileno(), False)
    said, started = b"", time.time()
    while b"fitting h" not in said and time.time() - started < 600 and process.poll() is None:
        said += process.stderr.read() or b""
        time.sleep(0.05)
    assert b"fitting h" in said, said
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130 and out == b"" and left(tmp_path) == set()


@pytest.mark.parametrize("out", ["old.npy", "old.npy/h", "."])
def test_fit_refuses_a_place_that_is_taken_before_it_fits(tmp_path, out):
    write(tmp_path)
    before = (tmp_path / "old.npy").read_bytes()
    options = [f"--{name}={tmp_path / name}.npy" for name in ("old", "new")]
    code, _, said = fct_("fit", *options, "--method", "ridge", "--out", tmp_path / out)
    assert code == 2 and "\n" not in said and (tmp_path / "old.npy").read_bytes() == before and left(tmp_path) == set()


@pytest.mark.parametrize(("name", "other"), [("--out", "--sigma"), ("--sigma", "--out")])
def test_transform_refuses_a_folder_in_place_of_a_file_and_writes_neither(tmp_path, name, other):
    write(tmp_path)
    assert fit(tmp_path, "--method", "ridge")[0] == 0
    (tmp_path / "folder").mkdir()
    code, _, said = fct_(
        "transform", "--forward", tmp_path / "h", "--old", tmp_path / "old.npy", name, tmp_path / "folder", other, tmp_path / "x.npy"
    )
    assert code == 2 and "a folder has that name" in said and left(tmp_path) == {"h", "folder"} and not (tmp_path / "x.npy").exists()


def test_an_h_that_is_no_folder_is_refused(tmp_path):
    write(tmp_path)
    for forward in ("old.npy", "nowhere"):
        code, _, said = fct_("transform", "--forward", tmp_path / forward, "--old", tmp_path / "old.npy", "--out", tmp_path / "x.npy")
        assert code == 2 and "there is no such folder of a forward transformation" in said


def test_transform_refuses_rows_of_another_size_by_number_and_says_what_is_odd(tmp_path):
    arrays = write(tmp_path)
    assert fit(tmp_path, "--method", "ridge")[0] == 0

    def carried(old):
        np.save(tmp_path / "g.npy", old)
        return fct_("transform", "--forward", tmp_path / "h", "--old", tmp_path / "g.npy", "--out", tmp_path / "x.npy")

    for scale, word in ((1e-30, "zero in float32"), (1e20, "infinite in float32"), (1e300, "beyond float32"), (1e8, "a million times")):
        old = arrays["old"].astype("f8")
        old[[7, 11]] *= scale
        code, _, said = carried(old)
        assert code == 2 and word in said and "rows 7, 11" in said and not (tmp_path / "x.npy").exists()
    code, _, said = carried(np.rint(arrays["old"] / np.abs(arrays["old"]).max(axis=1, keepdims=True) * 127).astype("i1"))
    assert code == 2 and "whose scale differs by row" in said
    code, _, said = carried(np.hstack([arrays["old"][:, :3], np.full((60, 1), 7)]))
    assert code == 0 and "1 of 4 dimensions of old are constant" in said


def test_fit_leaves_bad_rows_out_of_all_that_belongs_to_them(tmp_path):
    arrays = write(tmp_path)
    fit(tmp_path, "--method", "ridge", "--json", names=ALL)
    spoilt = {name: arrays[name].astype("f8") for name in ("old", "new", "pool-old")}
    spoilt["old"][3], spoilt["new"][9], spoilt["pool-old"][5] = np.nan, spoilt["new"][9] * 1e20, 0
    for name, array in spoilt.items():
        np.save(tmp_path / f"{name}.npy", array)
    code, _, said = fit(tmp_path, "--method", "ridge", "--json", names=ALL)
    assert code == 2 and "old contains NaN or infinity; in row 3" in said and "--skip-bad" in said
    code, out, said = fit(tmp_path, "--method", "ridge", "--json", "--skip-bad", names=ALL)
    assert code == 0, said
    found = json.loads(out)
    assert [one for one, _ in found["left_out"]] == ["row 3", "row 9", "row 5"] and "2 rows are left out" in said
    keep, pool = np.setdiff1d(np.arange(60), [3, 9]), np.setdiff1d(np.arange(40), [5])
    for name, array in (arrays | spoilt).items():
        np.save(tmp_path / f"{name}.npy", array[pool if name.startswith("pool") else keep])
    assert json.loads(fit(tmp_path, "--method", "ridge", "--json", names=ALL)[1])["digest"] == found["digest"]


def test_seed_and_device_of_params_are_those_of_the_fit_unless_others_are_typed(tmp_path):
    write(tmp_path)
    params = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text().replace("\nseed: 0", "\nseed: 5").replace("method: fastfill-pool", "method: ridge")
    params.write_text(text)

    def fitted(*more):
        options = [part for name in ALL[:3] for part in (f"--{name}", tmp_path / f"{name}.npy")]
        code, _, err = fct_("fit", *options, "--out", tmp_path / "h", "--params", params, *more)
        return code, err, json.loads((tmp_path / "h/manifest.json").read_text()) if code == 0 else {}

    assert fitted()[2]["seed"] == 5
    assert fitted("--seed", "0")[2]["seed"] == 0 and fitted("--seed", "7")[2]["seed"] == 7
    params.write_text(text.replace("device: auto  ", "device: cuda:99"))
    code, err, _ = fitted()
    assert code == 2 and "GPU" in err
    assert fitted("--device", "cpu")[0] == 0
