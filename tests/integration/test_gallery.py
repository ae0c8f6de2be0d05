"""The gallery on real Lance tables in a temporary folder."""

import errno
import multiprocessing
import os
import resource

import numpy as np
import pytest

from fct.arrays.digests import of_rows
from fct.errors import BadInput, LockHeld, NotPermitted, OperationFailed
from fct.gallery import tables
from fct.gallery.gallery import Gallery
from fct.gallery.names import forward_origin, space_name
from fct.gallery.state import TableState
from fct.side import codes

PRINT = "a" * 64
H = "0123456789abcdef" * 4
SPACE = f"spaces/v2-{H[:12]}"


def made(n=40, dim=6, psi_dim=3, seed=0, dtype=np.float32, first=0):
    rng = np.random.default_rng(seed)
    ids = np.array([f"i{first + i:04d}" for i in range(n)])
    return ids, rng.normal(size=(n, dim)).astype(dtype), rng.integers(-127, 128, size=(n, psi_dim), dtype=np.int8)


def ingest(gallery, ids, phi, psi, *, version=1, role="item", fingerprint=PRINT):
    labels = [f"class {one[-1:]}" for one in ids]
    return gallery.ingest(version, fingerprint, ids, phi, psi, labels, ["pack"] * len(ids), [f"file:{one}.png" for one in ids], role)


def carried(phi):
    """A linear h. Summed without BLAS, whose last bits depend on the number of rows in a call."""
    weights = np.random.default_rng(9).normal(size=(phi.shape[1], 5)).astype(np.float32)
    return (phi.astype(np.float32)[:, :, None] * weights).sum(axis=1)


def transform(gallery, batch_rows, stop=None):
    """Carry features/v1 into a space; with ``stop``, fall over after that many batches."""
    gallery.create_space(SPACE, 5, PRINT, {1: H})
    todo = np.setdiff1d(gallery.item_ids(), gallery.space_ids(SPACE))
    for i, batch in enumerate(gallery.features(1, ids=todo, batch_rows=batch_rows)):
        if i == stop:
            return
        vectors = carried(batch.phi)
        gallery.append_space(SPACE, batch.ids, vectors, forward_origin(1, 2), np.abs(vectors[:, 0]))


@pytest.fixture
def gallery(tmp_path):
    return Gallery(tmp_path / "gallery")


def test_opening_a_gallery_creates_nothing(gallery):
    assert gallery.tables() == [] and gallery.item_ids().tolist() == [] and gallery.native_versions() == {}
    assert not gallery.root.exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_was_ingested_is_read_back(gallery, dtype):
    ids, phi, psi = made(dtype=dtype)
    shuffled = np.random.default_rng(1).permutation(len(ids))
    assert ingest(gallery, ids[shuffled], phi[shuffled], psi[shuffled]) == (40, 0)
    batches = list(gallery.features(1, batch_rows=7))
    assert [len(batch.ids) for batch in batches] == [7] * 5 + [5]
    np.testing.assert_array_equal(np.concatenate([batch.ids for batch in batches]), ids)
    np.testing.assert_array_equal(np.concatenate([batch.phi for batch in batches]), phi)
    np.testing.assert_array_equal(np.concatenate([batch.psi for batch in batches]), psi)
    assert batches[0].phi.dtype == dtype and batches[0].psi.dtype == np.int8
    (picked,) = gallery.features(1, ids=["i0007", "i0003"])
    np.testing.assert_array_equal(picked.phi, phi[[7, 3]])
    assert gallery.items()["image_uri"][3] == "file:i0003.png"


def test_a_version_without_side_information_has_no_psi_column(gallery):
    ids, phi, _ = made()
    ingest(gallery, ids, phi, None)
    assert "psi" not in tables.open_table(gallery.root, "features/v1").schema.names
    (batch,) = gallery.features(1)
    assert batch.psi.shape == (40, 0) and batch.psi.dtype == np.int8
    assert gallery.feature_info(1).psi_dim == 0


