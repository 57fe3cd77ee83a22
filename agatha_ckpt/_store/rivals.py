"""Another run that goes on while this one resumes from the partitions it left.

A resume keeps what a run left that died. Whether one has died is not to be seen, but
that it goes on is: files of it appear. What was kept of such a run is then not mixed
with what this run has computed, so that a checkpoint has the records of one run.
"""

from collections.abc import Iterable, Mapping

from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import parse_filename

_LEAST_SECONDS, _MOST_SECONDS = 0.25, 2.0


class RunGoesOnError(Exception):
    """Runs whose partitions were kept have stored more since.

    Parameters
    ----------
    runs : frozenset of str
    """

    def __init__(self, runs: frozenset[str]) -> None:
        super().__init__(runs)
        self.runs = runs


def runs_that_go_on(
    kept: Iterable[str], seen: frozenset[str], now: Iterable[str]
) -> frozenset[str]:
    """Return the runs that a file was kept of and that have written others since.

    Those of this process that have ended are none of them.

    Parameters
    ----------
    kept : iterable of str
        File names that a resume kept.
    seen : frozenset of str
        All that were there then.
    now : iterable of str
        All that are there now.
    """
    return _runs(kept) & _runs(name for name in now if name not in seen) - _ended


def partitions_of(
    runs: frozenset[str], infos: Mapping[int, PartitionInfo]
) -> list[int]:
    """Return the numbers of the partitions whose file one of *runs* wrote."""
    return [index for index, info in infos.items() if _runs([info.file]) & runs]


def time_to_show_life(kept: Mapping[int, PartitionInfo]) -> float:
    """Return for how long to look before a run is taken to be dead, in seconds.

    Twice what its slowest partition took to be written, within bounds.
    """
    slowest = max(info.seconds for info in kept.values())
    return min(max(_LEAST_SECONDS, 2 * slowest), _MOST_SECONDS)


_ended: set[str] = set()
_lost: set[str] = set()


def end(run: str) -> None:
    """Remember that a run of this process has ended, whatever comes of it yet.

    Tasks of a save that failed may still store what they are at.
    """
    _ended.add(run)


def lose(run: str) -> None:
    """Remember that a run has lost, so that its late writers know."""
    _lost.add(run)


def has_lost(run: str) -> bool:
    """Whether a run of this process has lost against another one.

    dask's threads go on with what they are at when one of them has raised.
    """
    return run in _lost


def _runs(filenames: Iterable[str]) -> frozenset[str]:
    parsed = map(parse_filename, filenames)
    return frozenset(name.run for name in parsed if name)
