"""What strangers give and ask: each attack is one test, and each is refused in one sentence."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.numpy import save_file
from torch import nn

from fct import release
from fct.arrays import columns, digests, vectors
from fct.errors import BadInput, FctError
from fct.program import graph, operators
from fct.program import programs as program
from fct.release.folder import FILES, HEAD, PICTURE
from fct.sample import pairs
from fct.sample.delivered import read_rows
from fct.sample.settings import EmbedSettings
from flows import receiver, serve
from flows.http import Refused
from registry import mark
from registry.items import arrivals
from registry.live import Live
from registry.mlflow import sources
from registry.versions import approval
from tests import by_hand

Records = dict[str, bytes]
Json = dict[str, Any]


# ---- a version of the model: its folder


class Honest(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat = images.flatten(1).float() / 255
        return flat[:, 100:105] * 3 + 1, (flat[:, :3] * 100).to(torch.int8)


class Mixing(Honest):
    """Vectors that depend on the other images of the batch."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        phi, psi = super().forward(images)
        return phi - phi.mean(dim=0, keepdim=True) + phi.mean(dim=1, keepdim=True), psi


class InCrowds(Honest):
    """The same, in batches of more than the contract looks at. A query comes alone."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        phi, psi = super().forward(images)
        count = torch.ones_like(phi[:, :1]).sum(dim=0, keepdim=True)
        return phi + (count > 8.5).float() * phi.mean(dim=0, keepdim=True), psi


def noise(count: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 16, 16), dtype=np.uint8)


def written(folder: Path, module: nn.Module, images: np.ndarray | None = None, **more: Any) -> Path:
    given: Json = {"canary_ids": [f"c{n}" for n in range(8)], "canary_images": noise() if images is None else images}
    return release.write(folder, module, size=16, mode="L", **given, **more).folder


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = np.ones((2, 5), dtype=np.float32), np.zeros(2, dtype=np.float32)
    return written(tmp_path_factory.mktemp("honest") / "v1", Honest(), head=head, classes=["a", "b"])


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "copy"))


def say(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / "release.json").read_text())
    about["files"] = {name: digests.of_file(folder / name) for name in FILES[:2] + FILES[3:] if (folder / name).exists()}
    (folder / "release.json").write_text(json.dumps(about | changes))


def test_canaries_that_are_all_one_image_do_not_hide_that_vectors_depend_on_their_neighbours(tmp_path: Path) -> None:
    """Of equal images the mean is each of them: together and alone they have the same vectors."""
    with pytest.raises(BadInput, match="canar"):
        written(tmp_path / "v1", Mixing(), np.repeat(noise(1), 8, axis=0))


def test_a_program_that_mixes_images_in_larger_batches_only_does_not_reach_a_verdict(
    v1: release.Release, data: Path, tmp_path: Path
) -> None:
    """It would be judged by batches of the evaluation sample, and asked with one image at a time."""
    hostile = release.open_release(written(tmp_path / "v2", InCrowds()))
    settings = EmbedSettings(fitting=("fitting",), pool=(), views=1, pool_views=1, pool_recombined=0, preview=False, batch=512)
    with pytest.raises(BadInput, match="depend"):
        pairs.write_pairs(v1, hostile, data, tmp_path / "pairs", settings, seed=0, device="cpu")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("piece", [HEAD, PICTURE])
def test_a_file_without_a_digest_is_no_part_of_a_release(piece: str, folder: Path) -> None:
    """What the release's digest does not hold could be exchanged after the approval."""
    say(folder)
    about = json.loads((folder / "release.json").read_text())
    about["files"].pop(piece, None)
    (folder / "release.json").write_text(json.dumps(about))
    save_file({"weight": np.ones((2, 5), np.float32), "bias": np.ones(2, np.float32)}, folder / piece)
    assert any(piece in one for one in release.problems(folder, run=False))


def test_a_release_that_says_it_is_adopted_brings_no_files(tmp_path: Path) -> None:
    made = release.write_adopted(tmp_path / "v1", dim=5, side_bits=[8], metric="cosine", normalised=False, content="x", canary_ids=["c"])
    save_file({"weight": np.ones((2, 5), np.float32), "bias": np.ones(2, np.float32)}, made.folder / HEAD)
    assert release.problems(made.folder)


