import pytest

from fct.datasets.names import dropped, parse, spellings


@pytest.mark.parametrize(
    ("pack", "icon", "expected"),
    [
        ("fluent", "arrow-left-20-filled", ("arrow-left", "filled", 20)),
        ("fluent", "arrow-left-48-regular", ("arrow-left", "regular", 48)),
        ("heroicons", "home-16-solid", ("home", "solid", 16)),
        ("octicon", "bell-24", ("bell", "", 24)),
        ("ic", "twotone-home", ("home", "twotone", 0)),
        ("ph", "home-duotone", ("home", "duotone", 0)),
        ("material-symbols", "home-outline-rounded", ("home", "rounded-outline", 0)),
        ("jam", "heart-f", ("heart", "f", 0)),
        ("hugeicons", "home-01", ("home", "01", 0)),
        ("icon-park-solid", "home-two", ("home", "two", 0)),
    ],
)
def test_style_and_size_are_split_from_the_concept(pack, icon, expected):
    assert parse(pack, icon) == expected


@pytest.mark.parametrize(
    ("pack", "icon"), [("mdi", "outline"), ("bi", "dice-1"), ("lucide", "battery-2"), ("bi", "circle-half"), ("tabler", "f")]
)
def test_words_that_are_the_concept_itself_stay(pack, icon):
    assert parse(pack, icon)[0] == icon


@pytest.mark.parametrize("name", ["instagram", "youtube", "apple", "folder", "pin", "brand-something", "company-logo", "facebook-circle"])
def test_brands_and_ambiguous_words_are_dropped(name):
    assert dropped(name)


@pytest.mark.parametrize("name", ["camera", "arrow-left", "folder-open", "battery-medium", "zoom-in", "pineapple", "map-pin"])
def test_ordinary_words_are_not_dropped(name):
    assert not dropped(name)


@pytest.mark.parametrize(("one", "other"), [("bar-chart", "chart-bar"), ("log-in", "login"), ("thumb-up", "thumbs-up"), ("note", "notes")])
def test_spellings_of_one_concept_share_a_key(one, other):
    assert spellings(one) & spellings(other)


@pytest.mark.parametrize(("one", "other"), [("arrow-left", "arrow-right"), ("glass", "glas"), ("bus", "bu"), ("user", "user-add")])
def test_different_concepts_share_no_key(one, other):
    assert not spellings(one) & spellings(other)
