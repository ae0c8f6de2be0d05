import os
import threading

import pytest
import torch

from fct import device
from fct.errors import BadInput

CPU = torch.device("cpu")


def test_auto_is_the_gpu_when_there_is_one_else_the_cpu():
    assert device.pick().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.pick("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "mps", "meta", "xpu"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(BadInput, match="unknown device"):
        device.pick(name)


def test_a_gpu_that_is_not_there_is_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(BadInput, match=f"GPU.*wanted {missing}"):
        device.pick(missing)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_number_of_threads_is_set(two_threads, monkeypatch):
    device.use_threads(3)
    assert torch.get_num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    device.use_threads("auto")
    assert torch.get_num_threads() == device.cores() <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    device.use_threads("auto")
    assert torch.get_num_threads() == 1


def test_pieces_come_in_their_order_from_threads_with_one_torch_thread_each(two_threads):
    def work(piece):
        return piece, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    assert list(device.spread(work, range(5), CPU)) == [(piece, 1, False) for piece in range(5)]
    assert torch.get_num_threads() == 2
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [2], "a later thread has the number that was set, not that of the pieces"


def test_one_thread_works_where_it_is(two_threads):
    torch.set_num_threads(1)
    assert list(device.spread(lambda piece: threading.current_thread() is threading.main_thread(), [1, 2], CPU)) == [True, True]


def test_a_piece_that_fails_ends_the_work_with_its_error(two_threads):
    def work(piece):
        if piece == 3:
            raise BadInput("piece 3 is odd")
        return piece

    with pytest.raises(BadInput, match="piece 3"):
        list(device.spread(work, range(1000), CPU))
    assert torch.get_num_threads() == 2


def test_a_piece_that_nobody_waits_for_ends_at_its_next_step(two_threads):
    begun = threading.Event()

    def work(piece):
        if piece == 0:
            begun.wait()
            raise KeyboardInterrupt
        begun.set()
        while True:  # a training: without its question it would never end, and neither would this test
            device.go_on()

    with pytest.raises(KeyboardInterrupt):
        list(device.spread(work, range(2), CPU))


def test_outside_of_a_piece_work_always_goes_on():
    device.go_on()


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_precision_that_is_named_is_used(wanted, monkeypatch):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda _: pytest.fail("nobody need be asked"))
    assert device.precision(wanted, CPU) == wanted


def test_an_unknown_precision_is_refused():
    with pytest.raises(BadInput, match="unknown precision"):
        device.precision("float16", CPU)


@pytest.mark.parametrize(
    ("native", "probed", "used"), [(True, None, "bfloat16"), (False, None, "float32"), (None, True, "bfloat16"), (None, False, "float32")]
)
def test_auto_asks_the_device_and_probes_where_it_cannot_be_asked(monkeypatch, native, probed, used):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda _: native)
    monkeypatch.setattr(device, "_faster_in_bfloat16", lambda _: pytest.fail("it was asked") if probed is None else probed)
    assert device.precision("auto", CPU) == used


@pytest.mark.parametrize("cap", ["AVX2", "avx512_core", "AVX512_CORE_VNNI"])
def test_an_instruction_set_that_the_environment_caps_below_bfloat16_is_none(monkeypatch, cap):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert device.multiplies_bfloat16(CPU) is not True


def test_a_processor_that_emulates_bfloat16_has_none(monkeypatch):
    """oneDNN supports it on every AVX-512; a processor without the instructions takes ten times as long."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: True)
    assert device.multiplies_bfloat16(CPU) is False


def test_the_probe_says_yes_or_no():
    assert device._faster_in_bfloat16(CPU) in (True, False)