@pytest.mark.parametrize(
    ("piece", "tensors"),
    [
        ("head.safetensors", None),
        ("head.safetensors", {"weight": np.full((2, 5), np.nan, np.float32), "bias": np.zeros(2, np.float32)}),
        ("head.safetensors", {"weight": np.zeros((7, 99), np.float32), "bias": np.zeros(1, np.float32)}),
        ("head.safetensors", {"weight": np.zeros(3, np.float32)}),
        ("picture.safetensors", None),
        ("picture.safetensors", {"weight": np.zeros(3, np.float32)}),
        ("picture.safetensors", {"weight": np.array(1, np.float32), "bias": np.zeros((1, 1, 1)), "sharpen.0.weight": np.zeros(1)}),
        ("canaries.safetensors", None),
        ("canaries.safetensors", {"images": np.zeros((0, 1, 16, 16), np.uint8)}),
        ("canaries.safetensors", {"images": np.zeros((), np.uint8)}),
        ("canaries.safetensors", {"images": np.zeros((8, 1, 16, 16), np.float64)}),
    ],
)
def test_a_piece_of_another_form_is_one_sentence_of_the_contract(piece: str, tensors: dict[str, Any] | None, folder: Path) -> None:
    if tensors is None:
        (folder / piece).write_bytes(b"\xff" * 99)
    else:
        save_file(tensors, folder / piece)
    say(folder)
    assert release.problems(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": {"\ud800": 1}},
        {"classes": ["\udfff", "b"]},
        {"measurements": "all good"},
        {"measurements": {"x": "<script>alert(1)</script>"}},
        {"side": []},
        {"side": {"bits": "eight"}},
        {"side": {"bits": [8]}},
        {"side": {"bits": 10**9}},
        {"classes": {"a": 1}},
        {"classes": [None, 5]},
        {"canaries": ["c"] * 8},
        {"canaries": [None, 1, 2.5, [], {}, True, "", "x"]},
        {"canaries": [f"\x1b[2J{n}" for n in range(8)]},
        {"canaries": 8},
        {"dims": {"phi": 5, "psi": 10**30}},
        {"dims": {"phi": 5, "psi": 10**12}},
        {"dims": [5, 3]},
        {"metric": ["cosine"]},
        {"preprocessing": {"size": True, "mode": "L"}},
        {"files": [["program.pt2", ""]]},
        {"files": {"../release.json": "0" * 64}},
        {"fingerprint": ["x"]},
        {"format": True, "files": {}},
    ],
)
def test_a_release_json_of_another_form_is_one_sentence_of_the_contract(changes: Json, folder: Path) -> None:
    say(folder, **changes)
    assert release.problems(folder)


# ---- a version of the model: its program


@pytest.fixture(scope="module")
def records(honest: Path) -> Records:
    with zipfile.ZipFile(honest / "program.pt2") as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def model(records: Records) -> Json:
    found: Json = json.loads(records[graph.MODEL])
    return found


def named(name: str) -> Json:
    return {"as_tensor": {"name": name}}


def step(target: str, inputs: Json, output: str = "z", **more: Any) -> Json:
    given = [{"name": name, "arg": arg, "kind": 1} for name, arg in inputs.items()]
    return {"target": target, "inputs": given, "outputs": [named(output)], "metadata": {}} | more


X = {"self": named("images")}
WORD = {"as_string": "/etc/passwd"}
BLOCK = "torch.ops.higher_order.wrap_with_set_grad_enabled"


def block(*nodes: Json) -> Json:
    inner = {"inputs": [named("a")], "outputs": [named("a")], "nodes": list(nodes)}
    made = step(BLOCK, {}) | {
        "inputs": [{"name": "", "arg": arg} for arg in ({"as_bool": False}, {"as_graph": {"name": "g", "graph": inner}}, X["self"])]
    }
    return made | {"outputs": [{"as_tensors": [{"name": "z"}]}]}