def test_ingesting_twice_is_ingesting_once(gallery):
    rows = made()
    ingest(gallery, *rows)
    before = [gallery.snapshot(name) for name in gallery.tables()]
    assert ingest(gallery, *rows) == (0, 40)
    assert [gallery.snapshot(name) for name in gallery.tables()] == before
    more = made(60)
    more[1][:40], more[2][:40] = rows[1], rows[2]
    assert ingest(gallery, *more) == (20, 40)


def test_rounding_noise_is_the_same_content_and_other_vectors_are_not(gallery):
    ids, phi, psi = made()
    ingest(gallery, ids, phi, psi)
    assert ingest(gallery, ids, phi * np.float32(1 + 1e-5), psi) == (0, 40)
    other = phi.copy()
    other[11] = phi[12]
    with pytest.raises(BadInput, match="i0011"):
        ingest(gallery, ids, other, psi)
    side = psi.copy()
    side[5, 0] += 2 if side[5, 0] < 100 else -2
    with pytest.raises(BadInput, match="i0005.*side-information"):
        ingest(gallery, ids, phi, side)
    np.testing.assert_array_equal(next(gallery.features(1)).phi, phi)


def test_another_description_of_an_item_is_refused(gallery):
    ids, phi, psi = made()
    ingest(gallery, ids, phi, psi)
    with pytest.raises(BadInput, match="i0000 .*role"):
        ingest(gallery, ids, phi, psi, role="canary")
    with pytest.raises(BadInput, match="i0000 .*native_version"):
        ingest(gallery, ids, phi, psi, version=2)
    assert gallery.tables() == ["features/v1", "items"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda ids, phi, psi: (ids, np.where(np.arange(6) == 2, np.nan, phi).astype(np.float32), psi), "NaN"),
        (lambda ids, phi, psi: (ids, phi * (np.arange(40) != 8)[:, None].astype(np.float32), psi), "zero-norm"),
        (lambda ids, phi, psi: (ids, np.full_like(phi, np.inf), psi), "infinity"),
        (lambda ids, phi, psi: (np.where(ids == "i0003", "i0004", ids), phi, psi), "i0004"),
        (lambda ids, phi, psi: (np.where(ids == "i0003", "", ids), phi, psi), "cannot be stored"),
        (lambda ids, phi, psi: (ids, phi.astype(np.float64), psi), "float64"),
        (lambda ids, phi, psi: (ids, phi.astype(np.float16), psi), "float16"),
        (lambda ids, phi, psi: (ids, phi[:, :5], psi), "phi_dim=5"),
        (lambda ids, phi, psi: (ids, phi, psi[:, :2]), "psi_dim=2"),
        (lambda ids, phi, psi: (ids, phi, None), "psi_dim=0"),
        (lambda ids, phi, psi: (ids, phi, psi.astype(np.float32)), "int8"),
        (lambda ids, phi, psi: (ids, phi[:-1], psi), "rows"),
    ],
)
def test_unusable_features_are_refused_and_nothing_is_written(gallery, spoil, says):
    ingest(gallery, *made(5, first=1000))
    before = [gallery.snapshot(name) for name in gallery.tables()]
    with pytest.raises(BadInput, match=says):
        ingest(gallery, *spoil(*made()))
    assert [gallery.snapshot(name) for name in gallery.tables()] == before


def test_features_of_another_embedder_are_refused(gallery):
    ingest(gallery, *made())
    with pytest.raises(BadInput, match="b" * 64):
        ingest(gallery, *made(first=100), fingerprint="b" * 64)
    assert len(gallery.item_ids()) == 40


