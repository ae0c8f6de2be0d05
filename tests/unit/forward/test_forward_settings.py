from dataclasses import replace

import pytest

from fct.errors import BadInput
from fct.forward.settings import FEWEST_STEPS, METHODS, PUBLISHED, FitSettings, adapted, published, recipe


def test_the_default_method_is_one_of_the_methods():
    assert FitSettings().method in METHODS


@pytest.mark.parametrize(("views", "epochs"), [(1, 80), (8, 10), (200, 1)])
def test_the_published_recipe_sees_as_many_images_whatever_the_views(views, epochs):
    found = published("fct", FitSettings(), views)
    assert found.epochs == epochs
    assert (found.method, found.width, found.learning_rate, found.uncertainty, found.head_weight, found.pool_share) == (
        "fct",
        2048,
        5e-4,
        False,
        0.0,
        0.0,
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("members", 0),
        ("members", 1.5),
        ("width", 0),
        ("epochs", -1),
        ("epochs", 0),
        ("batch", 0),
        ("batch", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1e-3),
        ("head_weight", -0.1),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("pool_share", 1.0),
        ("pool_share", -0.1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key, value):
    with pytest.raises(BadInput, match=f"fit.{key} is out of range"):
        replace(FitSettings(), **{key: value})


def test_an_unknown_method_is_refused_and_auto_is_known():
    with pytest.raises(BadInput, match="unknown method.*got magic"):
        FitSettings(method="magic")
    assert FitSettings(method="auto").method == "auto"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_recipe(method):
    found = recipe(method, 100)
    assert found.method == method
    assert (found.width == 2048 and found.freeze_norm and found.members == 1) == (method in PUBLISHED)
    assert recipe("fastfill", 100).head_weight == 1.0 and recipe("fct", 50_000).batch == 1024


@pytest.mark.parametrize("rows", [2, 31, 300, 4_000, 50_000])
def test_few_pairs_still_get_enough_steps(rows):
    found = adapted(FitSettings(), rows)
    steps = max(1, rows // found.batch) * found.epochs
    assert steps >= FEWEST_STEPS and 2 <= found.batch <= 512 and found.epochs >= FitSettings().epochs
