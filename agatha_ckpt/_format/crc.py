"""CRC-32, as zlib computes it, by the fastest way that is installed."""

try:
    # It uses the processor's own instructions.
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
