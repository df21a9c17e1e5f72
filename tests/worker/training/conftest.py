"""What all tests of training share: one thread, as tests run side by side and torch's threads spin while they wait."""

import os
from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
elif os.environ.get("OCTET_TEST_NO_SKIP") == "1":
    raise RuntimeError("torch is missing, and OCTET_TEST_NO_SKIP is set")