def test_a_crash_between_features_and_items_is_repaired_by_the_next_ingest(gallery, monkeypatch):
    rows = made()
    real = tables.insert_new

    def dies(root, name, choose):
        if name == "items":
            raise KeyboardInterrupt
        return real(root, name, choose)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tables, "insert_new", dies)
        ingest(gallery, *rows)
    assert gallery.item_ids().tolist() == [] and len(next(gallery.features(1)).ids) == 40
    assert ingest(gallery, *rows) == (40, 0)
    assert len(gallery.item_ids()) == 40 and len(next(gallery.features(1)).ids) == 40


def test_items_are_listed_by_role_and_native_version(gallery):
    ingest(gallery, *made(10))
    ingest(gallery, *made(4, first=100), role="canary")
    ingest(gallery, *made(3, dim=8, first=200), version=2)
    assert gallery.native_versions() == {1: 14, 2: 3}
    assert gallery.item_ids(role="canary").tolist() == ["i0100", "i0101", "i0102", "i0103"]
    assert len(gallery.item_ids("item", 1)) == 10 and len(gallery.item_ids(native_version=2)) == 3
    assert gallery.item_ids().tolist() == sorted(gallery.item_ids().tolist())
    assert gallery.add_features(2, PRINT, *made(2, dim=8)) == (2, 0)
    assert gallery.native_versions() == {1: 14, 2: 3}
    with pytest.raises(BadInput, match="i0900"):
        gallery.add_features(2, PRINT, *made(2, dim=8, first=900))


def test_an_unknown_table_is_refused_with_the_names_of_those_that_exist(gallery):
    ingest(gallery, *made())
    for act in (lambda: gallery.features(7), lambda: gallery.snapshot("nothing"), lambda: gallery.read_space("spaces/v9-native")):
        with pytest.raises(BadInput, match="features/v1, items"):
            act()
    for at in (99, 0):
        with pytest.raises(BadInput, match="at most"):
            gallery.features(1, at=at)
    with pytest.raises(BadInput, match="absent"):
        gallery.features(1, ids=["absent"])


def test_content_does_not_depend_on_batches_or_their_order(tmp_path):
    ids, phi, psi = made(50)
    states = []
    for i, cuts in enumerate(([50], [10, 25, 40, 50], [1, 2, 50])):
        gallery = Gallery(tmp_path / str(i))
        order = np.random.default_rng(i).permutation(50)
        for rows in np.split(order, cuts):
            if len(rows):
                ingest(gallery, ids[rows], phi[rows], psi[rows])
        states.append([gallery.snapshot(name).content for name in gallery.tables()])
    assert states[0] == states[1] == states[2]
    assert states[0][0] == of_rows(ids, phi=phi, psi=codes.pack(psi, 8))


@pytest.mark.parametrize(("batch_rows", "stop"), [(7, 3), (40, 0), (1, 17)])
def test_a_resumed_transformation_makes_what_an_undisturbed_one_makes(tmp_path, batch_rows, stop):
    contents = []
    for name, steps in (("whole", [(13, None)]), ("resumed", [(batch_rows, stop), (11, 1), (9, None)])):
        gallery = Gallery(tmp_path / name)
        ingest(gallery, *made())
        for rows, at in steps:
            transform(gallery, rows, at)
        contents.append(gallery.snapshot(SPACE).content)
    assert contents[0] == contents[1]


def test_a_space_is_read_sorted_and_whole(gallery):
    ids, phi, psi = made()
    ingest(gallery, ids, phi, psi)
    transform(gallery, 9)
    got, vectors, origin, uncertainty = gallery.read_space(SPACE)
    np.testing.assert_array_equal(got, ids)
    np.testing.assert_allclose(vectors, carried(phi), rtol=1e-5)
    assert set(origin) == {"forward 1→2"} and uncertainty.dtype == np.float32
    assert gallery.space_info(SPACE).forward == {1: H} and gallery.space_info(SPACE).version == 2


