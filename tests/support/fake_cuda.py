"""Models as if on a GPU that is not there: device mismatches, waits for the device, and copies.

Fake tensors have a shape, a dtype and a device but no values. An operation over two devices raises
an error, and one that needs a value on the host is a wait.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda", 0)

_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero"}
_COPIES = {"aten::copy_", "aten::_to_copy"}


class Waits(TorchDispatchMode):
    """Records what makes the host wait: values that are read, and blocking copies."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        devices = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        name = func.name().partition(".")[0]
        if name in _WAITS and "cuda" in devices:
            self.found[name] += 1
            if name == "aten::_local_scalar_dense":
                return 0.5
        out = func(*args, **kwargs)
        if name == "aten::_to_copy":
            devices.add(out.device.type)
        blocking = not (kwargs.get("non_blocking") or (args[2:3] and args[2] is True))
        if name in _COPIES and len(devices) > 1 and blocking:
            self.found[name] += 1
        return out


class Operators(TorchDispatchMode):
    """Counts the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "prim":
            self.found[func.name()] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """Number of calls."""
        return self.found.total()


@contextmanager
def fake_tensors(*, constants: bool = False) -> Iterator[FakeTensorMode]:
    """No tensor has values inside the `with` block, except constants on the CPU made before it."""
    with FakeTensorMode(allow_non_fake_inputs=constants) as mode:
        yield mode


def move(model: nn.Module) -> nn.Module:
    """Replace parameters and buffers by ones without values on the device; inside fake tensors."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                moved = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
                module._parameters[name] = nn.Parameter(moved, requires_grad=value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                moved = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
                module._buffers[name] = moved
    return model


def backward(loss: Tensor) -> None:
    """Fill the gradients of all parameters, as `loss.backward()` does, but without a GPU.

    PyTorch's engine asks for the streams of the device. Nodes are called here one by one.
    """
    root, uses = loss.grad_fn, Counter[Any]()
    seen, waiting = {root}, [root]
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None:
                uses[node] += 1
                if node not in seen:
                    seen.add(node)
                    waiting.append(node)
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    gradients[root][0], waiting = torch.ones_like(loss), [root]
    while waiting:
        node = waiting.pop()
        given, outputs = gradients.pop(node, {}), ()
        if hasattr(node, "variable"):
            if given:
                node.variable.grad = given[0]
        elif given:
            with torch.no_grad():
                outputs = _call(node, given)
        edges = node.next_functions
        for (following, index), value in zip(edges, _fitted(outputs, len(edges)), strict=True):
            if following is None:
                continue
            if value is not None:
                expected = following._input_metadata[index]
                value = value.sum_to_size(expected.shape).to(expected.dtype)
                before = gradients[following].get(index)
                gradients[following][index] = value if before is None else before + value
            uses[following] -= 1
            if not uses[following]:
                waiting.append(following)


def _fitted(outputs: Any, count: int) -> list[Tensor | None]:
    """Leave out the gradients of arguments that are no tensors, which stand last or first."""
    fitted = list(outputs) if isinstance(outputs, tuple) else [outputs]
    while len(fitted) > count:
        fitted.pop(-1 if fitted[-1] is None else fitted.index(None))
    return fitted + [None] * (count - len(fitted))


def _call(node: Any, given: dict[int, Tensor]) -> Any:
    """Run one node of the graph on the gradients of its outputs."""
    if callable(node):
        return node(*map(given.get, range(len(node._input_metadata))))
    # Functions of Python get zeros for outputs that nothing depends on.
    return node.apply(
        *(
            given[index] if index in given else torch.zeros(m.shape, dtype=m.dtype, device=DEVICE)
            for index, m in enumerate(node._input_metadata)
        )
    )


def waits(model: nn.Module, run: Callable[[nn.Module], Tensor], *, train: bool) -> Counter[str]:
    """Return the waits of a forward and, in training, of backward, optimizer and EMA.

    Args:
        model: The model, with parameters on the CPU, which are replaced.
        run: Runs it on inputs that it makes on `DEVICE`.
        train: Whether to train, and not only to evaluate.
    """
    from harope.lab.training.optim import EMA

    with fake_tensors():
        move(model).train(train)
        ema = EMA(model, 0.9999)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
        with Waits() as mode, torch.set_grad_enabled(train):
            out = run(model)
            if train:
                backward(out.float().square().mean())
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                ema.update()
        return mode.found
