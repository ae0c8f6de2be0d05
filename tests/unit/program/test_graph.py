"""Programs that somebody wrote to do more than compute are refused before anything of them runs; the rest gives the module's own bits."""

from __future__ import annotations

import copy
import json
import random
import zipfile

import pytest
import torch
from torch import nn
from torch.nn import functional

from fct.errors import BadInput
from fct.program import graph, operators
from fct.program import programs as program


class Small(nn.Module):
    """Everything a case needs: a parameter, a buffer, an operator in place on its own value, strings, sizes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 6)
        self.register_buffer("mean", torch.full((6,), 0.1))

    def forward(self, images):
        x = functional.relu(self.norm(self.conv(images.float() / 255)), inplace=True)
        x = functional.dropout(functional.gelu(functional.adaptive_avg_pool2d(x, 2), approximate="tanh"), training=False)
        phi = self.out(x.reshape(images.shape[0], -1)) - self.mean
        return phi, (phi[:, :4] * 9).round().clamp(-8, 7).to(torch.int8)


def images(n):
    return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "program.pt2"
    program.export(Small().eval(), 1, 8, path)
    with zipfile.ZipFile(path) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def model(records):
    return json.loads(records[graph.MODEL])


def nodes(model):
    return model["graph_module"]["graph"]["nodes"]


def of(model, target):
    return next(node for node in nodes(model) if node["target"].startswith(f"torch.ops.aten.{target}"))


def read(records, model):
    return graph.read(records | {graph.MODEL: json.dumps(model).encode()})


def refused(records, model, words):
    with pytest.raises(graph.Refused) as caught:
        read(records, model)
    assert words in f"{caught.value.what}; {caught.value.got}", caught.value.args


def tensor(name):
    return {"as_tensor": {"name": name}}


def node(target, inputs, output, **more):
    given = [{"name": name, "arg": arg, "kind": 1} for name, arg in inputs.items()]
    return {
        "target": f"torch.ops.{target}",
        "inputs": given,
        "outputs": [tensor(output)] if isinstance(output, str) else output,
        "metadata": {},
    } | more


def first(model, *new):
    nodes(model)[:0] = new


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_graph_gives_the_bits_of_the_module_and_changes_nothing(records, model, n):
    made, x = read(records, model), images(n)
    before = x.clone()
    for _ in range(2):
        with torch.inference_mode():
            found, wanted = made(x), Small().eval()(x)
        assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 9, 8, dtype=torch.uint8)]
)
def test_images_that_do_not_fit_are_one_sentence(records, model, wrong):
    with pytest.raises(BadInput, match="wanted \\(N, 1, 8, 8\\) uint8"):
        read(records, model)(wrong)


@pytest.mark.parametrize(
    "made",
    [
        node("aten.from_file.default", {"filename": {"as_string": "x"}, "shared": {"as_bool": True}, "size": {"as_int": 9}}, "a"),
        node("aten.copy_.default", {"self": tensor("p_conv_bias"), "src": tensor("p_conv_bias")}, "a"),
        node("aten.set_.source_Tensor", {"self": tensor("p_conv_bias"), "source": tensor("p_conv_bias")}, "a"),
        node("aten.rand.default", {"size": {"as_ints": [6]}}, "a"),
        node("aten.bernoulli.default", {"self": tensor("p_conv_bias")}, "a"),
        node("aten.empty.memory_format", {"size": {"as_ints": [6]}}, "a"),
        node("aten.resize_.default", {"self": tensor("p_conv_bias"), "size": {"as_ints": [6]}}, "a"),
        node("aten._local_scalar_dense.default", {"self": tensor("p_conv_bias")}, "a"),
        node("aten.save.default", {"self": tensor("p_conv_bias")}, "a"),
        node("prim.Print.default", {"self": tensor("p_conv_bias")}, "a"),
        node("profiler._record_function_enter.default", {"name": {"as_string": "x"}}, "a"),
        node("higher_order.cond", {"": {"as_bool": True}}, "a"),
        node("higher_order.triton_kernel_wrapper_functional", {"": {"as_bool": True}}, "a"),
        node("aten.conv2d.default.__globals__", {"input": tensor("p_conv_bias")}, "a"),
    ],
    ids=lambda made: made["target"],
)
def test_operators_that_read_write_draw_or_print_are_refused_by_name(records, model, made):
    first(model, made)
    refused(records, model, f"an operator that is not on the list; {made['target']}")


@pytest.mark.parametrize("value", ["p_conv_bias", "b_mean", "images"])
@pytest.mark.parametrize(
    "through",
    [
        [],
        [node("aten.view.default", {"self": tensor("VALUE"), "size": {"as_ints": [-1]}}, "a")],
        [node("aten.to.dtype", {"self": tensor("VALUE"), "dtype": {"as_scalar_type": 7}}, "a")],
        [node("aten.dropout.default", {"input": tensor("VALUE"), "p": {"as_float": 0.5}, "train": {"as_bool": False}}, "a")],
        [
            node("aten.expand.default", {"self": tensor("VALUE"), "size": {"as_ints": [-1]}}, "b"),
            node("aten.contiguous.default", {"self": tensor("b")}, "a"),
        ],
        [node("aten.einsum.default", {"equation": {"as_string": "i->i"}, "tensors": {"as_tensors": [{"name": "VALUE"}]}}, "a")],
    ],
    ids=["itself", "view", "to", "dropout", "expand", "einsum"],
)
def test_nothing_that_the_graph_did_not_make_is_changed_in_place(records, model, through, value):
    made = json.loads(json.dumps(through).replace("VALUE", value))
    first(model, *made, node("aten.relu_.default", {"self": tensor("a" if through else value)}, "z"))
    refused(records, model, "an operator that changes an image, a parameter or a constant")


def test_a_tensor_is_never_taken_for_a_number_nor_a_number_for_a_tensor(records, model):
    """As a number a view of a parameter would not be known as one, and could be changed in place."""
    whole = {"self": tensor("p_conv_bias"), "size": {"as_ints": [-1]}}
    first(
        model, node("aten.view.default", whole, [{"as_sym_int": {"as_name": "a"}}]), node("aten.relu_.default", {"self": tensor("a")}, "z")
    )
    refused(records, model, "a result of another kind")
    nodes(model)[0]["outputs"] = [tensor("a")]
    largest = node("x", {}, [{"as_sym_int": {"as_name": "b"}}]) | {"target": "torch.sym_max"}
    largest["inputs"] = [{"name": "", "arg": {"as_sym_int": {"as_name": "a"}}, "kind": 1}] * 2
    nodes(model)[1] = largest
    refused(records, model, "a tensor in the place of a number; a")
    nodes(model)[1] = node("aten.sym_size.int", {"self": tensor("images"), "dim": {"as_int": 0}}, "c")
    refused(records, model, "a result of another kind")
    nodes(model)[1]["outputs"] = [{"as_sym_int": {"as_name": "c"}}]
    nodes(model).insert(2, node("aten.relu.default", {"self": tensor("c")}, "d"))
    refused(records, model, "a number in the place of a tensor; c")


def test_attention_to_fewer_keys_than_values_reads_no_foreign_memory(records, model):
    def some(name, tokens):
        return node("aten.full.default", {"size": {"as_ints": [1, 1, tokens, 8]}, "fill_value": {"as_int": 1}}, name)

    asked = {"query": tensor("q"), "key": tensor("k"), "value": tensor("v")}
    first(model, some("q", 4), some("k", 4), some("v", 2), node("aten.scaled_dot_product_attention.default", asked, "z"))
    with pytest.raises(BadInput, match="keys and values that do not correspond"):
        read(records, model)(images(1))


def full(name, *size, value=1):
    return node("aten.full.default", {"size": {"as_ints": list(size)}, "fill_value": {"as_float": value}}, name)


def test_running_statistics_are_never_written(records, model):
    given = {
        "input": tensor("x"),
        "weight": {"as_none": True},
        "bias": {"as_none": True},
        "running_mean": tensor("p_conv_bias"),
        "running_var": tensor("p_conv_bias"),
    }
    given |= {
        "use_input_stats": {"as_bool": True},
        "momentum": {"as_float": 1.0},
        "eps": {"as_float": 0.1},
        "cudnn_enabled": {"as_bool": False},
    }
    first(model, full("x", 1, 4, 3, 3), node("aten.instance_norm.default", given, "z"))
    refused(records, model, "an operator that trains")


def test_a_program_that_changed_itself_is_never_run_again(records, model):
    """Whatever way in there may be: what was written is noticed, also where a later step fails, and no vector comes out of it any more."""
    made = read(records, model)
    parameter = next(value for value in made._start if value is not None)
    made._steps = (graph.Step(lambda: parameter.add_(1), {}, (), (None,), ()), *made._steps)
    for words in ("changed an image, a parameter or a constant", "is not run again"):
        with pytest.raises(BadInput, match=words):
            made(images(1))


@pytest.mark.parametrize(
    ("name", "value"), [("interpolation_mode", 3), ("interpolation_mode", -1), ("padding_mode", 7), ("padding_mode", True)]
)
def test_ways_to_interpolate_that_nobody_knows_are_refused(records, model, name, value):
    given = {"input": tensor("x"), "grid": tensor("y"), "interpolation_mode": {"as_int": 0}, "padding_mode": {"as_int": 0}}
    given |= {"align_corners": {"as_bool": False}, name: {"as_int": value}}
    first(model, full("x", 1, 1, 4, 4), full("y", 1, 2, 2, 2), node("aten.grid_sampler.default", given, "z"))
    with pytest.raises(graph.Refused):
        read(records, model)


@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        ("pad", {"self": tensor("x"), "pad": {"as_ints": [7, -7, 0, 0]}, "mode": {"as_string": "circular"}}, "a string that is not one of those"),
        ("pad", {"self": tensor("x"), "pad": {"as_ints": [2**40, 0]}}, "an argument of another kind"),
        ("im2col", {"self": tensor("x"), "kernel_size": {"as_ints": [2, 2]}, "dilation": {"as_ints": [2**62, 1]}, "padding": {"as_ints": [0, 0]}, "stride": {"as_ints": [1, 1]}}, "an argument of another kind"),
        ("slice", {"self": tensor("x"), "dim": {"as_int": 10**4000}}, "an argument of another kind"),
    ],
)  # fmt: skip
def test_numbers_and_strings_that_leave_memory_unwritten_are_refused(records, model, target, given, words):
    name = {"pad": "aten.pad.default", "im2col": "aten.im2col.default", "slice": "aten.slice.Tensor"}[target]
    first(model, full("x", 1, 1, 8, 8), node(name, given, "z"))
    refused(records, model, words)


def test_to_the_end_stands_in_slices_alone(records, model):
    """Any other operator would reckon with a number beyond all sizes, and leave memory unwritten."""
    last = {"as_int": 2**63 - 1}
    end = {"self": tensor("p_conv_bias"), "dim": {"as_int": 0}, "start": {"as_int": 0}, "end": last}
    first(model, node("aten.slice.Tensor", end, "z"))
    read(records, model)
    nodes(model)[0] = node("aten.slice.Tensor", end | {"start": last}, "z")
    refused(records, model, "an argument of another kind")
    nodes(model)[0] = node(
        "aten.narrow.default", {"self": tensor("p_conv_bias"), "dim": {"as_int": 0}, "start": {"as_int": 0}, "length": last}, "z"
    )
    refused(records, model, "an argument of another kind")
    inputs = [{"name": "", "arg": {"as_sym_int": {"as_int": value}}, "kind": 1} for value in (2**63 - 1, 1)]
    nodes(model)[0] = node("x", {}, [{"as_sym_int": {"as_name": "n"}}]) | {"target": "torch.sym_max", "inputs": inputs}
    refused(records, model, "an argument of another kind")


def test_a_number_with_a_point_makes_no_size_beyond_all_sizes(records, model):
    made = node("x", {}, [{"as_sym_int": {"as_name": "n"}}]) | {"target": "torch.sym_int"}
    made["inputs"] = [{"name": "", "arg": {"as_float": 1e30}, "kind": 1}]
    first(model, made)
    with pytest.raises(BadInput, match="a size that is too large"):
        read(records, model)(images(1))


def test_a_quotient_of_whole_numbers_that_would_end_the_process_is_one_sentence(records, model):
    whole = node("aten.to.dtype", {"self": tensor("x"), "dtype": {"as_scalar_type": 5}}, "w")
    given = {"self": tensor("w"), "other": {"as_int": -1}, "rounding_mode": {"as_string": "trunc"}}
    first(model, full("x", 4, value=-(2.0**63)), whole, node("aten.div.Tensor_mode", given, "z"))
    with pytest.raises(BadInput, match="truncates a quotient of whole numbers"):
        read(records, model)(images(1))


def test_outputs_are_never_the_program_s_own_memory(records, model):
    taken = node(
        "aten.slice.Tensor", {"self": tensor("p_out_weight"), "dim": {"as_int": 0}, "start": {"as_int": 0}, "end": {"as_int": 1}}, "mine"
    )
    first(model, taken)
    model["graph_module"]["signature"]["output_specs"][0] = {"user_output": {"arg": tensor("mine")}}
    made = read(records, model)
    before = made(images(1))[0].clone()
    with torch.inference_mode():
        made(images(1))[0].zero_()
        assert torch.equal(made(images(1))[0], before)


def test_outputs_of_another_form_are_one_sentence(records, model):
    model["graph_module"]["signature"]["output_specs"][0] = {"user_output": {"arg": tensor("p_conv_bias")}}
    with pytest.raises(BadInput, match="the program's outputs have the wrong form"):
        read(records, model)(images(2))


@pytest.mark.parametrize("value", [{"as_string": "%099d"}, {"as_int": [1]}, {"as_int": "1"}, {"as_float": {}}, {}])
def test_constants_are_numbers(records, model, value):
    signature, inner = model["graph_module"]["signature"], model["graph_module"]["graph"]
    signature["input_specs"].append({"constant_input": {"name": "c", "value": value}})
    inner["inputs"].append({"as_int": 1})
    with pytest.raises(graph.Refused):
        read(records, model)


def change(model, target, name, arg):
    inputs = of(model, target)["inputs"]
    inputs[:] = [one for one in inputs if one["name"] != name] + [{"name": name, "arg": arg, "kind": 1}]


@pytest.mark.parametrize(
    ("target", "name", "arg", "words"),
    [
        ("batch_norm", "training", {"as_bool": True}, "an operator that trains"),
        ("dropout", "train", {"as_bool": True}, "an operator that trains"),
        ("dropout", "train", {"as_int": 0}, "an argument of another kind"),
        ("gelu", "approximate", {"as_string": "none; import os"}, "a string that is not one of those"),
        ("gelu", "approximate", {"as_int": 1}, "an argument of another kind"),
        ("to.dtype", "dtype", {"as_scalar_type": 9}, "a type of numbers"),
        ("to.dtype", "dtype", {"as_scalar_type": True}, "a type of numbers"),
        ("conv2d", "weight", tensor("nobody"), "a value that nothing made; nobody"),
        ("conv2d", "weight", tensor("linear"), "a value that nothing made; linear"),
        ("conv2d", "stride", {"as_ints": ["1", "1"]}, "an argument of another kind"),
        ("conv2d", "groups", {"as_float": 1.5}, "an argument of another kind"),
        ("conv2d", "groups", {"as_graph": {"name": "x", "graph": {}}}, "an argument of another kind"),
        ("conv2d", "more", {"as_int": 1}, "an argument that the operator does not have"),
        ("conv2d", "out", tensor("p_conv_bias"), "an argument that the operator does not have"),
        ("conv2d", "bias", {"as_custom_obj": {"name": "x", "class_fqn": "os.system"}}, "an argument of another kind"),
    ],
)
def test_arguments_are_what_their_schema_says(records, model, target, name, arg, words):
    change(model, target, name, arg)
    refused(records, model, words)


@pytest.mark.parametrize("device", [{"type": "mps"}, {"type": "meta"}, {"type": "../x"}, {}, "cpu"])
def test_there_is_no_device_but_the_one_it_is_loaded_for(records, model, device):
    made = {"size": {"as_ints": [6]}, "fill_value": {"as_int": 1}, "device": {"as_device": device}}
    first(model, node("aten.full.default", made, "a"))
    refused(records, model, "an argument of another kind")


@pytest.fixture
def nothing_admitted():
    yield
    operators.admit([])


@pytest.mark.usefixtures("nothing_admitted")
def test_an_operator_can_be_added_only_if_it_computes_and_does_nothing_else(records, model):
    adds, draws = "torch.ops.aten.erfinv.default", "torch.ops.aten.normal.Tensor_float"
    assert adds not in operators.listed()
    first(model, node("aten.erfinv.default", {"self": tensor("p_conv_bias")}, "a"))
    with pytest.raises(graph.Refused) as caught:
        read(records, model)
    assert caught.value.todo is not None and f"program: {{operators: [{adds}]}}" in caught.value.todo
    operators.admit([adds, draws, "torch.ops.aten.nothing.default"])
    read(records, model)
    for name in (draws, "torch.ops.aten.nothing.default"):
        nodes(model)[0]["target"] = name
        refused(records, model, "an operator that may not be added to the list")


def test_every_operator_of_the_list_keeps_the_rules():
    for name in operators.listed():
        found = graph.overload_of(name)
        assert found is not None and graph.objection(found) is None, name


def test_a_block_within_the_graph_is_looked_at_as_the_graph_is(records, model):
    inner = {"inputs": [tensor("x")], "outputs": [tensor("y")], "nodes": [node("aten.relu_.default", {"self": tensor("x")}, "y")]}
    block = node("higher_order.wrap_with_set_grad_enabled", {}, [{"as_tensors": [{"name": "a"}]}])
    operand = tensor("p_conv_bias")
    given = [{"as_bool": False}, {"as_graph": {"name": "inner", "graph": inner}}, operand]
    block["inputs"] = [{"name": "", "arg": arg, "kind": 1} for arg in given]
    first(model, block)
    refused(records, model, "an operator that changes an image, a parameter or a constant")
    inner["nodes"] = [node("aten.from_file.default", {"filename": {"as_string": "x"}}, "y")]
    refused(records, model, "an operator that is not on the list")
    inner["nodes"] = [node("aten.relu.default", {"self": tensor("x")}, "y")]
    assert torch.equal(read(records, model)(images(2))[0], Small().eval()(images(2))[0])


@pytest.mark.parametrize("kind", ["buffer_mutation", "user_input_mutation", "loss_output", "token"])
def test_an_output_that_is_no_result_is_refused(records, model, kind):
    signature = model["graph_module"]["signature"]
    signature["output_specs"][0] = {kind: {"arg": {"name": "linear"}, "buffer_name": "mean"}}
    refused(records, model, "an output that is no result")


def test_inputs_beside_the_images_are_refused(records, model):
    signature, inner = model["graph_module"]["signature"], model["graph_module"]["graph"]
    signature["input_specs"].append({"custom_obj": {"arg": {"name": "o"}, "custom_obj_name": "o"}})
    inner["inputs"].append(tensor("o"))
    refused(records, model, "an input of another kind")
    signature["input_specs"][-1] = {"user_input": {"arg": tensor("o")}}
    refused(records, model, "not one input of images")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 10**9}]),
        ("sizes", [{"as_int": -1}]),
        ("strides", [{"as_int": -1}]),
        ("strides", [{"as_int": 2}]),
        ("storage_offset", {"as_int": 1}),
        ("storage_offset", {"as_expr": {"expr_str": "__import__('os')"}}),
        ("sizes", [{"as_int": 1}] * 40),
        ("sizes", [{"as_int": 2**62}]),
        ("dtype", 9),
        ("layout", 1),
    ],
)
def test_a_parameter_never_reaches_beyond_its_own_numbers(records, model, key, value):
    name = "data/weights/model_weights_config.json"
    config = json.loads(records[name])
    config["config"]["conv.bias"]["tensor_meta"][key] = value
    refused(records | {name: json.dumps(config).encode()}, model, "a parameter")


@pytest.mark.parametrize("path", ["../../../etc/passwd", "", 7, None, "nothing"])
def test_numbers_come_from_the_archive_alone(records, model, path):
    name = "data/weights/model_weights_config.json"
    config = json.loads(records[name])
    config["config"]["conv.bias"]["path_name"] = path
    refused(records | {name: json.dumps(config).encode()}, model, "a parameter whose numbers are not in the archive")


def test_numbers_come_from_the_shape_of_the_images_alone(records, model):
    """Any other size may hang on what the images show, and is a constant where ``fct serve`` records the program."""
    size = node("aten.sym_size.int", {"self": tensor("p_conv_bias"), "dim": {"as_int": 0}}, [{"as_sym_int": {"as_name": "n"}}])
    first(model, size)
    refused(records, model, "a size of something else than its images")
    block = node("higher_order.wrap_with_set_grad_enabled", {}, [{"as_tensors": [{"name": "a"}]}])
    inner = {"inputs": [tensor("x")], "outputs": [tensor("x")], "nodes": [node("aten.sym_size.int", {"self": tensor("x"), "dim": {"as_int": 0}}, size["outputs"])]}  # fmt: skip
    given = [{"as_bool": False}, {"as_graph": {"name": "inner", "graph": inner}}, tensor("p_conv_bias")]
    block["inputs"] = [{"name": "", "arg": arg, "kind": 1} for arg in given]
    nodes(model)[0] = block
    refused(records, model, "a size of something else than its images")


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("index.Tensor", {"self": tensor("images"), "indices": {"as_tensors": [{"name": "images"}]}}, "chooses by a mask"),
        ("index.Tensor", {"self": tensor("images"), "indices": {"as_optional_tensors": [{"as_none": True}, {"as_tensor": {"name": "mask"}}]}}, "chooses by a mask"),
        ("one_hot.default", {"self": tensor("whole")}, "without a number of classes"),
        ("one_hot.default", {"self": tensor("whole"), "num_classes": {"as_int": -1}}, "without a number of classes"),
    ],
)  # fmt: skip
def test_no_size_hangs_on_what_the_images_show(records, model, name, given, words):
    mask = node("aten.gt.Scalar", {"self": tensor("images"), "other": {"as_int": 7}}, "mask")
    whole = node("aten.to.dtype", {"self": tensor("images"), "dtype": {"as_scalar_type": 5}}, "whole")
    first(model, mask, whole, node(f"aten.{name}", given, "z"))
    with pytest.raises(BadInput, match=words):
        read(records, model)(images(1))


@pytest.mark.parametrize(
    "name", ["nonzero.default", "nonzero_numpy.default", "argwhere.default", "where.default", "masked_select.default", "narrow.Tensor",
             "repeat_interleave.Tensor", "repeat_interleave.self_Tensor", "unique_dim.default", "bincount.default", "equal.default",
             "is_nonzero.default", "sym_numel.default"]
)  # fmt: skip
def test_an_operator_whose_result_is_of_a_size_that_nobody_knows_cannot_be_added(name):
    assert graph.objection(graph.overload_of(f"torch.ops.aten.{name}"))


def test_sizes_that_grow_without_end_end(records, model):
    """A number multiplied by itself hundreds of times would fill the memory."""
    size = node("aten.sym_size.int", {"self": tensor("images"), "dim": {"as_int": 2}}, [{"as_sym_int": {"as_name": "s0"}}])
    grown = []
    for at in range(300):
        made = node("x", {}, [{"as_sym_int": {"as_name": f"s{at + 1}"}}])
        made["target"] = "_operator.mul"
        made["inputs"] = [{"name": "", "arg": {"as_sym_int": {"as_name": f"s{at}"}}, "kind": 1}] * 2
        grown.append(made)
    first(model, size, *grown)
    with pytest.raises(BadInput, match="a size that is too large"):
        read(records, model)(images(1))


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*path, key))
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from leaves(one, (*path, at))
    yield path


HOSTILE = (
    None,
    -1,
    7,
    10**30,
    1.5,
    True,
    "",
    "os.system",
    [],
    {},
    [[]],
    {"as_tensor": None},
    {"as_int": {}},
    {"name": []},
    {"as_name": "images"},
)


def test_whatever_stands_in_the_json_loading_ends_in_a_graph_or_one_sentence(records, model):
    rng = random.Random(0)
    inner = {"graph": model["graph_module"]["graph"], "signature": model["graph_module"]["signature"]}
    places = [path for path in leaves(inner) if path and "metadata" not in path]
    ended = {True: 0, False: 0}
    for path in rng.sample(places, min(700, len(places))):
        changed = copy.deepcopy(model)
        at = changed["graph_module"]
        for key in path[:-1]:
            at = at[key]
        if rng.random() < 0.2 and isinstance(at, dict):
            del at[path[-1]]
        else:
            at[path[-1]] = rng.choice(HOSTILE)
        try:
            read(records, changed)
            ended[True] += 1
        except graph.Refused:
            ended[False] += 1
    assert min(ended.values()) > 50, ended
