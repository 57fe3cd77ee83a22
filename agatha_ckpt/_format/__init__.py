"""The bytes on disk, as pure functions."""
