"""The program that a stranger registers: each attack is one test, refused in one sentence before torch sees it."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fct.errors import BadInput
from fct.program import graph, operators
from fct.program import programs as program
from tests.hostile.versions import Json, noise

Records = dict[str, bytes]


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
