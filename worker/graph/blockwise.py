"""Weights in a few bits, a scale and a zero point for each block of them: three ways to find the integers.

A weight is `(inputs, outputs)`; blocks are runs of inputs of one output. A block's integers q, of `bits` bits, stand
for (q - zero point)·scale.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Half-quadratic quantization: the norm, its weight and the growth of that, as its authors have them.
_HQQ_NORM, _HQQ_BETA, _HQQ_GROWTH, _HQQ_ROUNDS = 0.7, 10.0, 1.01, 20

# GPTQ: what is added to the diagonal, as a share of its mean; columns between updates of the rest.
_DAMPING, _LAZY_COLUMNS = 0.01, 128


@dataclass(frozen=True)
class Blocks:
    """`integers` `(outputs, blocks, block size)`, `scales` and `zero_points` `(outputs, blocks)`; `inputs` count."""

    integers: NDArray[np.uint8]
    scales: Floats
    zero_points: NDArray[np.uint8]
    inputs: int
    bits: int

    def restored(self) -> Floats:
        """The weight that the integers stand for, `(inputs, outputs)`."""
        centred = self.integers.astype(np.float32) - self.zero_points[..., None]
        values = (centred * self.scales[..., None]).reshape(len(self.integers), -1)
        return np.ascontiguousarray(values[:, : self.inputs].T)


def round_to_nearest(weight: Floats, block_size: int, bits: int) -> Blocks:
    """Each block's range in even steps, as onnxruntime's own quantizer has them."""
    blocks = _blocks(weight, block_size)
    scales, zero_points = _range(blocks, bits)
    return _rounded(blocks, scales, zero_points, len(weight), bits)


def half_quadratic(weight: Floats, block_size: int, bits: int) -> Blocks:
    """Scales and zero points for which the error is sparse: needs no samples.

    Half-quadratic quantization (Badri and Shaji, 2023) moves zero points only; here scales are fitted with them. Whole
    zero points are all that the fast kernels know, so blocks keep the plain ones where these err less.
    """
    plain = round_to_nearest(weight, block_size, bits)
    blocks = _blocks(weight, block_size)
    top, beta = 2**bits - 1, _HQQ_BETA
    scales, zero = plain.scales[..., None], plain.zero_points[..., None].astype(np.float32)
    best = plain
    for _ in range(_HQQ_ROUNDS):
        integers = np.clip(np.rint(blocks / scales + zero), 0, top)
        error = blocks - (integers - zero) * scales
        magnitude = np.abs(error)
        sparse = np.sign(error) * np.maximum(magnitude - np.power(magnitude + 1e-8, _HQQ_NORM - 1.0) / beta, 0.0)
        target, centred = blocks - sparse, integers - zero
        power = np.square(centred).sum(axis=-1, keepdims=True)
        fitted = (target * centred).sum(axis=-1, keepdims=True) / np.where(power > 0.0, power, 1.0)
        scales = np.where(fitted > 0.0, fitted, scales).astype(np.float32)
        zero = np.clip(np.rint(np.mean(integers - target / scales, axis=-1, keepdims=True)), 0, top)
        found = _rounded(blocks, scales[..., 0], zero[..., 0].astype(np.uint8), len(weight), bits)
        best = _better(best, found, blocks)
        beta *= _HQQ_GROWTH
    return best


def gptq(weight: Floats, gram: NDArray[np.float64], block_size: int, bits: int) -> Blocks:
    """Inputs rounded one after another, those to come making up for the error of those before.

    `gram` `(inputs, inputs)` is XᵀX of the inputs X that calibration saw, by which errors are weighed (Frantar et al.,
    GPTQ, 2023, algorithm 1).
    """
    inputs, outputs = weight.shape
    factor = _inverse_factor(gram)
    # Inputs that never speak weigh nothing: their weights may be anything.
    work = weight.T.astype(np.float64)
    work[:, np.diag(gram) == 0.0] = 0.0
    count = -(-inputs // block_size)
    integers = np.zeros((outputs, count, block_size), np.uint8)
    scales, zero_points = np.zeros((outputs, count), np.float32), np.zeros((outputs, count), np.uint8)
    top = 2**bits - 1
    for start in range(0, inputs, _LAZY_COLUMNS):
        stop = min(start + _LAZY_COLUMNS, inputs)
        errors = np.zeros((outputs, stop - start))
        for column in range(start, stop):
            block, place = divmod(column, block_size)
            if place == 0:
                whole = work[:, None, column : column + block_size].astype(np.float32)
                scales[:, [block]], zero_points[:, [block]] = _range(whole, bits)
            scale, zero_point = scales[:, block], zero_points[:, block].astype(np.float64)
            rounded = np.clip(np.rint(work[:, column] / scale) + zero_point, 0, top)
            integers[:, block, place] = rounded
            error = (work[:, column] - (rounded - zero_point) * scale) / factor[column, column]
            work[:, column + 1 : stop] -= np.outer(error, factor[column, column + 1 : stop])
            errors[:, column - start] = error
        work[:, stop:] -= errors @ factor[start:stop, stop:]
    padding = np.arange(count * block_size).reshape(count, block_size) >= inputs
    integers[:, padding] = np.broadcast_to(zero_points[..., None], integers.shape)[:, padding]
    return Blocks(integers, scales, zero_points, inputs, bits)


def _inverse_factor(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper Cholesky factor of the inverse of `gram`, damped until there is one."""
    damped = gram.copy()
    silent = np.diag(damped) == 0.0
    damped[silent, silent] = 1.0
    damping = _DAMPING * float(np.mean(np.diag(damped)))
    while True:
        try:
            inverse = np.linalg.inv(np.linalg.cholesky(damped + damping * np.eye(len(damped))))
            return np.asarray(np.linalg.cholesky(inverse.T @ inverse).T)
        except np.linalg.LinAlgError:
            damping *= 10.0


