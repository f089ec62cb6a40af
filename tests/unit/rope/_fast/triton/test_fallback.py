"""Formulas in place of kernels that cannot be launched."""

import pytest
import torch
from triton.runtime.errors import OutOfResources

from harope.rope._fast.triton import normed_qk, qk_norm, rotate, rotate_qk
from harope.rope._fast.triton.fallback import Fallback

NO_COMPILER = RuntimeError("Failed to find C compiler. Please specify via CC.\nMore lines")
TOO_LARGE = OutOfResources(300_000, 232_448, "shared memory")
X = torch.zeros(2, 8)


class Launches:
    """Counts launches, which raise an error."""

    def __init__(self, error):
        self.count, self.error = 0, error

    def __call__(self, *args):
        self.count += 1
        raise self.error


def run(fallback, launch, kernel="rotate_qk", x=X):
    return fallback.run(kernel, x, launch, lambda: "formula")


def test_a_launch_that_succeeds_gives_the_result():
    assert run(Fallback(), lambda: "kernel") == "kernel"


def test_the_current_device_is_that_of_the_input(monkeypatch):
    entered = []

    class Guard:
        def __init__(self, x):
            entered.append(x)

        def __enter__(self):
            entered.append("inside")

        def __exit__(self, *args):
            entered.append("outside")

    monkeypatch.setattr(torch.cuda, "device_of", Guard)
    run(Fallback(), lambda: entered.append("launch"))
    assert entered[0] is X
    assert entered[1:] == ["inside", "launch", "outside"]


def test_without_a_compiler_no_kernel_is_tried_again():
    fallback, launch = Fallback(), Launches(NO_COMPILER)
    with pytest.warns(
        RuntimeWarning, match="rotate_qk cannot be used on cpu for head_dim 8"
    ) as all_:
        results = [run(fallback, launch, name) for name in ("rotate_qk", "rotate_qk", "normed_qk")]
    assert results == 3 * ["formula"]
    assert launch.count == len(all_) == 1
    message = str(all_[0].message)
    assert "(RuntimeError: Failed to find C compiler. Please specify via CC.)" in message
    assert "HAROPE_KERNELS=0" in message


def test_a_kernel_that_is_too_large_is_given_up_for_this_input_alone():
    fallback, launch = Fallback(), Launches(TOO_LARGE)
    with pytest.warns(RuntimeWarning, match="Required: 300000, Hardware limit: 232448"):
        assert run(fallback, launch) == "formula"
    assert run(fallback, launch) == "formula"
    assert launch.count == 1
    assert run(fallback, lambda: "kernel", x=torch.zeros(2, 16)) == "kernel"
    assert run(fallback, lambda: "kernel", x=X.double()) == "kernel"
    assert run(fallback, lambda: "kernel", kernel="normed_qk") == "kernel"


def test_a_gpu_without_memory_is_no_reason_for_the_formula():
    with pytest.raises(torch.OutOfMemoryError):
        run(Fallback(), Launches(torch.OutOfMemoryError("CUDA out of memory")))


def inputs():
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, 3, 5, 8).unbind()
    table = [part.requires_grad_() for part in torch.randn(2, 5, 4)]
    matrices = [part.requires_grad_() for part in torch.randn(2, 3, 8, 8)]
    return q.requires_grad_(), k.requires_grad_(), table, matrices


def rotated(layout):
    q, k, table, _ = inputs()
    out = rotate_qk(q, k, *table, interleaved=layout == "interleaved")
    return out, (q, k, *table)


def normed(layout):
    q, k, table, matrices = inputs()
    fixed = [part.detach() for part in table]
    out = normed_qk(q, k, *matrices, *fixed, eps=1e-3, interleaved=layout == "interleaved")
    return out, (q, k, *matrices)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("operation", [rotated, normed])
def test_formulas_give_the_outputs_and_gradients_of_the_kernels(operation, layout, monkeypatch):
    results = []
    for _ in range(2):
        outputs, leaves = operation(layout)
        loss = sum((x * x.detach().cos()).sum() for x in outputs)
        results.append([*outputs, *torch.autograd.grad(loss, leaves)])
        # The second time, there are no kernels.
        fallback = Fallback()
        fallback._is_broken = True
        for module in (rotate, qk_norm):
            monkeypatch.setattr(module, "FALLBACK", fallback)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
