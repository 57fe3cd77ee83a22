"""CheckpointStore, and what it does."""
