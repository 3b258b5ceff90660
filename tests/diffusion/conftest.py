from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for oracle.py, which is no test


@pytest.fixture
def g() -> torch.Generator:
    return torch.Generator().manual_seed(0)
