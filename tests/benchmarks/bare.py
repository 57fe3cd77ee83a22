"""The limit: a partition by bare msgpack and bare files."""

import os
import uuid
from struct import Struct

import dask.bag
import msgpack

from tests.benchmarks.workloads import batches

LENGTH = Struct("<I")


def pack_array(value):
    return msgpack.ExtType(1, value.tobytes())


def unpack_array(code, data):
    import numpy as np

    return np.frombuffer(data, "f4")


def bare_write(root, in_a_block, fsync, part):
    pack = msgpack.Packer(default=pack_array).pack
    with open(f"{root}/{uuid.uuid4().hex}", "wb") as file:
        for batch in batches(part, in_a_block):
            data = pack(batch)
            file.write(LENGTH.pack(len(data)))
            file.write(data)
        if fsync:
            file.flush()
            os.fsync(file.fileno())
    return [0]


def bare_read(part):
    (path,) = part
    with open(path, "rb") as file:
        while head := file.read(LENGTH.size):
            data = file.read(*LENGTH.unpack(head))
            yield from msgpack.unpackb(
                data, strict_map_key=False, ext_hook=unpack_array
            )


def bare_bag(root):
    paths = sorted(map(str, root.iterdir()))
    return dask.bag.from_sequence(paths, npartitions=len(paths)).map_partitions(
        bare_read
    )
