import pytest

from fct.datasets.items import Item
from fct.datasets.manifest import COLUMNS, read_manifest, write_manifest
from fct.errors import BadInput

ITEMS = [
    Item("b:two", "two", "b", "gallery", "ISC", "images/gallery/two/b--two.png"),
    Item("a:one", "one", "a", "train", "MIT", "images/train/one/a--one.png"),
    Item("a:three", "three", "a", "pool", "MIT", "images/pool/three/a--three.png"),
]
HEAD = ",".join(COLUMNS)


def test_a_manifest_is_read_as_it_was_written_with_labels_withheld_from_the_pool(tmp_path):
    write_manifest(tmp_path, ITEMS)
    manifest = read_manifest(tmp_path)
    assert manifest.id.tolist() == ["a:one", "a:three", "b:two"]
    assert manifest.label.tolist() == ["one", "", "two"]
    assert manifest.source.tolist() == ["a", "a", "b"] and manifest.licence.tolist() == ["MIT", "MIT", "ISC"]
    assert manifest.files[0] == tmp_path / "images/train/one/a--one.png" and manifest.files[0].is_absolute()


def test_rows_of_named_splits_keep_all_columns_together(tmp_path):
    write_manifest(tmp_path, ITEMS)
    rows = read_manifest(tmp_path).rows("gallery", "train")
    assert len(rows) == 2 and rows.id.tolist() == ["a:one", "b:two"] and rows.split.tolist() == ["train", "gallery"]
    assert len(rows.rows("gallery_unseen")) == 0
    with pytest.raises(BadInput, match="no such split"):
        rows.rows("test")


def test_the_order_of_the_items_does_not_change_the_bytes(tmp_path):
    write_manifest(tmp_path, ITEMS)
    first = (tmp_path / "manifest.csv").read_bytes()
    write_manifest(tmp_path, ITEMS[::-1])
    assert (tmp_path / "manifest.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,file,class,source,split\n", "lacks a column; wanted licence"),
        ("", "lacks a column"),
        (f"{HEAD}\na,f.png,x,s,train,MIT\na,g.png,x,s,train,MIT\n", "id twice; got a; .*line 3"),
        (f"{HEAD}\na,f.png,x,s,test,MIT\n", "unknown split"),
        (f"{HEAD}\na,f.png,x\n", "incomplete row"),
        (f"{HEAD}\n,f.png,x,s,train,MIT\n", "incomplete row"),
        (f"{HEAD}\na,../f.png,x,s,train,MIT\n", "outside its folder"),
        (f"{HEAD}\na,/etc/f.png,x,s,train,MIT\n", "outside its folder"),
    ],
)
def test_an_unusable_manifest_is_refused_saying_why(tmp_path, text, message):
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_manifest(tmp_path)


def test_a_missing_manifest_points_to_the_data_stage(tmp_path):
    with pytest.raises(BadInput, match="run the data stage"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BadInput, match="not readable"):
        read_manifest(tmp_path)


def test_one_long_text_is_refused_by_its_row_before_every_row_pays_for_it(tmp_path):
    rows = [f"i{row},f{row}.png,c,s,gallery,l" for row in range(3000)]
    rows[7] = rows[7].replace(",c,", f",{'c' * 100_000},")
    (tmp_path / "manifest.csv").write_text("\n".join(["id,file,class,source,split,licence", *rows]) + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="the manifest's class hold a text that is too long; got 100,000 characters.*row 7"):
        read_manifest(tmp_path)
