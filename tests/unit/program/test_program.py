import io
import json
import os
import pickle
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from fct import embedder, side
from fct.errors import BadInput
from fct.program import graph
from fct.program import programs as program
from fct.side.settings import SideSettings

CPU = torch.device("cpu")
SIDE = SideSettings(("pca",), dims=4, simclr_width=4, simclr_epochs=1, simclr_batch=8, simclr_temperature=0.2, simclr_learning_rate=0.002)
PREPROCESSING: dict[str, object] = {"size": 16, "mode": "L"}


def images(n, channels=1, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def make(architecture="small-cnn", channels=1, size=16, seed=0):
    net = embedder.build(architecture, 6, channels, size, seed).eval()
    return side.prepare(net, images(6, channels, size), SIDE, seed=0, device=CPU)


@pytest.fixture(scope="module")
def module():
    return make()


@pytest.fixture(scope="module")
def exported(module, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "program.pt2"
    program.export(module, 1, 16, path)
    return path


def rewritten(source, target, changes=None, extra=None, prefix="archive/"):
    """A copy of the archive with some records changed (None: left out) and others added."""
    changes = {prefix + name: data for name, data in (changes or {}).items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = changes.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
        for name, data in extra or []:
            new.writestr(name, data)
    return target


class Opens:
    """Unpickling an instance makes a folder: proof that the pickle ran."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def record(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read("archive/" + name)


def refuse(path, sentence):
    with pytest.raises(BadInput, match=sentence) as caught:
        program.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_exported_program_gives_the_very_bits_of_the_module(module, exported, n):
    x = torch.from_numpy(images(n, seed=n))
    with torch.inference_mode():
        wanted, found = module(x), program.load(exported, CPU)(x)
    for a, b in zip(wanted, found, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize(
    ("architecture", "channels", "size"),
    [
        ("small-cnn", 3, 16),
        ("small-cnn-pooled", 1, 16),
        pytest.param("small-vit", 1, 16, marks=pytest.mark.slow),  # a minute of export
        ("small-resnet", 1, 16),
        ("resnet18", 1, 32),
        ("mobilenet-v3", 3, 32),
        pytest.param("resnet50", 3, 32, marks=pytest.mark.long),
        pytest.param("vit-b-16", 1, 32, marks=pytest.mark.long),
    ],
)
def test_every_architecture_exports_loads_and_embeds(architecture, channels, size, tmp_path):
    made = make(architecture, channels, size)
    program.export(made, channels, size, tmp_path / "program.pt2")
    x = images(2, channels, size)
    phi, psi = program.embed(program.load(tmp_path / "program.pt2"), x, device=CPU)
    wanted_phi, wanted_psi = program.embed(made, x, device=CPU)
    assert phi.shape == (2, 6) and psi.shape == (2, 4)
    np.testing.assert_allclose(phi, wanted_phi, atol=1e-5)  # attention may be taken apart in another way
    assert np.abs(psi.astype(int) - wanted_psi).max() <= 1


def test_all_architectures_are_tested():
    marked = next(mark for mark in test_every_architecture_exports_loads_and_embeds.pytestmark if mark.name == "parametrize").args[1]
    assert {row.values[0] if hasattr(row, "values") else row[0] for row in marked} == set(embedder.ARCHITECTURES)


def test_images_are_embedded_in_blocks_with_one_result(module):
    x = images(7)
    whole, parts = program.embed(module, x, device=CPU), program.embed(module, x, device=CPU, batch=3)
    assert whole[0].dtype == np.float32 and whole[1].dtype == np.int8
    np.testing.assert_allclose(whole[0], parts[0], atol=1e-5)
    assert np.abs(whole[1].astype(int) - parts[1]).max() <= 1


def test_no_images_at_all_are_refused(module):
    with pytest.raises(BadInput, match="no images"):
        program.embed(module, images(0), device=CPU)


class Wrong(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        flat = x.flatten(1)
        return {
            "one tensor": flat.float(),
            "three": (flat.float(), flat.to(torch.int8), flat),
            "uint8 side": (flat.float(), flat),
            "integer vectors": (flat, flat.to(torch.int8)),
            "one vector for all": (flat.float().mean(dim=0, keepdim=True), flat.to(torch.int8)),
            "maps": (x.float(), flat.to(torch.int8)),
        }[self.kind]


@pytest.mark.parametrize("kind", ["one tensor", "three", "uint8 side", "integer vectors", "one vector for all", "maps"])
def test_a_program_that_does_not_return_vectors_and_side_information_is_refused(kind, tmp_path):
    with pytest.raises(BadInput, match="φ"):
        program.export(Wrong(kind), 1, 16, tmp_path / "program.pt2")
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, x):
        flat = x.flatten(1)
        return (flat.float() if int(x.sum()) > 3 else flat.float() * 2), flat.to(torch.int8)


def test_what_torch_cannot_export_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match=r"torch.export cannot export") as caught:
        program.export(Branching(), 1, 16, tmp_path / "program.pt2")
    assert "\n" not in str(caught.value)


def test_two_exports_of_a_module_have_one_fingerprint_whatever_the_file_is_called(module, exported, tmp_path):
    program.export(module, 1, 16, tmp_path / "another name.pt2")
    shutil.copy(exported, tmp_path / "copy.pt2")
    found = {program.fingerprint(path, PREPROCESSING) for path in (exported, tmp_path / "another name.pt2", tmp_path / "copy.pt2")}
    assert len(found) == 1


def test_weights_code_and_preprocessing_change_the_fingerprint(module, exported, tmp_path):
    program.export(make(seed=1), 1, 16, tmp_path / "weights.pt2")
    doubled = make()
    doubled.embedder.body.append(nn.ReLU())
    program.export(doubled, 1, 16, tmp_path / "code.pt2")
    found = {program.fingerprint(path, PREPROCESSING) for path in (exported, tmp_path / "weights.pt2", tmp_path / "code.pt2")}
    assert len(found | {program.fingerprint(exported, {**PREPROCESSING, "mode": "RGB"})}) == 4


def test_the_program_does_not_say_on_which_machine_it_was_made(exported):
    text = record(exported, "models/model.json").decode()
    assert os.path.dirname(torch.__file__) not in text
    assert os.path.dirname(embedder.__file__) not in text


def test_a_honest_program_is_loaded_as_a_graph(exported):
    assert isinstance(program.load(exported), graph.Graph)


def test_missing_empty_truncated_and_foreign_files_are_refused(exported, tmp_path):
    refuse(tmp_path / "program.pt2", "the program is missing; wanted program.pt2")
    whole = exported.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / "program.pt2").write_bytes(content)
        refuse(tmp_path / "program.pt2", "program")


def test_a_record_whose_bytes_are_damaged_is_refused(exported, tmp_path):
    data = bytearray(exported.read_bytes())
    place = bytes(data).index(b'"graph_module"')
    data[place + 2] ^= 1
    (tmp_path / "program.pt2").write_bytes(data)
    refuse(tmp_path / "program.pt2", "not a readable .pt2 archive")


def test_an_archive_without_a_model_is_refused(exported, tmp_path):
    refuse(rewritten(exported, tmp_path / "program.pt2", {"models/model.json": None}), "not a torch.export archive")


def test_pickled_sample_inputs_that_would_run_code_are_never_read(module, exported, tmp_path):
    buffer = io.BytesIO()
    torch.save(Opens(tmp_path / "ran"), buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert (tmp_path / "ran").is_dir()  # the payload is live
    (tmp_path / "ran").rmdir()
    x = torch.from_numpy(images(2))
    for payload in (buffer.getvalue(), pickle.dumps(Opens(tmp_path / "ran"))):
        path = rewritten(exported, tmp_path / "program.pt2", {"data/sample_inputs/model.pt": payload})
        assert torch.equal(program.load(path)(x)[0], module(x)[0])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_a_configuration_that_asks_for_pickle_is_refused(exported, tmp_path, kind):
    name = f"data/{kind}/model_{kind}_config.json"
    config = json.loads(record(exported, name))
    entry = dict(next(iter(json.loads(record(exported, "data/weights/model_weights_config.json"))["config"].values())))
    entry |= {"use_pickle": True, "path_name": "weight_0" if kind == "weights" else "tensor_0"}
    config["config"]["embedder.out.bias"] = entry
    payload = pickle.dumps(Opens(tmp_path / "ran"), protocol=0)
    extra = [] if kind == "weights" else [("archive/data/constants/tensor_0", payload)]
    changes = {name: json.dumps(config).encode()} | ({"data/weights/weight_0": payload} if kind == "weights" else {})
    assert name in refuse(rewritten(exported, tmp_path / "program.pt2", changes, extra), "the program holds a pickle")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/constants/model.pt",
        "data/weights/model.pt",
        "data.pkl",
        "data/weights/evil.pkl",
        "data/aotinductor/model/model.so",
        "data/aotinductor/model/kernel.cubin",
        "extra/notes.txt",
        "models/model.json/../x",
        "executorch/x.pte",
    ],
)
def test_pickles_compiled_payloads_and_unknown_records_are_refused_by_name(exported, tmp_path, name):
    path = rewritten(exported, tmp_path / "program.pt2", extra=[(f"archive/{name}", pickle.dumps(Opens(tmp_path / "ran")))])
    assert name in refuse(path, "a record of an unknown kind")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_in_place_of_a_raw_tensor_is_refused(exported, tmp_path):
    buffer = io.BytesIO()
    torch.save(torch.zeros(3), buffer)
    for payload in (pickle.dumps(Opens(tmp_path / "ran")), buffer.getvalue()):
        refuse(rewritten(exported, tmp_path / "program.pt2", {"data/weights/weight_0": payload}), "a pickle in place of a raw tensor")


@pytest.mark.parametrize("content", [b"not json", b"\xff\xfe", b"", b'{"config": [1]}', b'{"config": {"a": 1}}', b"[]"])
def test_a_configuration_that_is_not_one_is_refused(exported, tmp_path, content):
    refuse(rewritten(exported, tmp_path / "program.pt2", {"data/weights/model_weights_config.json": content}), "program")


def test_two_folders_in_one_archive_are_refused_because_readers_may_disagree(exported, tmp_path):
    evil = json.dumps({"config": {"x": {"path_name": "weight_0", "use_pickle": True}}})
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(tmp_path / "program.pt2", "w") as new:
        new.writestr("first/data/weights/model_weights_config.json", evil)
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refuse(tmp_path / "program.pt2", "one folder")


@pytest.mark.parametrize("name", ["archive/models/model.json", "archive/data/weights/model_weights_config.json"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_that_is_there_twice_is_refused(exported, tmp_path, name):
    refuse(rewritten(exported, tmp_path / "program.pt2", extra=[(name, b"{}")]), "twice")


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_records_are_refused_before_they_are_unpacked(exported, tmp_path, how):
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(tmp_path / "program.pt2", "w", how) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("archive/data/weights/weight_99", bytes(10_000_000))
    refuse(tmp_path / "program.pt2", "compressed")


def test_records_outside_of_the_folder_are_refused(exported, tmp_path):
    """torch.export.load falls back to an older layout without a folder, whose records are unpickled."""
    refuse(rewritten(exported, tmp_path / "program.pt2", extra=[("serialized_state_dict.pt", b"x"), ("version", b"8.8")]), "one folder")


def test_what_torch_refuses_to_read_is_one_sentence(exported, tmp_path):
    for changes in (
        {"models/model.json": b"{}"},
        {"archive_version": b"99"},
        {"data/weights/weight_0": None},
        {"data/weights/weight_0": b"123"},
    ):
        refuse(rewritten(exported, tmp_path / "program.pt2", changes), "program")


def planted(model, kind, code):
    """Put ``code`` where torch would run it."""
    graph = model["graph_module"]["graph"]
    if kind == "target":
        graph["nodes"][0]["target"] = code
    elif kind == "range":
        model["range_constraints"] = {code: {"min_val": 1, "max_val": 2}}
    elif kind == "guard":
        model["guards_code"] = [code]
    elif kind == "spec":
        signature = model["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = json.dumps([1, {"type": "collections.defaultdict", "context": json.dumps(code), "children_spec": []}])
    else:
        sizes = [size for value in graph["tensor_values"].values() for size in value["sizes"] if "as_expr" in size]
        sizes[0]["as_expr"]["expr_str"] = code
    return json.dumps(model).encode()


@pytest.mark.parametrize(
    "code",
    [
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.__class__.__base__",
        "os.system",
        "_operator.methodcaller",
        "_operator.pow",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.rand.default",
        "torch.ops.aten.empty.memory_format",
        "torch.ops.higher_order.cond",
        "torch.ops.prim.Print.default",
    ],
)
def test_what_is_no_operator_of_the_list_is_refused_by_name(exported, tmp_path, code):
    model = json.loads(record(exported, "models/model.json"))
    path = rewritten(exported, tmp_path / "program.pt2", {"models/model.json": planted(model, "target", code)})
    assert code in refuse(path, "the program holds an operator that is not on the list")


@pytest.mark.parametrize("code", [7, None, ["os"], {"a": 1}])
def test_a_target_that_is_no_name_is_refused(exported, tmp_path, code):
    model = json.loads(record(exported, "models/model.json"))
    refuse(rewritten(exported, tmp_path / "program.pt2", {"models/model.json": planted(model, "target", code)}), "a step of another form")


ENUM = {"__enum__": True, "fqn": "antigravity.geohash", "name": "x"}  # what torch's reader of tree specs imports


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("range", "__import__('os').mkdir('PLACE')"),
        ("guard", "__import__('os').mkdir('PLACE')"),
        ("guard", "L['x'].__class__"),
        ("size", "__import__('os').mkdir('PLACE')"),
        ("size", "Max(Symbol('__import__(1)'), 1)"),
        ("size", "[x for x in 's']"),
        ("size", 7),
        ("spec", "os"),
        ("spec", ENUM),
    ],
)
def test_what_torch_would_evaluate_is_never_read(module, exported, tmp_path, kind, code):
    model = json.loads(record(exported, "models/model.json"))
    code = code.replace("PLACE", str(tmp_path / "ran")) if isinstance(code, str) else code
    path = rewritten(exported, tmp_path / "program.pt2", {"models/model.json": planted(model, kind, code)})
    x = torch.from_numpy(images(3))
    assert torch.equal(program.load(path)(x)[0], module(x)[0])
    assert not (tmp_path / "ran").exists() and "antigravity" not in sys.modules


def test_torch_alone_would_run_code_in_the_size_of_a_tensor(exported, tmp_path):
    """Why sizes are looked at: if this fails, torch has become stricter and the check may go."""
    model = json.loads(record(exported, "models/model.json"))
    code = f"__import__('os').mkdir({str(tmp_path / 'ran')!r})"
    path = rewritten(exported, tmp_path / "program.pt2", {"models/model.json": planted(model, "size", code)})
    with pytest.raises(Exception):  # noqa: B017
        torch.export.load(path)
    assert (tmp_path / "ran").is_dir()


class Sizes(nn.Module):
    """Arithmetic on sizes, indexing, bit operations and a condition, as an honest program may have."""

    def forward(self, x):
        flat = x.flatten(1)
        half = flat.shape[1] // 2
        mixed = torch.cat([flat[:, :half] & 15, flat[:, half:]], dim=1).float().view(x.shape[0], 2, -1)
        return mixed.sum(dim=2) / (x.shape[0] * 0 + 1), (flat[:, :4].to(torch.int16) - 128).to(torch.int8)


def test_arithmetic_on_sizes_is_no_reason_to_refuse(tmp_path):
    program.export(Sizes(), 1, 16, tmp_path / "program.pt2")
    for n in (1, 3):
        for a, b in zip(
            program.load(tmp_path / "program.pt2")(torch.from_numpy(images(n))), Sizes()(torch.from_numpy(images(n))), strict=True
        ):
            assert torch.equal(a, b)


class Deciding(nn.Module):
    """Looks at its values in Python: what is recorded on one image is wrong for another."""

    def forward(self, images):
        x = images.float().flatten(1)
        return (x[:, :4] + 1 if float(x.sum()) > 0 else -x[:, :4] - 1), images.flatten(1)[:, :2].to(torch.int8)


def test_a_traced_program_gives_the_same_bits_and_one_that_cannot_be_traced_stays_as_it_is(exported):
    loaded = program.load(exported)
    quick = program.traced(loaded, images(9))
    assert quick is not loaded
    for batch in (1, 7, 33):
        both = [program.embed(one, images(33, seed=1), device=CPU, batch=batch) for one in (loaded, quick)]
        assert all((one == two).all() for one, two in zip(*both, strict=True))
    some = images(9)
    some[3] = 0
    stubborn = Deciding()
    assert program.traced(stubborn, some) is stubborn


class Counting(nn.Module):
    """φ hangs on how many images there are, but not between one and nine."""

    def forward(self, images):
        flat = images.float().flatten(1)
        return flat[:, :4] * torch.sym_max(1, images.shape[0] % 8), images.flatten(1)[:, :2].to(torch.int8)


def test_a_recording_answers_for_the_number_of_images_that_it_was_recorded_with(tmp_path):
    """Arithmetic on sizes is a constant of a recording, and sizes are looked at for some numbers of images only."""
    program.export(Counting(), 1, 16, tmp_path / "program.pt2")
    loaded, asked = program.load(tmp_path / "program.pt2"), torch.from_numpy(images(3))
    quick = program.traced(loaded, images(9))
    assert quick is not loaded and torch.equal(quick(asked)[0], loaded(asked)[0])
    with pytest.raises(BadInput, match="do not fit the program"):
        quick(asked[:1].float())


class Batched(nn.Module):
    """Somebody's embedder that centres its vectors by the batch at hand, or counts along it."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, images):
        phi = nn.functional.avg_pool2d(images.float(), 4).flatten(1)
        psi = (phi[:, :4] / 8).round().clamp(-128, 127).to(torch.int8)
        if self.kind == "neighbours":
            phi = phi - phi.mean(dim=0, keepdim=True)
        elif self.kind == "place":
            phi = phi + 9 * torch.arange(phi.shape[0])[:, None]
        elif self.kind == "side":
            psi = (psi.float() - psi.float().mean(dim=0, keepdim=True)).to(torch.int8)
        return phi, psi


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("none", None),
        ("neighbours", "the other images of the batch"),
        ("side", "the other images of the batch"),
        ("place", "the place of the image in its batch"),
    ],
)
def test_what_a_vector_depends_on_besides_its_image_is_named(kind, wanted, tmp_path):
    program.export(Batched(kind), 1, 16, tmp_path / "program.pt2")
    assert program.unsteady(program.load(tmp_path / "program.pt2"), images(8)) == wanted


def test_a_program_that_counts_its_calls_is_unsteady():
    """No archive can (its graph changes nothing but its own values): a function that does shows that it would be seen."""
    calls = []

    def counting(x):
        calls.append(1)
        return torch.full((len(x), 3), float(len(calls))), torch.zeros(len(x), 2, dtype=torch.int8)

    assert program.unsteady(counting, images(8)) == "how often the program ran"


def test_a_batch_size_that_the_export_has_fixed_is_named_with_the_way_out(module, tmp_path):
    exported = torch.export.export(module, (torch.from_numpy(images(2)),))
    torch.export.save(exported, tmp_path / "program.pt2")
    assert "torch.export.Dim" in refuse(tmp_path / "program.pt2", "a batch size that its export has fixed; got 2")


class Bound(nn.Module):
    """A constant, a range and a conversion that name a device."""

    def forward(self, images):
        weights = torch.tensor([0.5, 0.25, 0.125, 1.0], device=images.device)
        phi = images.float().flatten(1)[:, :4].to(images.device) * weights + torch.arange(4, device=images.device)
        return phi, phi.round().clamp(-8, 7).to(torch.int8)


def test_a_program_that_was_exported_on_another_device_is_moved_when_it_is_loaded(tmp_path):
    program.export(Bound(), 1, 16, tmp_path / "cpu.pt2")
    moved = {}
    for name in ("models/model.json", "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
        text = record(tmp_path / "cpu.pt2", name).decode()
        moved[name] = text.replace('"type": "cpu", "index": null', '"type": "cuda", "index": 3').encode()
    path = rewritten(tmp_path / "cpu.pt2", tmp_path / "moved.pt2", moved)
    assert moved["models/model.json"].count(b'"cuda"') >= 3 and b'"cuda"' in moved["data/constants/model_constants_config.json"]
    x = torch.from_numpy(images(3))
    found, wanted = program.load(path)(x), Bound()(x)
    assert all(one.device == CPU and torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


class Shrinking(nn.Module):
    """One network, whose images are made smaller with or without anti-aliasing."""

    def __init__(self, smooth):
        super().__init__()
        torch.manual_seed(0)
        self.smooth, self.out = smooth, nn.Linear(16, 6)

    def forward(self, images):
        small = nn.functional.interpolate(images.float() / 255, size=(4, 4), mode="bilinear", antialias=self.smooth, align_corners=False)
        phi = self.out(small.flatten(1))
        return phi, (phi * 9).round().clamp(-8, 7).to(torch.int8)


def test_the_same_weights_behind_another_resizing_are_another_embedder(tmp_path):
    for smooth in (True, False):
        program.export(Shrinking(smooth), 1, 16, tmp_path / f"{smooth}.pt2")
    one, two = (program.fingerprint(tmp_path / f"{smooth}.pt2", PREPROCESSING) for smooth in (True, False))
    assert one != two and one != program.fingerprint(tmp_path / "True.pt2", PREPROCESSING | {"resize": "nearest"})
