import pytest

from fct.forward.settings import METHODS, FitSettings, published_fct


def test_the_default_method_is_one_of_the_methods():
    assert FitSettings().method in METHODS


@pytest.mark.parametrize(("views", "epochs"), [(1, 80), (8, 10), (200, 1)])
def test_the_published_recipe_sees_as_many_images_whatever_the_views(views, epochs):
    found = published_fct(FitSettings(), views)
    assert found.epochs == epochs
    assert (found.method, found.width, found.learning_rate, found.uncertainty, found.head_weight, found.pool_share) == (
        "fct",
        2048,
        5e-4,
        False,
        0.0,
        0.0,
    )
