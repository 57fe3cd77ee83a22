"""``agatha-ckpt verify``: which checkpoints are damaged, and where."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from agatha_ckpt._cli.common import UNREADABLE_HINT, find_statuses, takes_root
from agatha_ckpt._cli.table import (
    coloured,
    hanging,
    pad,
    shorten,
    state_cell,
    terminal_columns,
    width,
)
from agatha_ckpt._errors import NETWORK_ERRORS, refusal
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._human import format_count, format_partitions
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import find_faults, find_missing

if TYPE_CHECKING:
    from tqdm import tqdm

_VERDICT_COLUMNS = 16  # "  damaged", and for names at least
_ADVICE = {
    State.DAMAGED: "repair with Checkpointer.repair(name, bag), or clear",
    State.UNSUPPORTED: "upgrade agatha_ckpt, or clear",
    State.UNREADABLE: UNREADABLE_HINT,
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a partition, or why it is not known."""

    index: int
    state: State
    reason: str


@click.command(short_help="Read checkpoints in full; name what is damaged.")
@takes_root(optional=True)
@click.argument("pattern", metavar="[GLOB]", default="*")
@click.option("--fast", is_flag=True, help="Only compare the sizes of the files.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead.")
@click.option(
    "--allow-pickle", is_flag=True,
    help="Unpickle what Agatha itself wrote, which can run any code. Otherwise only "
    "the presence of those files is checked.",
)  # fmt: skip
def verify(
    store: CheckpointStore, pattern: str, fast: bool, allow_pickle: bool, as_json: bool
) -> None:
    """Read the done checkpoints under ROOT that match GLOB, and name what is damaged.

    All checksums and digests are compared, many partitions at once. The exit code is 1
    if something is damaged or cannot be read, or if nothing matches GLOB.

    Example: agatha-ckpt verify s3://bucket/run-1 '*_sentences'
    """
    from tqdm import tqdm  # slow to import

    statuses = list(find_statuses(store, pattern, must_match=True))
    done = [(s.name, s.manifest) for s in statuses if s.manifest]
    room = max((terminal_columns() or 1_000) - _VERDICT_COLUMNS, _VERDICT_COLUMNS)
    column = max((width(shorten(s.name, room)) for s in statuses), default=0)
    objects: list[dict[str, Any]] = []
    hidden = fast or sys.stderr is None or os.environ.get("TERM") == "dumb"
    verdicts: Counter[State] = Counter()
    with tqdm(
        total=sum(max(info.bytes, 0) for _, m in done for info in m.partitions),
        desc="verifying", unit="B", unit_scale=True, unit_divisor=1024,
        leave=False, disable=hidden or None,  # None: unless on a terminal
    ) as bar:  # fmt: skip
        checked = (
            _compare_sizes(store, done)
            if fast
            else _read_all(store, done, allow_pickle, bar)
        )
        for status in statuses:
            faults = next(checked) if status.manifest else []
            verdict = _verdict(status, faults)
            verdicts[verdict] += 1
            if as_json:
                objects.append(
                    _json_object(status, verdict, faults, fast, allow_pickle)
                )
                continue
            lines = [status.problem] if status.problem else group_faults(faults)
            with bar.external_write_mode(sys.stdout):
                text = _result(status, verdict, allow_pickle)
                lead = f"{pad(shorten(status.name, room), column)}  "
                found = [
                    hanging(lead, text),
                    *(hanging("    ", line) for line in lines),
                ]
                click.echo("\n".join(chain.from_iterable(found)))
    if as_json:
        click.echo(json.dumps(objects, indent=2))
    if summary := _summary(verdicts):
        raise click.ClickException(summary)


def _verdict(status: Status, faults: list[Fault]) -> State:
    states = [fault.state for fault in faults]
    worst = State.DAMAGED if State.DAMAGED in states else State.UNREADABLE
    return worst if states else status.state


def _result(status: Status, verdict: State, allow_pickle: bool) -> str:
    if verdict in _ADVICE:
        return coloured(verdict)
    if status.manifest is None:
        return f"{state_cell(status)}, not checked"
    unread = status.manifest.is_agatha and not allow_pickle
    return coloured("ok") + (", content of pickles not checked" if unread else "")


def _json_object(
    status: Status,
    verdict: State,
    faults: list[Fault],
    fast: bool,
    allow_pickle: bool,
) -> dict[str, Any]:
    checked = None
    if status.manifest:
        unread = status.manifest.is_agatha and not allow_pickle
        checked = "sizes" if fast else "presence" if unread else "content"
    return {
        "name": status.name,
        "state": verdict,
        "checked": checked,
        "problem": status.problem,
        "partitions": [asdict(fault) for fault in faults],
    }


def _fault(index: int, found: str | OSError) -> Fault:
    if isinstance(found, OSError):
        return Fault(index, State.UNREADABLE, refusal(found))
    return Fault(index, State.DAMAGED, found)


def _summary(verdicts: Counter[State]) -> str:
    """Return how many checkpoints are not ok, and what to do; "" if all are."""
    states = [state for state in _ADVICE if verdicts[state]]
    if not states:
        return ""
    first, *others = states
    all_of_them = format_count(verdicts.total(), "checkpoint")
    more = "".join(f", {verdicts[state]:,} {state}" for state in others)
    return f"{verdicts[first]:,} of {all_of_them} {first}{more}; {_ADVICE[first]}"


def _read_all(
    store: CheckpointStore,
    done: list[tuple[str, Manifest]],
    allow_pickle: bool,
    bar: tqdm[None],
) -> Iterator[list[Fault]]:
    folders = ((store._folder(name), manifest) for name, manifest in done)
    results = find_faults(folders, allow_pickle, store._files.concurrent)
    for _, manifest in done:
        faults = []
        partitions = enumerate(manifest.partitions)
        for (index, info), found in zip(partitions, results, strict=False):
            if found:
                faults.append(_fault(index, found))
            bar.update(max(info.bytes, 0))
        yield faults


def _compare_sizes(
    store: CheckpointStore, done: list[tuple[str, Manifest]]
) -> Iterator[list[Fault]]:
    def compare(one: tuple[str, Manifest]) -> list[Fault]:
        name, manifest = one
        try:
            missing = find_missing(store._folder(name), manifest)
        except NETWORK_ERRORS:
            raise
        except OSError as error:
            return [_fault(i, error) for i in range(len(manifest.partitions))]
        return [_fault(partition.index, partition.reason) for partition in missing]

    return map_ordered(compare, done, store._files.concurrent)


def group_faults(faults: Iterable[Fault]) -> Iterator[str]:
    """Yield a line for each reason, with the partitions that have it.

    Examples
    --------
    >>> missing = [Fault(i, State.DAMAGED, "its file is missing") for i in (1, 4, 5, 6)]
    >>> list(group_faults([*missing, Fault(7, State.DAMAGED, "it is empty")]))
    ['partitions 1, 4-6: its file is missing', 'partition 7: it is empty']
    """
    by_reason: dict[str, list[int]] = {}
    for fault in faults:
        by_reason.setdefault(fault.reason, []).append(fault.index)
    for reason, indexes in by_reason.items():
        yield f"{format_partitions(indexes)}: {reason}"
