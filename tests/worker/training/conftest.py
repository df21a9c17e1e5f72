"""What all tests of training share: one thread, as tests run side by side and torch's threads spin while they wait."""

from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
