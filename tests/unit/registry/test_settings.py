import json
import re
from dataclasses import asdict, is_dataclass
from pathlib import Path

import pytest
import yaml

from fct.errors import BadInput
from registry.mlflow.store import plain_name
from registry.params import ADDED, read

PARAMS = Path(__file__).parents[3] / "params.yaml"


@pytest.fixture
def raw():
    return yaml.safe_load(PARAMS.read_text(encoding="utf-8"))


def write(tmp_path, raw):
    path = tmp_path / "params.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    return path


def refused(tmp_path, raw, *words):
    with pytest.raises(BadInput) as caught:
        read(write(tmp_path, raw))
    sentence = str(caught.value)
    assert "\n" not in sentence and "Traceback" not in sentence and "pydantic" not in sentence
    for word in words:
        assert word in sentence, sentence


def put(raw, key, value):
    *path, last = key.split(".")
    for part in path:
        raw = raw[part]
    raw[last] = value


def drop(raw, key):
    *path, last = key.split(".")
    for part in path:
        raw = raw[part]
    del raw[last]


def keys(raw, prefix=""):
    for name, value in raw.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")


def test_the_repositorys_own_file_reads(raw):
    found = read(PARAMS)
    assert found.model == raw["model"] and found.data.image_size == raw["data"]["image_size"]
    assert found.train["v1"].embedder.architecture == raw["train"]["v1"]["embedder"]["architecture"]
    assert found.train["v1"].side.kinds == tuple(raw["train"]["v1"]["side"]["kinds"])
    assert found.fit.method == raw["fit"]["method"] and found.validate.must_apply == tuple(raw["validate"]["must_apply"])


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        read(PARAMS).seed = 1


@pytest.mark.parametrize(
    "key", [key for key in keys(yaml.safe_load(PARAMS.read_text(encoding="utf-8"))) if key not in ("train.v1", "train.v2", *ADDED)]
)
def test_any_missing_key_is_named(tmp_path, raw, key):
    drop(raw, key)
    refused(tmp_path, raw, f"lacks the key {key}", "params.yaml")


@pytest.mark.parametrize("key", ADDED)
def test_a_file_without_a_key_that_came_later_means_what_is_written_down(tmp_path, raw, key):
    drop(raw, key)
    here = read(write(tmp_path, raw))
    for part in key.split("."):
        here = getattr(here, part)
    assert json.loads(json.dumps(asdict(here) if is_dataclass(here) else here)) == ADDED[key]


def test_a_file_of_before_any_of_them_reads(tmp_path, raw):
    for key in sorted(ADDED, key=len, reverse=True):  # keys of a block before the block
        drop(raw, key)
    assert json.loads(json.dumps(asdict(read(write(tmp_path, raw)).program))) == ADDED["program"]


@pytest.mark.parametrize(
    "block",
    ["", "data.", "train.v1.embedder.", "train.v2.side.", "embed.", "fit.", "transform.", "index.", "evaluate.", "validate.", "promote."],
)
def test_an_unknown_key_is_named(tmp_path, raw, block):
    put(raw, f"{block}colour", 1)
    refused(tmp_path, raw, f"{block}colour", "is not a known key")


