"""Canonical bytes of values: equal for equal values, in every process."""
