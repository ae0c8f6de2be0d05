"""What a program may call, and with what: operators, strings, types of numbers, arithmetic on sizes."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fct.errors import BadInput
from fct.program import operators
from fct.program.graph.steps import Refused

DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32, 8: torch.float64,
    12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
LAYOUTS = {7: torch.strided}
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
# what a string may be; an operator with a string argument that is not here cannot be on the list
STRINGS: dict[tuple[str, str], frozenset[str] | re.Pattern[str]] = {
    ("gelu", "approximate"): frozenset({"none", "tanh"}),
    ("pad", "mode"): frozenset({"constant", "reflect", "replicate"}),  # circular leaves memory unwritten where signs are mixed
    ("meshgrid", "indexing"): frozenset({"ij", "xy"}),
    ("div", "rounding_mode"): frozenset({"floor", "trunc"}),
    ("conv1d", "padding"): frozenset({"same", "valid"}),
    ("conv2d", "padding"): frozenset({"same", "valid"}),
    ("einsum", "equation"): re.compile(r"[A-Za-z,]+(->[A-Za-z]*)?"),
}
# whole numbers that must stand there as such: others are not looked at by the operator, which then returns memory that nobody wrote
CHOICES = {("grid_sampler", "interpolation_mode"): (0, 1, 2), ("grid_sampler", "padding_mode"): (0, 1, 2)}
LAST, OPEN_ENDED = 2**63 - 1, ("slice", "end")  # "to the end", which stands in slices alone
IGNORED = frozenset(
    {
        "torch.ops.aten._assert_tensor_metadata.default",
        "torch.ops.aten._assert_scalar.default",
        "torch.ops.aten.sym_constrain_range.default",
        "torch.ops.aten.sym_constrain_range_for_size.default",
    }
)  # they compute nothing; :class:`fct.program.graph.running.Graph` looks at the input itself

MOST = 2**31  # of any number that an operator is given: products of two stay within 64 bits


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arithmetic whose results stay numbers of a machine: a product of products would grow without end."""

    def call(*numbers: Any) -> Any:
        found = function(*numbers)
        if abs(found) > MOST:
            raise BadInput("the program computes with a size that is too large", got=f"more than {MOST}")
        return found

    return call


# on sizes, which are whole numbers
ARITHMETIC: dict[str, Callable[..., Any]] = {
    name: _bounded(function)
    for name, function in {
        **{f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "truediv")},
        **{f"_operator.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
        **{f"torch.sym_{name}": function for name, function in (("max", max), ("min", min), ("int", int), ("float", float))},
        "torch.sym_not": operator.not_,
        **{f"math.{name}": getattr(math, name) for name in ("floor", "ceil", "trunc")},
    }.items()
}
GRADIENTS, AUTOCAST = "torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.wrap_with_autocast"
TENSOR, TENSORS, NUMBER = "tensor", "list of tensors", "number"
RETURNS = {"Tensor": TENSOR, "List[Tensor]": TENSORS}
# operators whose output is memory of its own, whatever they are given
FRESH = re.compile(
    r"conv1d|conv2d|conv_transpose2d|batch_norm|layer_norm|group_norm|instance_norm|linear|matmul|bmm|mm|addmm|add|"
    r"sub|mul|div|rsub|neg|cat|stack|clone|relu|gelu|silu|sigmoid|tanh|hardswish|hardsigmoid|hardtanh|relu6|"
    r"leaky_relu|elu|softmax|softplus|mish|max_pool2d|avg_pool2d|adaptive_avg_pool2d|scaled_dot_product_attention|"
    r"mean|sum|pow|lift_fresh_copy|sqrt|rsqrt|exp|log|upsample_bilinear2d|upsample_bicubic2d|upsample_nearest2d|zeros|ones|full"
)
BLOCKS = (GRADIENTS, AUTOCAST)
DYNAMIC = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
UNTAGGED = {  # operators that are of those, which torch does not say
    f"aten.{name}" for name in ("nonzero_numpy.default", "where.default", "repeat_interleave.self_Tensor", "narrow.Tensor", "tensor_split.tensor_indices_or_sections")
}  # fmt: skip
FORBIDDEN_TYPES = ("Generator", "Stream", "Storage", "QScheme", "__torch__", "Any", "Future", "Dict", "Capsule", "Pylong")
FORBIDDEN_NAMES = re.compile(
    r"\w*empty\w*|from_file|set_\w*|\w*resize\w*|record_stream|\w*pin_memory|data|lift|lift_fresh|as_strided\w*|\w*item\w*|_local_scalar\w*"
)
_OPERATOR = re.compile(r"torch\.ops\.(aten)\.([A-Za-z_]\w*)\.(\w+)")