def test_creating_a_space_again_is_harmless_and_another_description_is_refused(gallery):
    assert gallery.create_space(SPACE, 5, PRINT, {1: H}) is True
    assert gallery.create_space(SPACE, 5, PRINT, {1: H}) is False
    for dim, fingerprint, forward in ((6, PRINT, {1: H}), (5, "b" * 64, {1: H}), (5, PRINT, {1: H[::-1]})):
        with pytest.raises(BadInput, match="another description"):
            gallery.create_space(SPACE, dim, fingerprint, forward)
    with pytest.raises(BadInput, match="of a space is not valid"):
        gallery.create_space("spaces/../items", 5, PRINT, {})
    assert gallery.snapshot(SPACE).rows == 0 and gallery.space_ids(SPACE).tolist() == []


def test_a_space_is_named_after_its_h():
    assert space_name(1, {}) == "spaces/v1-native"
    assert space_name(2, {1: H}) == SPACE
    assert space_name(3, {1: H, 2: H[::-1]}) == space_name(3, {2: H[::-1], 1: H}) != space_name(3, {1: H[::-1], 2: H})


def test_a_row_enters_a_space_once_and_only_with_a_known_origin(gallery):
    gallery.create_space(SPACE, 5, PRINT, {1: H})
    rows, zeros = np.ones((3, 5), dtype=np.float32), np.zeros(3, dtype=np.float32)
    assert gallery.append_space(SPACE, ["a", "b", "c"], rows, ["native", "forward 1→2", "native"], zeros) == 3
    for ids, vectors, origin, doubt in (
        (["d", "a", "e"], rows, "native", zeros),
        (["d", "d", "e"], rows, "native", zeros),
        (["d", "e", "f"], rows, "forward 3→2", zeros),
        (["d", "e", "f"], rows, "native", zeros - 1),
        (["d", "e", "f"], rows * np.nan, "native", zeros),
        (["d", "e", "f"], rows * 0, "native", zeros),
        (["d", "e", "f"], rows[:, :4], "native", zeros),
        (["d", "e", "f"], rows.astype(np.float16), "native", zeros),
    ):
        with pytest.raises(BadInput):
            gallery.append_space(SPACE, ids, vectors, origin, doubt)
    assert gallery.space_ids(SPACE).tolist() == ["a", "b", "c"]


def _append(root, name, ids, start, out):
    start.wait()
    try:
        out.put(Gallery(root).append_space(name, ids, np.ones((len(ids), 5), dtype=np.float32), "native", np.zeros(len(ids))))
    except BadInput:
        out.put(0)


def test_of_two_racing_writers_one_adds_an_id(gallery):
    gallery.create_space(SPACE, 5, PRINT, {1: H})
    spawn = multiprocessing.get_context("spawn")
    start, out = spawn.Barrier(3), spawn.Queue()
    batches = [["x", "a"], ["x", "b"], ["c", "d"]]
    writers = [spawn.Process(target=_append, args=(gallery.root, SPACE, batch, start, out)) for batch in batches]
    for writer in writers:
        writer.start()
    wrote = [out.get(timeout=600) for _ in writers]
    for writer in writers:
        writer.join()
    ids = gallery.read_space(SPACE).ids.tolist()
    assert sum(wrote) == 4 == len(ids) and ids.count("x") == 1 and {"c", "d"} < set(ids)


def test_a_writer_that_was_overtaken_looks_again(gallery):
    gallery.create_space(SPACE, 5, PRINT, {1: H})
    ones, calls = np.ones((2, 5), dtype=np.float32), []

    def choose(dataset):
        calls.append(dataset.version)
        if len(calls) == 1:
            gallery.append_space(SPACE, ["x", "y"], ones, "native", np.zeros(2))
        new = tables.positions(dataset, np.array(["x", "z"])) < 0
        columns = {"id": np.array(["x", "z"])[new], "vector": ones[new], "origin": np.array(["native"] * 2)[new]}
        return tables.table_of(dataset.schema, columns | {"uncertainty": np.zeros(2, dtype=np.float32)[new]})

    assert tables.insert_new(gallery.root, SPACE, choose).tolist() == ["z"]
    assert len(calls) == 2 and gallery.read_space(SPACE).ids.tolist() == ["x", "y", "z"]