def _blocks(weight: Floats, block_size: int) -> Floats:
    """`(inputs, outputs)` → `(outputs, blocks, block size)`, filled up with zeros."""
    inputs, outputs = weight.shape
    count = -(-inputs // block_size)
    padded = np.zeros((outputs, count * block_size), np.float32)
    padded[:, :inputs] = weight.T
    return padded.reshape(outputs, count, block_size)


def _range(blocks: Floats, bits: int) -> tuple[Floats, NDArray[np.uint8]]:
    """Scales and zero points `(outputs, blocks)` at which nothing is clipped; zero is always met."""
    low, high = np.minimum(blocks.min(axis=-1), 0.0), np.maximum(blocks.max(axis=-1), 0.0)
    top = 2**bits - 1
    scales = ((high - low) / top).astype(np.float32)
    scales[scales == 0.0] = 1.0
    return scales, np.clip(np.rint(-low / scales), 0, top).astype(np.uint8)


def _rounded(blocks: Floats, scales: Floats, zero_points: NDArray[np.uint8], inputs: int, bits: int) -> Blocks:
    integers = np.clip(np.rint(blocks / scales[..., None]) + zero_points[..., None], 0, 2**bits - 1).astype(np.uint8)
    return Blocks(integers, scales, zero_points, inputs, bits)


def _better(one: Blocks, other: Blocks, blocks: Floats) -> Blocks:
    """Of each block, the form that errs less."""

    def error(found: Blocks) -> Floats:
        values = (found.integers.astype(np.float32) - found.zero_points[..., None]) * found.scales[..., None]
        return np.asarray(np.square(values - blocks).sum(axis=-1))

    takes = error(other) < error(one)
    return Blocks(
        np.where(takes[..., None], other.integers, one.integers),
        np.where(takes, other.scales, one.scales),
        np.where(takes, other.zero_points, one.zero_points),
        one.inputs,
        one.bits,
    )


#: By name, the ways that need nothing but the weight, its block size and bits.
DATA_FREE: dict[str, Callable[[Floats, int, int], Blocks]] = {"rtn": round_to_nearest, "hqq": half_quadratic}
