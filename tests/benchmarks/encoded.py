"""A partition file in memory, by the codec of the library."""

from io import BytesIO

from agatha_ckpt._format.base import Header
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.names import parse_filename, partition_filename

CODEC = codec_for("msgpack")
FINGERPRINT, BASE, RUN = "0" * 32, "0" * 8, "0" * 8


class Encoded:
    """The file of partition 0 of one, as a codec reads it."""

    where = "partition 0"
    remote = False

    def __init__(self, records):
        sink = BytesIO()
        header = Header(FINGERPRINT, 0, 1)
        footer = CODEC.encode(
            records, sink, header, code="", allow_pickle=False, where=self.where
        )
        self.data = sink.getvalue()
        self.size = len(self.data)
        filename = partition_filename(0, FINGERPRINT, BASE, RUN, CODEC.suffix)
        self.name = parse_filename(filename)
        self.info = footer.info(filename, FINGERPRINT)

    def open(self, piece=0):
        return BytesIO(self.data)

    def tail(self, count):
        return self.data[-count:]

    def touch(self):
        """Decode the file and iterate over its records."""
        for block in CODEC.decode(self, self.info, allow_pickle=False):
            for _ in block:
                pass