HOSTILE_STEPS = {
    "reads a file": step("torch.ops.aten.from_file.default", {"filename": WORD, "size": {"as_int": 9}}),
    "reads a file in a block": block(step("torch.ops.aten.from_file.default", {"filename": WORD, "size": {"as_int": 9}})),
    "reads an image": step("torch.ops.image.read_file.default", {"filename": WORD}),
    "writes a file": step("torch.ops.image.write_file.default", {"filename": WORD, "data": named("images")}),
    "saves": step("torch.ops.aten.save.default", X),
    "prints": step("torch.ops.aten._print.default", {"s": WORD}),
    "prints by another way": step("torch.ops.prim.Print.default", X),
    "calls Python": step("torch.ops.higher_order.triton_kernel_wrapper_mutation", X),
    "calls a function by its name": step("os.system", {"command": WORD}),
    "calls a builtin": step("builtins.eval", {"source": {"as_string": "1"}}),
    "calls an attribute of an operator": step("torch.ops.aten.add.__class__", X),
    "calls a dunder": step("torch.ops.aten.__class__.default", X),
    "calls another library": step("torch.ops.inductor.resize_storage_bytes_.default", X),
    "loads a library": step("torch.ops.load_library", {"path": WORD}),
    "sends to other processes": step("torch.ops._c10d_functional.all_reduce.default", X | {"reduce_op": WORD, "group_name": WORD}),
    "calls an operator of quantised memory": step("torch.ops.aten.q_scale.default", X),
    "looks at the device": step("torch.ops.aten.to.device", X | {"device": {"as_device": {"type": "meta"}}, "dtype": {"as_scalar_type": 1}}),
    "keeps state in the images": step("torch.ops.aten.add_.Tensor", X | {"other": {"as_int": 1}}),
    "keeps state through a view": step("torch.ops.aten.fill_.Tensor", {"self": named("images"), "value": named("images")}),
    "writes to memory that it names itself": step("torch.ops.aten.add.out", X | {"other": X["self"], "out": X["self"]}),
    "draws by lot": step("torch.ops.aten.randn_like.default", X),
    "drops by lot": step("torch.ops.aten.dropout.default", {"input": named("images"), "p": {"as_float": 0.5}, "train": {"as_bool": True}}),
    "reads memory that nobody wrote": step("torch.ops.aten.empty_like.default", X),
    "reads beyond its memory": step("torch.ops.aten.as_strided.default", X | {"size": {"as_ints": [2**31]}, "stride": {"as_ints": [1]}}),
    "takes memory of another": step("torch.ops.aten.set_.source_Tensor", X | {"source": X["self"]}),
    "asserts with a text": step("torch.ops.aten._assert_async.msg", X | {"assert_msg": WORD}),
    "branches by a graph of its own": step("torch.ops.higher_order.cond", X),
    "loops for ever": step("torch.ops.higher_order.while_loop", X),
    "names an object": step("torch.ops.aten.relu.default", {"self": {"as_custom_obj": {"name": "o", "class_fqn": "os.system"}}}),
    "gives two values for one": step("torch.ops.aten.relu.default", {"self": {"as_tensor": {"name": "images"}, "as_int": 1}}),
    "uses an expression for a size": step(
        "torch.ops.aten.reshape.default", X | {"shape": {"as_sym_ints": [{"as_expr": {"expr_str": "__import__('os').system('id')"}}]}}
    ),
    "has an equation of its own": step("torch.ops.aten.einsum.default", {"equation": {"as_string": "ab->__import__('os')"}, "tensors": {"as_tensors": [{"name": "images"}]}}),
    "names no operator": step("torch.ops.aten.relu.default; import os", X),
    "names an operator in another alphabet": step("torch.ops.aten.rеlu.default", X),
    "names an operator with a line end": step("torch.ops.aten.relu.default\n", X),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE_STEPS)
def test_a_program_that_does_more_than_compute_is_refused(kind: str, records: Records, model: Json) -> None:
    model["graph_module"]["graph"]["nodes"].insert(0, HOSTILE_STEPS[kind])
    with pytest.raises(graph.Refused):
        graph.read(records | {graph.MODEL: json.dumps(model).encode()})


