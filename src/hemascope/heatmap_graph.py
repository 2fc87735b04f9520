"""The heat map's gradients written out as a graph of forward operations, which ONNX can hold.

ONNX has no gradients, and torch's exporter none of the operations that autograd calls. Here the whole pass with its
gradients is traced once, and what goes backwards is told in other words: the gradient of a convolution is a transposed
convolution, that of a mean over patches two matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from hemascope.heatmap import Explained

EXAMPLES = 37
"""Pictures in the example: no other side may be so long, nor 2, 4 or 8 times, or the tracer takes the two for one."""

aten = torch.ops.aten


def traced(explained: Explained, height: int, width: int) -> torch.fx.GraphModule:
    """The same function without gradients, to be exported or run.

    It is for pictures float32 (n, 3, height, width), 0 to 255, any n.
    Returns a module that gives (logits, embedding, heatmap) as `explained` does, on the device where the network is.
    """
    device = next(explained.parameters()).device
    example = torch.zeros(EXAMPLES, 3, height, width, device=device)
    known: Mapping[Any, Any] = core_aten_decompositions()
    backward = {operation: told for operation, told in known.items() if _is_backward(operation)}
    graph = make_fx(
        lambda pictures: tuple(explained(pictures)),
        decomposition_table=backward | OURS,
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )(example)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph.requires_grad_(False)


def _is_backward(operation: Any) -> bool:
    return "backward" in str(operation)


def _convolution_backward(
    grown: torch.Tensor,
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    is_transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor | None, None, None]:
    if is_transposed or any(wanted[1:]):
        raise NotImplementedError("only the gradient of a plain convolution with respect to its input is written out.")
    # What a stride leaves over at the far edge was seen by no place of the output.
    over = [
        (size + 2 * pad - spread * (side - 1) - 1) % step
        for size, side, step, pad, spread in zip(
            inputs.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    told = aten.convolution(grown, weight, None, stride, padding, dilation, True, over, groups)
    return told, None, None


def _avg_pool2d_backward(
    grown: torch.Tensor,
    inputs: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> torch.Tensor:
    sizes, windows = inputs.shape[2:], grown.shape[2:]
    rows, columns = (
        torch.from_numpy(
            mean_weights(int(sizes[at]), int(windows[at]), kernel, stride, padding, count_include_pad, at)
        ).to(grown)
        for at in range(2)
    )
    found = rows.T @ (grown @ columns)
    return found if divisor is None else found * (kernel[0] * kernel[-1] / divisor)


def mean_weights(
    size: int,
    windows: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    count_include_pad: bool,
    axis: int,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The matrix (windows, size) that takes the means of `avg_pool2d` along one axis."""
    side, pad = (list(values)[axis if len(values) > 1 else 0] for values in (kernel, padding))
    step = list(stride)[axis if len(stride) > 1 else 0] if stride else side
    weights = np.zeros((windows, size), np.float32)
    for window in range(windows):
        start = window * step - pad
        stop = min(start + side, size + pad)
        inside = slice(max(start, 0), min(stop, size))
        weights[window, inside] = 1 / (stop - start if count_include_pad else inside.stop - inside.start)
    return weights


OURS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: _convolution_backward,
    aten.avg_pool2d_backward.default: _avg_pool2d_backward,
}
