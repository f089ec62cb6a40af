"""Products of matrices without TF32."""

import pytest
import torch

from harope.rope._fast.precision import exact_matmul, without_tf32
from support.fake_cuda import DEVICE, fake_tensors


def allows_tf32() -> bool:
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_the_setting_of_the_process_is_changed_inside_only(tf32):
    assert allows_tf32()
    with without_tf32(DEVICE):
        assert not allows_tf32()
    assert allows_tf32()
    # Settings of the process that contradict each other cannot be read.
    assert torch.get_float32_matmul_precision() == "high"


def test_the_setting_comes_back_after_an_error(tf32):
    with pytest.raises(RuntimeError, match="stop"), without_tf32(DEVICE):
        raise RuntimeError("stop")
    assert allows_tf32()


def test_the_setting_of_the_process_stays_for_other_devices(tf32):
    with without_tf32(torch.device("cpu")):
        assert allows_tf32()


def test_gpus_get_one_operator_for_product_and_gradients():
    with fake_tensors():
        a = torch.empty(2, 3, 4, device=DEVICE, requires_grad=True)
        out = exact_matmul(a, torch.empty(2, 4, 5, device=DEVICE))
    assert out.shape == (2, 3, 5)
    assert "exact_matmul" in type(out.grad_fn).__name__


def test_the_operator_has_the_derivatives_of_the_product():
    a = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(torch.ops.harope.exact_matmul(a, b), a @ b)
    assert torch.autograd.gradcheck(torch.ops.harope.exact_matmul, (a, b))
    assert torch.autograd.gradgradcheck(torch.ops.harope.exact_matmul, (a, b))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_its_promises_to_compilers():
    a, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 4, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.harope.exact_matmul, (a, b))
    torch.library.opcheck(torch.ops.harope.exact_matmul, (a, b.mT.contiguous().mT))