@pytest.mark.parametrize(("right", "wrong"), [("fit.epochs", "fit.epoch"), ("seed", "sed"), ("train.v1.side.dims", "train.v1.side.dim")])
def test_a_misspelt_key_is_named_with_the_one_that_lacks(tmp_path, raw, right, wrong):
    drop(raw, right)
    put(raw, wrong, 1)
    refused(tmp_path, raw, f"lacks the key {right}", f"is {wrong} a typo?")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "zero"),
        ("seed", 1.5),
        ("seed", True),
        ("seed", None),
        ("model", 7),
        ("data.image_size", "32"),
        ("data", 5),
        ("data", None),
        ("train", []),
        ("train.v1", None),
        ("train.v1.side.kinds", "pca"),
        ("embed.fitting", "train"),
        ("fit.uncertainty", "yes"),
        ("fit.learning_rate", "fast"),
        ("validate.must_apply", [1]),
        ("validate.recovered_top1", "75 %"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(tmp_path, raw, key, value):
    put(raw, key, value)
    refused(tmp_path, raw, f"params.yaml, {key}", "got")


def test_a_whole_number_may_stand_for_a_fraction(tmp_path, raw):
    put(raw, "train.v1.embedder.classes", 1)
    assert read(write(tmp_path, raw)).train["v1"].embedder.classes == 1.0


@pytest.mark.parametrize(
    ("key", "value"), [("data.mode", "CMYK"), ("data.image_size", 0), ("data.unseen_fraction", 1.5), ("data.evaluation_fraction", 0.5)]
)
def test_a_value_out_of_its_range_is_named(tmp_path, raw, key, value):
    put(raw, key, value)
    refused(tmp_path, raw, f"{key} has an unusable value", "got")


@pytest.mark.parametrize("text", ["a: [1", "\tseed: 1", "seed: 1\n  x: 2"])
def test_what_is_not_yaml_is_refused(tmp_path, text):
    refused(tmp_path, text, "not valid YAML")


@pytest.mark.parametrize("text", ["", "7", "- a\n- b", "just text"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    refused(tmp_path, text, "not a mapping")


@pytest.mark.parametrize("line", ["model: 2024-01-01", "seed: 2024-01-01", "model: !!binary aGVsbG8="])
def test_what_yaml_reads_as_a_date_or_bytes_is_refused_by_key(tmp_path, line):
    lines = PARAMS.read_text(encoding="utf-8").splitlines()
    key = line.split(":")[0]
    text = "\n".join(line if old.startswith(f"{key}:") else old for old in lines)
    refused(tmp_path, text, f"params.yaml, {key}")


@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_numbers_that_are_none_are_refused_by_key(tmp_path, raw, value):
    put(raw, "fit.learning_rate", float(value[1:]))
    refused(tmp_path, raw, "fit.learning_rate")


def test_a_missing_file_a_folder_and_other_bytes_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no params.yaml here.*pass --params"):
        read(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(BadInput):
        read(tmp_path / "params.yaml")
    (tmp_path / "other.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(BadInput):
        read(tmp_path / "other.yaml")


def test_a_gate_that_does_not_exist_cannot_be_required(tmp_path, raw):
    put(raw, "validate.must_apply", ["worth_it", "worthit"])
    refused(tmp_path, raw, "validate.must_apply", "worthit")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subgroups", []),
        ("subgroups", ["source"]),
        ("subgroups", ["seen_by_old", "colour"]),
        ("random_orders", 4),
        ("false_positives", 0.0),
        ("false_positives", 1.0),
        ("false_positives", 1.5),
    ],
)
def test_a_gate_setting_that_cannot_be_judged_by_is_refused(tmp_path, raw, key, value):
    put(raw, f"validate.{key}", value)
    refused(tmp_path, raw, f"validate.{key}", "got")


def test_a_score_threshold_is_a_number_or_none(tmp_path, raw):
    for value in (None, 0.7, -12.5):
        put(raw, "validate.score_threshold", value)
        assert read(write(tmp_path, raw)).validate.score_threshold == value
    put(raw, "validate.score_threshold", "high")
    refused(tmp_path, raw, "validate.score_threshold")


def test_sources_may_be_subgroups_too(tmp_path, raw):
    put(raw, "validate.subgroups", ["seen_by_old", "source"])
    assert read(write(tmp_path, raw)).validate.subgroups == ("seen_by_old", "source")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "a:b", "a%41", " a", "a\nb", "a\u202eb", "x" * 101])
def test_a_model_that_is_no_name_is_refused(tmp_path, raw, name):
    raw["model"] = name
    with pytest.raises(BadInput, match="model is not a name"):
        read(write(tmp_path, raw))


@pytest.mark.parametrize("name", ["icons", "icons 2", "<b>x", "**x**", "图标", "a|b`c", "x" * 100])
def test_odd_names_are_names_and_other_tools_get_plain_ones(tmp_path, raw, name):
    raw["model"] = name
    assert read(write(tmp_path, raw)).model == name
    plain = plain_name(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", plain) and len(plain) < 55 and plain_name(name + "!") != plain
    assert (plain == name) == (name == "icons")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlflow_port", 0),
        ("mlflow_port", 70000),
        ("receiver_port", 4200),
        ("reconcile_every_s", 0.5),
        ("mlflow_database", "mysql://x"),
        ("prefect_database", "sqlite:///x"),
    ],
)
def test_services_that_cannot_be_started_are_refused(tmp_path, raw, key, value):
    raw["services"][key] = value
    with pytest.raises(BadInput, match="services"):
        read(write(tmp_path, raw))


def test_mlflow_and_prefect_do_not_share_a_database(tmp_path, raw):
    raw["services"] |= {"mlflow_database": "postgresql://x/y", "prefect_database": "postgresql://x/y"}
    with pytest.raises(BadInput, match="share"):
        read(write(tmp_path, raw))