def test_a_pinned_version_reads_as_it_was(gallery):
    ingest(gallery, *made(10))
    old = {name: gallery.snapshot(name) for name in gallery.tables()}
    ingest(gallery, *made(10, first=100))
    gallery.delete(["i0001"])
    assert len(gallery.item_ids(at=old["items"].version)) == 10 and len(gallery.item_ids()) == 19
    assert sum(len(batch.ids) for batch in gallery.features(1, at=old["features/v1"].version)) == 10
    for name, state in old.items():
        assert gallery.snapshot(name, at=state.version) == state
        gallery.verify(state)
        gallery.verify_content(state)
        assert TableState.from_json(state.to_json()) == state
    for name in gallery.tables():
        gallery.verify(gallery.snapshot(name))


def test_every_file_of_a_version_is_watched_and_no_other(gallery):
    ingest(gallery, *made(10))
    gallery.delete(["i0001"])
    state = gallery.snapshot("features/v1")
    kinds = {name.split("/")[2] for name in state.files}
    assert kinds == {"data", "_deletions", "_versions"} and len(state.files) == 3
    (gallery.table_path("features/v1") / "data" / "stray.lance").write_bytes(b"half a batch of a process that died")
    ingest(gallery, *made(10, first=100))
    gallery.verify(state)
    for name in state.files:
        file = gallery.root / name
        whole = file.read_bytes()
        for spoiled in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1], whole[:40] + bytes([whole[40] ^ 128]) + whole[41:]):
            file.write_bytes(spoiled)
            with pytest.raises(NotPermitted, match=rf"features/v1.*altered.*{file.name}"):
                gallery.verify(state)
        file.unlink()
        with pytest.raises(NotPermitted, match=rf"features/v1.*missing.*{file.name}"):
            gallery.verify(state)
        file.write_bytes(whole)
    gallery.verify(state)
    assert len(state.files_digest) == 64


def test_rows_that_changed_are_caught_by_content(gallery):
    ids, phi, psi = made(10)
    ingest(gallery, ids, phi, psi)
    state = gallery.snapshot("features/v1")
    file = next(gallery.root / name for name in state.files if "/data/" in name)
    whole = file.read_bytes()
    at = whole.index(phi[4].tobytes())
    file.write_bytes(whole[:at] + np.float32(7).tobytes() + whole[at + 4 :])
    with pytest.raises(NotPermitted, match="features/v1"):
        gallery.verify_content(state)


def test_deleted_items_are_gone_from_every_table(gallery):
    ids, phi, psi = made()
    ids = np.where(ids == "i0003", "it's; -- odd", ids)
    ingest(gallery, ids, phi, psi)
    transform(gallery, 16)
    assert gallery.delete(["it's; -- odd", "i0004", "unknown"]) == {"items": 2, "features/v1": 2, SPACE: 2}
    assert gallery.delete(["it's; -- odd", "i0004"]) == {"items": 0, "features/v1": 0, SPACE: 0}
    for left in (gallery.item_ids(), gallery.space_ids(SPACE), np.concatenate([batch.ids for batch in gallery.features(1)])):
        np.testing.assert_array_equal(left, np.sort(np.delete(ids, [3, 4])))
    assert ingest(gallery, ids[3:5], phi[3:5], psi[3:5]) == (2, 0)


def test_a_dropped_space_is_gone_and_only_a_space_can_be_dropped(gallery):
    ingest(gallery, *made())
    transform(gallery, 16)
    assert gallery.drop_space(SPACE) is True and gallery.drop_space(SPACE) is False
    assert gallery.tables() == ["features/v1", "items"]
    with pytest.raises(BadInput, match="only a space"):
        gallery.drop_space("items")
    transform(gallery, 16)
    assert len(gallery.space_ids(SPACE)) == 40


