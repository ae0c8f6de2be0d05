import pytest
import torch

from fct import device
from fct.errors import BadInput


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


def test_the_number_of_threads_is_set():
    device.use_threads(2)
    assert torch.get_num_threads() == 2
    device.use_threads(1)
    assert torch.get_num_threads() == 1
