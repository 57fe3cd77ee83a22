"""Files are the same with and without the faster checksum."""

import random
import subprocess
import sys
import zlib

import pytest

from agatha_ckpt._format.crc import crc32


@pytest.mark.parametrize("size", [0, 1, 7, 64, 1_000, 65_541])
def test_the_checksum_is_that_of_zlib(size):
    data = random.Random(size).randbytes(size)
    for view in (data, bytearray(data), memoryview(data)):
        assert crc32(view) == zlib.crc32(data)
    assert crc32(data, 12345) == zlib.crc32(data, 12345)


def test_without_isal_it_is_zlibs():
    code = (
        "import sys; sys.modules['isal'] = None\n"
        "import zlib, agatha_ckpt._format.crc as c\n"
        "assert c.crc32 is zlib.crc32"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