def test_a_batch_that_does_not_fit_on_the_disk_leaves_no_trace_in_the_table(gallery):
    """A limit on file size stops the operating system from writing the batch to its end."""
    ingest(gallery, *made(5))
    before = [gallery.snapshot(name) for name in gallery.tables()]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = made(4000, first=100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OperationFailed) as failed:
            ingest(gallery, *rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.strerror(errno.EFBIG) in str(failed.value)
    for state in before:
        gallery.verify(state)
        assert gallery.snapshot(state.table) == state
    assert ingest(gallery, *rows) == (4000, 0)


def test_a_full_disk_is_named_as_such(tmp_path):
    lance_says = "LanceError(IO): Generic LocalFileSystem error: Unable to write: No space left on device (os error 28), /src/x.rs:1:1"
    with pytest.raises(OperationFailed, match="the disk is full"), tables.lance_errors(tmp_path):
        raise OSError(lance_says)
    with pytest.raises(OperationFailed, match="cannot write"), tables.lance_errors(tmp_path):
        raise RuntimeError("Permission denied (os error 13)")


@pytest.mark.parametrize("bits", [8, 4, [1, 2, 3]])
def test_side_information_is_stored_in_its_bits_and_read_back_exactly(gallery, bits):
    rng = np.random.default_rng(0)
    each = np.broadcast_to(bits, 3)
    phi = rng.standard_normal((50, 4)).astype(np.float32)
    psi = np.stack([rng.integers(-(2 ** (b - 1)), 2 ** (b - 1), 50) for b in each], axis=1).astype(np.int8)
    ids = [f"i{n:02}" for n in range(50)]
    empty = [""] * 50
    gallery.ingest(1, PRINT, ids, phi, psi, empty, empty, empty, psi_bits=bits)
    (batch,) = gallery.features(1)
    assert np.array_equal(batch.psi, psi) and batch.psi.dtype == np.int8
    assert gallery.feature_info(1).psi_bits == tuple(each.tolist())
    stored = tables.open_table(gallery.root, "features/v1").schema.field("psi").type
    assert stored.list_size == -(-int(each.sum()) // 8)
    with pytest.raises(BadInput, match="not features of version 1"):
        gallery.ingest(1, PRINT, ["other"], phi[:1], np.zeros((1, 3), np.int8), [""], [""], [""], psi_bits=7)


def overtaken(at, act):
    """What a holder of a lock asks before each commit: at one of the times somebody else takes over and acts, right before the commit."""
    calls = []

    def check():
        calls.append(None)
        if len(calls) > at:
            raise LockHeld("taken over")
        if len(calls) == at:
            act()

    return check


def comes_again(gallery, one, seed):
    """An id is deleted, and comes again with another picture and another label; spaces of version 1 follow."""
    gallery.delete([one])
    _, phi, psi = made(1, seed=seed)
    gallery.ingest(1, PRINT, [one], phi, psi, ["another label"], [""], [""])
    if "spaces/v1-native" in gallery.tables():
        gallery.append_space("spaces/v1-native", [one], phi, "native", np.zeros(1))
    return phi


@pytest.mark.parametrize("table", [1, 2, 3])
def test_a_deletion_that_was_overtaken_takes_nothing_that_came_since(gallery, table):
    ids, phi, psi = made(10)
    ingest(gallery, ids, phi, psi)
    gallery.create_space("spaces/v1-native", 6, PRINT, {})
    gallery.append_space("spaces/v1-native", ids, phi, "native", np.zeros(10))
    with pytest.raises(LockHeld):
        gallery.fenced(overtaken(table, lambda: comes_again(gallery, "i0003", 7))).delete(["i0003"])
    assert all("i0003" in gallery.table_ids(name) for name in gallery.tables()) and len(gallery.item_ids()) == 10


@pytest.mark.parametrize("table", [1, 2])
def test_a_backfill_that_was_overtaken_writes_nothing_of_an_item_that_was_deleted(gallery, table):
    ids, phi, psi = made(10)
    ingest(gallery, ids, phi, psi)
    gallery.create_space("spaces/v1-native", 6, PRINT, {})
    gallery.append_space("spaces/v1-native", ids, -phi, "native", np.zeros(10))
    now = []
    with pytest.raises(LockHeld):
        gallery.fenced(overtaken(table, lambda: now.append(comes_again(gallery, "i0003", 7)))).backfill("spaces/v1-native", ids[3:5])
    (row,) = gallery.space_rows("spaces/v1-native", ids[3:4]).vectors
    assert np.array_equal(row, now[0][0]) and gallery.items()["label"][3] == "another label"
    assert gallery.backfill("spaces/v1-native", ids) == 10, "who comes next finishes it"


def test_a_backfill_of_a_version_that_has_embedded_nothing_does_nothing(gallery):
    ingest(gallery, *made(10))
    transform(gallery, 10)
    assert gallery.backfill(SPACE, gallery.item_ids()) == gallery.backfill(SPACE, gallery.item_ids()[:0]) == 0


def test_an_ingest_that_was_overtaken_brings_nothing_back(gallery):
    ids, phi, psi = made(10)
    ingest(gallery, ids[:5], phi[:5], psi[:5])

    def purged():
        ingest(gallery, ids, phi, psi)
        gallery.delete(["i0007"])

    for table in (1, 2):
        with pytest.raises(LockHeld):
            ingest(gallery.fenced(overtaken(table, purged)), ids, phi, psi)
        assert "i0007" not in gallery.item_ids() and len(gallery.item_ids()) == 9


def test_an_item_that_is_deleted_between_the_commits_of_an_ingest_comes_again_whole(gallery):
    ids, phi, psi = made(10)
    ingest(gallery, ids[:5], phi[:5], psi[:5])
    asked = []

    def meanwhile():
        asked.append(None)
        if len(asked) == 1:
            gallery.delete(["i0003"])

    ingest(gallery.fenced(meanwhile), ids, phi, psi)
    assert gallery.item_ids().tolist() == gallery.feature_ids(1).tolist() == ids.tolist()


def test_rows_without_an_item_are_dropped_and_not_those_of_who_came_meanwhile(gallery):
    ids, phi, psi = made(10)
    ingest(gallery, ids, phi, psi)
    gallery.create_space("spaces/v1-native", 6, PRINT, {})
    gallery.append_space("spaces/v1-native", ids, phi, "native", np.zeros(10))
    tables.delete_rows(gallery.root, "items", lambda _: ids[2:4])  # a deletion that was cut short
    asked = []

    def meanwhile():
        asked.append(None)
        if len(asked) == 1:
            comes_again(gallery, "i0003", 7)

    assert gallery.fenced(meanwhile).drop_rows("spaces/v1-native") == 1
    assert gallery.space_ids("spaces/v1-native").tolist() == np.delete(ids, 2).tolist()


def test_features_of_an_id_that_came_again_are_told_from_those_that_were_read(gallery):
    ids, phi, psi = made(10)
    ingest(gallery, ids, phi, psi)
    (batch,) = gallery.features(1, ids=ids[[5, 1, 3, 7]])
    assert gallery.unlike(1, batch).tolist() == []
    comes_again(gallery, "i0003", 7)
    gallery.delete(["i0007"])
    assert gallery.unlike(1, batch).tolist() == ["i0003", "i0007"]
    gallery.delete(ids)
    assert gallery.unlike(1, batch).tolist() == ["i0001", "i0003", "i0005", "i0007"]


def test_what_was_appended_last_is_known(gallery):
    ingest(gallery, *made(10))
    gallery.create_space(SPACE, 5, PRINT, {1: H})
    assert gallery.last_ids(SPACE).tolist() == []
    transform(gallery, 4)
    assert gallery.last_ids(SPACE).tolist() == ["i0008", "i0009"]
    gallery.delete(["i0008"])
    assert gallery.last_ids(SPACE).tolist() == ["i0009"]