def test_state_is_not_kept_through_a_chain_of_views(records: Records, model: Json) -> None:
    views = [
        step("torch.ops.aten.view.default", X | {"size": {"as_ints": [-1]}}, "v1"),
        step("torch.ops.aten.slice.Tensor", {"self": named("v1"), "dim": {"as_int": 0}, "end": {"as_int": 3}}, "v2"),
        step("torch.ops.aten.unsqueeze.default", {"self": named("v2"), "dim": {"as_int": 0}}, "v3"),
        step("torch.ops.aten.type_as.default", {"self": named("v3"), "other": named("v3")}, "v4"),
        step("torch.ops.aten.expand_as.default", {"self": named("v4"), "other": named("v4")}, "v5"),
        step("torch.ops.aten.contiguous.default", {"self": named("v5")}, "v6"),
        step("torch.ops.aten.dropout.default", {"input": named("v6"), "p": {"as_float": 0.0}, "train": {"as_bool": False}}, "v7"),
        step("torch.ops.aten.mul_.Tensor", {"self": named("v7"), "other": {"as_int": 2}}, "v8"),
    ]
    model["graph_module"]["graph"]["nodes"][:0] = views
    with pytest.raises(graph.Refused, match="changes an image"):
        graph.read(records | {graph.MODEL: json.dumps(model).encode()})


TREES = (
    '[1, {"type": "os.system", "context": "\\"id\\"", "children_spec": []}]',
    '[1, {"type": "collections.namedtuple", "context": "__import__(\'os\').system(\'id\')", "children_spec": []}]',
    "__reduce__",
    "[" * 5000,
)


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_spec_is_never_looked_at(tree: str, records: Records, model: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("it was called"))
    for entry in model["graph_module"].get("module_call_graph", []):
        signature = entry.get("signature") or {}
        signature["in_spec"] = signature["out_spec"] = tree
    model["guards_code"] = model["graph_module"]["metadata"] = {"x": tree}
    changed = graph.read(records | {graph.MODEL: json.dumps(model).encode()})
    wanted = graph.read(records)
    with torch.inference_mode():
        assert torch.equal(changed(torch.from_numpy(noise(3)))[0], wanted(torch.from_numpy(noise(3)))[0])


def test_blocks_in_blocks_without_end_are_one_sentence(records: Records, model: Json) -> None:
    before, after = json.dumps(block({"in": "it"})).replace('"images"', '"a"').split(json.dumps({"in": "it"}))
    for depth in (100, 100_000):
        model["graph_module"]["graph"]["nodes"].insert(0, "it")
        whole = json.dumps(model).replace(
            '"it"', before * depth + json.dumps(step("torch.ops.aten.relu.default", {"self": named("a")})) + after * depth
        )
        with pytest.raises((graph.Refused, BadInput)):
            graph.read(records | {graph.MODEL: whole.encode()})
        model["graph_module"]["graph"]["nodes"].pop(0)


@pytest.mark.parametrize(
    "name", ["../weights/weight_0", "data/weights/weight_0\0", "data/weights/../../x", "/etc/passwd", "models/../x.json"]
)
def test_a_record_by_another_name_is_refused(name: str, honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    shutil.copyfile(honest / "program.pt2", path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("program/" + name, b"x")
    with pytest.raises(BadInput):
        program.load(path)


def test_none_of_these_operators_is_on_the_list() -> None:
    for name in ("from_file.default", "save.default", "empty.memory_format", "set_.source_Tensor", "copy_.default", "item.default"):
        assert f"torch.ops.aten.{name}" not in operators.listed()


# ---- tags in the registry

VERDICT = hashlib.sha256(b"a verdict").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        VERDICT,
        f" {VERDICT}",
        f"ana {VERDICT[:31]}",
        f"ana {VERDICT[:12]}",
        f"ana {VERDICT}0",
        f"ana {VERDICT.upper()}",
        f"ana {OTHER}",
        f"ana {VERDICT} {OTHER}",
        f"ana\u202e {VERDICT}",
        f"an\u0430 {VERDICT}",
        f"Ana {VERDICT}",
        f"ana\n{VERDICT}",
        f"ana\u00a0{VERDICT}",
        f"eve, ana {VERDICT}",
        f"ana {''.join(chr(0xFEE0 + ord(one)) for one in VERDICT)}",
        f"{'a' * 101} {VERDICT}",
    ],
)
def test_a_tag_that_is_nearly_an_approval_is_none(value: str) -> None:
    found = approval.read({approval.APPROVE: value}, VERDICT, ["ana"])
    assert isinstance(found, approval.Ignored) and found.sentence.isprintable() and len(found.sentence) < 500


