"""What tests of code that uses checkpoints need: memory, and crashes.

Imports neither pytest nor dask; `agatha_ckpt.testing.pytest_plugin` has fixtures.
"""

from agatha_ckpt.testing.crash import SimulatedCrash, crash_after
from agatha_ckpt.testing.memory import memory_checkpointer, memory_root

__all__ = ["SimulatedCrash", "crash_after", "memory_checkpointer", "memory_root"]