def overload_of(name: str) -> Any:
    """The operator that an archive's name is of; None where this torch has none."""
    parts = _OPERATOR.fullmatch(name)
    if parts is None:
        return None
    packet = getattr(torch.ops.aten, parts[2], None)
    overload = getattr(packet, parts[3], None)
    return overload if hasattr(overload, "_schema") else None


def permitted(name: str) -> Any:
    """The operator of a name that a program may call: on the list, or added to it.

    Raises:
        Refused: it is neither, or may not be added; where it could be, with the line for params.yaml.
    """
    overload = overload_of(name)
    if name in operators.listed():
        if overload is None:
            raise Refused("an operator that this torch does not have", name)
        return overload
    against = "this torch has no such operator" if overload is None else objection(overload)
    if against is None and name.split(".")[3].startswith("_"):
        against = "it is an internal one"
    if name not in operators.admitted():
        line = f"program: {{operators: [{name}]}} in params.yaml admits it: it computes and does nothing else"
        raise Refused("an operator that is not on the list", name, None if against else line)
    if against:
        raise Refused("an operator that may not be added to the list", name, against)
    return overload


def objection(overload: Any) -> str | None:
    """Why an operator may not be called by any program, from its schema; None where nothing speaks against it."""
    schema = overload._schema
    base = schema.name.partition("::")[2]
    if FORBIDDEN_NAMES.fullmatch(base):
        return "it reads memory that nobody wrote, or changes what a tensor refers to"
    for argument in schema.arguments:
        kind = str(argument.real_type)
        if any(word in kind for word in FORBIDDEN_TYPES):
            return f"its argument {argument.name} is a {kind}"
        if "str" in kind and (base.rstrip("_"), argument.name) not in STRINGS:
            return f"its argument {argument.name} is a string"
        if argument.alias_info is not None and argument.alias_info.is_write and (argument.kwarg_only or argument.name != "self"):
            return f"it writes to its argument {argument.name}"
    names = {argument.name for argument in schema.arguments}
    if torch.Tag.nondeterministic_seeded in overload.tags and not names & {"train", "training", "dropout_p"}:
        return "it draws at random"
    if str(overload) in UNTAGGED or (DYNAMIC & {*overload.tags} and base not in CAREFUL):
        return "what size its result has hangs on the numbers that it is given"
    for result in schema.returns:
        if str(result.real_type) not in RETURNS and base != "sym_size":
            return f"it returns a {result.real_type}"
    return None


def _attention(overload: Any) -> Callable[..., Any]:
    """The operator itself does not compare how many keys and values there are, and reads beyond the shorter ones."""

    def call(**given: Any) -> Tensor:
        if given["key"].shape[:-1] != given["value"].shape[:-1] or given["query"].shape[-1] != given["key"].shape[-1]:
            shapes = ", ".join(str(tuple(given[name].shape)) for name in ("query", "key", "value"))
            raise BadInput("the program attends to keys and values that do not correspond", got=shapes)
        return overload(**given)  # type: ignore[no-any-return]

    return call


def _quotient(overload: Any) -> Callable[..., Any]:
    """The least whole number divided by -1 and truncated ends the process."""

    def call(**given: Any) -> Tensor:
        whole = not any(
            value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, float)
            for value in (given["self"], given["other"])
        )
        if given.get("rounding_mode") == "trunc" and whole:
            raise BadInput("the program truncates a quotient of whole numbers", todo="divide floating-point numbers, or round down")
        return overload(**given)  # type: ignore[no-any-return]

    return call


def _sampled(overload: Any) -> Callable[..., Any]:
    """Volumes know fewer ways to interpolate than pictures, and do not look."""

    def call(**given: Any) -> Tensor:
        if given["input"].ndim != 4:
            raise BadInput("the program samples something that is not an image", wanted="four dimensions", got=given["input"].ndim)
        return overload(**given)  # type: ignore[no-any-return]

    return call


def _chosen(overload: Any) -> Callable[..., Any]:
    """How many a mask chooses hangs on what the images show, and so would every size after it: none is judged once for all images."""

    def call(**given: Any) -> Tensor:
        if any(isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) for one in given["indices"]):
            raise BadInput("the program chooses by a mask", todo="choose by places, or use torch.where")
        return overload(**given)  # type: ignore[no-any-return]

    return call


def _one_hot(overload: Any) -> Callable[..., Any]:
    """Without their number it makes as many classes as the images have."""

    def call(**given: Any) -> Tensor:
        if given.get("num_classes", -1) < 0:
            raise BadInput("the program calls one_hot without a number of classes", todo="give one_hot the number of classes")
        return overload(**given)  # type: ignore[no-any-return]

    return call


CAREFUL: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "scaled_dot_product_attention": _attention,
    "div": _quotient,
    "grid_sampler": _sampled,
    "index": _chosen,
    "one_hot": _one_hot,
}