def test_a_tag_of_the_ledgers_head_that_others_wrote_says_nothing() -> None:
    """Else whoever may set tags could stop every command."""
    first = OTHER
    true = mark.to_tag(mark.Mark(7, VERDICT), first)
    for said in (
        f"9 {VERDICT}",
        f"9 {VERDICT} {VERDICT}",
        true.replace("7 ", "9 ", 1),
        true.upper(),
        true + "\n",
        mark.to_tag(mark.Mark(9, VERDICT), VERDICT),
    ):
        assert mark.of_tag(said, first) is None
    assert mark.of_tag(true, first) == mark.Mark(7, VERDICT)


# ---- a version's source


@pytest.mark.parametrize(
    "source",
    [
        "ROOT/../outside",
        "ROOT-beside/x",
        "ROOT/link",
        "file://evil.example/ROOT/x",
        "file:ROOT/x?y",
        "file:ROOT/%2e%2e/outside",
        "FILE:///etc",
        "s3://models.evil.example/icons",
        "s3://models/icons/../../other",
        "s3://models/icons-of-others",
        "s3://evil@models/icons",
        "s3://models/%69cons/..%2f..",
        "S3://models2/icons",
        "https://models/icons",
        "http://169.254.169.254/latest/meta-data",
        "mlflow-artifacts://evil.example/x",
        "dbfs:/x",
        "runs:/x",
        "models:/other/1",
        "\ns3://models/icons",
        "s3://models\\@evil/icons",
        "//evil.example/share",
        "",
    ],
)
def test_a_source_that_leads_elsewhere_is_not_followed(source: str, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    for one in (root, tmp_path / "outside", tmp_path / "artifacts-beside"):
        one.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    admitted = [*sources.roots("http://tracking:5000", tmp_path, ["s3://models/icons"])]
    with pytest.raises(FctError):
        sources.admit(source.replace("ROOT", str(root)), admitted, "version 2")


# ---- tables and files


def lance_table(folder: Path, first: str) -> Any:
    import lance
    import pyarrow as pa

    rows = {"id": [f"{first}{n}" for n in range(4)], "vector": pa.array(by_hand.rows(4, 1).tolist(), pa.list_(pa.float32(), by_hand.DIM))}
    return lance.write_dataset(pa.table(rows), str(folder))


def test_a_lance_table_that_takes_its_rows_from_another_place_is_refused(tmp_path: Path) -> None:
    """A clone is a manifest alone: it names a folder of this machine, or a host, which would be read."""
    secret = lance_table(tmp_path / "secret.lance", "secret")
    secret.shallow_clone(str(tmp_path / "gift.lance"), reference=1)
    for ask in (
        lambda: columns.ids(f"{tmp_path}/gift.lance::id", "ids"),
        lambda: columns.read(f"{tmp_path}/gift.lance::vector", "vectors"),
        lambda: read_rows(tmp_path / "gift.lance"),
    ):
        with pytest.raises(BadInput, match="another place"):
            ask()


def test_a_link_within_a_lance_table_is_not_followed_out_of_it(tmp_path: Path) -> None:
    lance_table(tmp_path / "secret.lance", "secret")
    lance_table(tmp_path / "gift.lance", "gift")
    (theirs,) = (tmp_path / "secret.lance" / "data").iterdir()
    (ours,) = (tmp_path / "gift.lance" / "data").iterdir()
    ours.unlink()
    ours.symlink_to(theirs)
    with pytest.raises(BadInput, match="another place"):
        columns.ids(f"{tmp_path}/gift.lance::id", "ids")


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.parquet", "ids.txt"])
def test_a_pipe_in_the_place_of_a_table_does_not_hang(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    said: list[BaseException] = []

    def ask() -> None:
        try:
            columns.names(tmp_path / name, "x") if name.endswith(".parquet") else columns.labels(tmp_path / name, "x")
        except BaseException as error:
            said.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5)
    hangs = asking.is_alive()
    if hangs:
        os.close(os.open(tmp_path / name, os.O_WRONLY | os.O_NONBLOCK))
    assert not hangs and isinstance(said[0], BadInput)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("(4611686018427387904, 2)", "'<f4'"),
        ("(-1, 2)", "'<f4'"),
        ("(True, 2)", "'<f4'"),
        ("(1.0, 2)", "'<f4'"),
        ("(2, 2)", "'|O'"),
        ("(2, 2)", "[('a', '<f4')]"),
        ("(2, 2)", "None"),
        ("(" * 3000, "'<f4'"),
        ("(" * 150 + ")" * 150, "'<f4'"),
        ("__import__('os').system('id')", "'<f4'"),
        ("(0, 1099511627776)", "'<f4'"),
        ("(1099511627776, 0)", "'<f4'"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_head_of_an_array_that_lies_is_one_sentence(shape: str, kind: str, tmp_path: Path) -> None:
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    path = tmp_path / "vectors.npy"
    path.write_bytes(vectors.MAGIC + b"\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64))
    with pytest.raises(BadInput):
        vectors.formed("vectors", columns.rows(path, "vectors")[0])


@pytest.mark.parametrize(
    "uri",
    [
        "a\0b.png",
        "x" * 5000,
        "/dev/zero",
        "/etc/hostname",
        "../../../../../../etc/hostname",
        "\n",
        "http://evil.example/x.png",
        "file:///etc/hostname",
    ],
)
def test_an_image_that_a_table_names_elsewhere_is_not_read_and_the_others_are(uri: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    place = tmp_path / "given"
    place.mkdir()
    Image.fromarray(noise(1)[0, 0]).save(place / "good.png")
    pq.write_table(pa.table({"id": ["bad", "good"], "image_uri": [uri, "good.png"]}), place / "items.parquet")
    count, parts, _ = arrivals.find(place / "items.parquet", tmp_path)
    bad, good = next(parts)
    assert count == 2 and good.read(16, "L")[0].shape == (1, 16, 16)
    with pytest.raises(BadInput):
        bad.read(16, "L")


# ---- requests


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    state = Live(by_hand.two_releases(tmp_path_factory.mktemp("served") / "project"))
    assert state.look() and not state.problem
    with TestClient(serve.build(state), base_url="http://localhost") as found:
        yield found


BODIES = {
    "an id that is no text": r'{"id":"\ud800"}',
    "an id of another type": '{"id":["i01"]}',
    "an id of megabytes": json.dumps({"id": "x" * 2**19}),
    "a canary": '{"id":"canary:c0"}',
    "both": '{"id":"i01","vector":[1,2,3,4,5,6,7,8]}',
    "neither": "{}",
    "more": '{"id":"i01","__class__":1}',
    "no number": '{"vector":[NaN,1,1,1,1,1,1,1]}',
    "infinity": '{"vector":[-Infinity,1,1,1,1,1,1,1]}',
    "beyond float32": '{"vector":[1e39,1,1,1,1,1,1,1]}',
    "no direction": '{"vector":[0,0,0,0,0,0,0,0]}',
    "too few": '{"vector":[1]}',
    "nested": '{"vector":[[1,2,3,4,5,6,7,8]]}',
    "deep": '{"vector":' + "[" * 900 + "]" * 900 + "}",
    "deeper": "[" * 500_000,
    "a number without end": '{"vector":[' + "9" * 100_000 + "]}",
    "a large number": '{"vector":[' + "9" * 4000 + ",1,1,1,1,1,1,1]}",
    "another embedder": r'{"vector":[1,2,3,4,5,6,7,8],"fingerprint":"\ud800"}',
    "no UTF-8": b'{"id":"\xff"}',
    "an array": "[]",
    "nothing": "",
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_query_that_is_none_is_one_sentence(kind: str, client: TestClient) -> None:
    answer = client.post("/search", content=BODIES[kind], headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"] and len(answer.text) < 1000


@pytest.mark.parametrize(
    "path",
    [
        "/image?id=../../etc/passwd",
        "/image?id=/etc/passwd",
        "/image?id=canary:c0",
        "/image?id=%ED%A0%80",
        "/image?id=%00",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static-offline-docs/../../../../etc/passwd",
        "/static-offline-docs/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static-offline-docs//etc/passwd",
    ],
)
def test_no_address_reads_a_file(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422) and "root:" not in answer.text


def test_a_vector_of_megabytes_does_not_keep_the_others_waiting(client: TestClient) -> None:
    """Reading 16 MiB of JSON took 1.5 s, in which nobody else was answered; an image may be as large, and is read aside."""
    body = b'{"vector":[' + b"1," * (2 << 20) + b"1]}"
    answer = client.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and answer.json()["title"] == "size"


def test_bodies_that_never_end_do_not_shut_out_the_others(client: TestClient) -> None:
    """As many connections as there are places, each with the first byte of its body: nobody else was answered for a minute."""
    head = {"type": "http", "method": "POST", "path": "/search", "query_string": b"", "http_version": "1.1", "scheme": "http"}
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"50")]

    async def ask() -> int:
        async def slow() -> dict[str, Any]:
            await asyncio.sleep(3600)
            return {}

        async def quick() -> dict[str, Any]:
            return {"type": "http.request", "body": b'{"id":"i01"}', "more_body": False}

        said: list[int] = []

        async def send(message: Any) -> None:
            said.extend([message["status"]] if message["type"] == "http.response.start" else [])

        async def nowhere(_: Any) -> None:
            pass

        async def one() -> None:
            await client.app(head | {"headers": headers}, slow, nowhere)

        slowly = [asyncio.create_task(one()) for _ in range(serve.MOST_WAITING)]
        await asyncio.sleep(2)
        await asyncio.wait_for(client.app(head | {"headers": headers[:2]}, quick, send), 20)
        for task in slowly:
            task.cancel()
        await asyncio.gather(*slowly, return_exceptions=True)
        return said[0]

    assert asyncio.run(ask()) == 200


def test_other_sites_learn_nothing_from_how_a_picture_loads(client: TestClient) -> None:
    """A page of another site may put <img src="http://127.0.0.1:8780/image?id=…"> and see whether it loads: there is such an item, or not."""
    for path in ("/image?id=i01", "/", "/release"):
        assert client.get(path).headers.get("Cross-Origin-Resource-Policy") == "same-origin"
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 421


def signed(body: bytes, secret: str = "s" * 32, at: int = 1_800_000_000, delivery: str = "d") -> dict[str, str]:
    import base64
    import hmac

    said = b".".join([delivery.encode(), str(at).encode(), body])
    return {
        receiver.ID: delivery,
        receiver.TIMESTAMP: str(at),
        receiver.SIGNATURE: "v1," + base64.b64encode(hmac.new(secret.encode(), said, hashlib.sha256).digest()).decode(),
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"entity":1,"data":{"name":"icons"}}',
        b'{"entity":"x","data":[]}',
        b'{"entity":"x","data":{"name":["icons"]}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_delivery_of_another_form_is_refused_also_with_the_secret(body: bytes) -> None:
    receiver.verify("s" * 32, signed(body), body, 1_800_000_000)
    with pytest.raises(Refused) as caught:
        receiver.concerns(body, "icons")
    assert caught.value.status == 400


@pytest.mark.parametrize("key", ["[]", "{}", "null", "1e999", '"fct.approve"'])
def test_whatever_a_delivery_says_of_a_tag_it_is_a_hint(key: str) -> None:
    body = f'{{"entity":"model_version_tag","data":{{"name":"icons","key":{key}}}}}'.encode()
    assert receiver.concerns(body, "icons") is True


@pytest.mark.parametrize(
    "change",
    [
        {receiver.SIGNATURE: "v1,"},
        {receiver.SIGNATURE: "v2," + "A" * 44},
        {receiver.SIGNATURE: "v1,ü"},
        {receiver.TIMESTAMP: "٣"},
        {receiver.TIMESTAMP: "-1"},
        {receiver.TIMESTAMP: "1e9"},
        {receiver.TIMESTAMP: "9" * 5000},
        {receiver.TIMESTAMP: "1799999999"},
        {receiver.ID: "d.1800000000"},
        {receiver.ID: "x" * 10_000},
    ],
)
def test_a_delivery_without_the_secret_is_refused(change: dict[str, str]) -> None:
    body = b'{"entity":"model_version","data":{"name":"icons"}}'
    events: list[object] = []

    async def emit(event: dict[str, Any]) -> None:
        events.append(event)

    with pytest.raises(Refused):
        receiver.verify("s" * 32, signed(body) | change, body, 1_800_000_000)
    app = receiver.build("s" * 32, "icons", emit, clock=lambda: 1_800_000_000)
    with TestClient(app, base_url="http://localhost") as asking:
        headers = {name: value.encode() for name, value in (signed(body) | change).items()}
        assert asking.post("/webhook", content=body, headers=headers).status_code in (400, 401) and not events  # type: ignore[arg-type]
