"""One thread: the tensors are small, and tests may run side by side."""

import torch

torch.set_num_threads(1)
