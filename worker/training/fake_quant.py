"""Fake quantization: what integers would make of a tensor, computed in FP32 and with a gradient.

Values go straight through the rounding (Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons,
2013); scales are learned as in LSQ (Esser et al., Learned Step Size Quantization, ICLR 2020). They are learned as
logarithms of what they are at first, so that one learning rate suits scales of any size and none turns negative.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.training.grids import ActivationGrid, BiasGrid, WeightGrid
from worker.training.onnx_to_torch import OnnxModule


class _Rounded(torch.autograd.Function):
    """x → scale · (clip(round(x / scale) + zero_point, low, high) - zero_point), per tensor or per channel."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        values: Tensor,
        scales: Tensor,
        zero_point: int,
        low: int,
        high: int,
        axis: int,
    ) -> Tensor:
        zeros = torch.full(scales.shape, zero_point, dtype=torch.int32)
        if len(scales) == 1:
            rounded = torch.fake_quantize_per_tensor_affine(values, scales[0], zeros[0], low, high)
        else:
            rounded = torch.fake_quantize_per_channel_affine(values, scales, zeros, axis, low, high)
        ctx.save_for_backward(values, rounded, scales)
        ctx.ends = (low - zero_point, high - zero_point)
        ctx.axis = axis
        return rounded

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, rounded, scales = ctx.saved_tensors
        shape = [1] * values.ndim
        if len(scales) > 1:
            shape[ctx.axis] = -1
        steps = scales.reshape(shape)
        low, high = ctx.ends
        inside = (values >= (low - 0.5) * steps) & (values <= (high + 0.5) * steps)
        passed = gradient * inside
        # Within, the scale moves a value by its rounding error; beyond, by the integer at which it is clipped.
        each = gradient * rounded - passed * values
        if len(scales) == 1:
            summed = each.sum().reshape(1)
        else:
            summed = each.sum(dim=[place for place in range(values.ndim) if place != ctx.axis])
        return passed, summed / scales, None, None, None, None


class _LearnedScale(torch.nn.Module):
    """Scales `(channels,)` or `(1,)`, as what they began with times the exponential of what is learned."""

    def __init__(self, scales: NDArray[np.float32], *, learned: bool) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(scales))
        self.growth = torch.nn.Parameter(torch.zeros(len(scales)), requires_grad=learned)

    def forward(self) -> Tensor:
        return self.start * torch.exp(self.growth)


class QuantizedModule(torch.nn.Module):
    """`module` with its activations and weights rounded as its INT8 form has them, by their names in ONNX."""

    def __init__(
        self,
        module: OnnxModule,
        activations: Mapping[str, ActivationGrid],
        weights: Mapping[str, WeightGrid],
        biases: Mapping[str, BiasGrid],
        shared: Mapping[str, str] | None = None,
    ) -> None:
        """Activations that are `shared`, by name, are rounded on the grid of another one, and learn its scale."""
        super().__init__()
        self._owners = {name: name for name in activations} | dict(shared or {})
        self._biases = dict(biases)
        self.module = module
        self._activations = dict(activations)
        self._weights = dict(weights)
        scales = {name: np.array([grid.scale], np.float32) for name, grid in activations.items()}
        self._places = {name: place for place, name in enumerate([*scales, *weights])}
        self._scales = torch.nn.ModuleList(
            [_LearnedScale(scales[name], learned=grid.learned) for name, grid in activations.items()]
            + [_LearnedScale(grid.scales, learned=True) for grid in weights.values()]
        )

    def forward(self, feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs in the graph's order, as far as FP32 can tell what the integers would answer."""
        outputs: list[Tensor] = self.module(feeds, transform=self._rounded_activation, weights=self._rounded_weights())
        return outputs

    def scale(self, name: str) -> NDArray[np.float32]:
        """The scale `(1,)` of an activation, or those of a weight, as learned."""
        with torch.no_grad():
            values: NDArray[np.float32] = self._scale(name).numpy().copy()
        return values

    def learned_scales(self) -> dict[str, torch.nn.Parameter]:
        """What is learned of scales, by the activation or weight that they belong to."""
        parameters = {name: self._scales[place].growth for name, place in self._places.items()}
        return {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}

    def _scale(self, name: str) -> Tensor:
        scale: Tensor = self._scales[self._places[name]]()
        return scale

    def _rounded_activation(self, name: str, values: Tensor) -> Tensor:
        owner = self._owners.get(name)
        if owner is None:
            return values
        grid = self._activations[owner]
        rounded: Tensor = _Rounded.apply(values, self._scale(owner), grid.zero_point, 0, grid.levels - 1, 0)
        return rounded

    def _rounded_weights(self) -> dict[str, Tensor]:
        rounded = {
            name: _Rounded.apply(
                self.module.parameter(name), self._scale(name), 0, -grid.largest, grid.largest, grid.axis
            )
            for name, grid in self._weights.items()
        }
        for name, grid in self._biases.items():
            # So fine that its scale learns nothing from it, and yet coarse enough to be seen in the layers after it.
            step = (self._scale(self._owners[grid.activation]) * self._scale(grid.weight)).detach()
            bias = self.module.parameter(name)
            rounded[name] = bias + (torch.round(bias / step) * step - bias).detach()
        return rounded
