"""Carrying out what was decided: one call's look at the store, and its effects."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter, sleep
from typing import Any

from dask.bag import Bag

from agatha_ckpt._dask.bags import SavePartition, parents_of, save_partitions
from agatha_ckpt._dask.pool import WarmPool
from agatha_ckpt._errors import (
    CheckpointConflictError,
    CorruptCheckpointError,
    EncodeError,
    InvalidNameError,
)
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import new_run
from agatha_ckpt._run.decision import Action, Decision, Request, Stored, decide
from agatha_ckpt._run.explanation import Explanation
from agatha_ckpt._run.progress import (
    Reporter,
    done,
    figures,
    loading,
    passing,
    saving,
)
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.rivals import (
    RunGoesOnError,
    end,
    partitions_of,
    time_to_show_life,
)
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.survey import Survey

_ADOPTED = "Another run with the same plan was first; taking its records"
_WORDS = {
    Action.LOAD: "load",
    Action.PASS_THROUGH: "pass through",
    Action.REPAIR: "repair",
    Action.RECOMPUTE: "recompute",
}


def request_for(
    store: CheckpointStore,
    name: str,
    bag: Bag | None,
    version: str | None,
    textfile: bool,
) -> Request:
    """Return what a caller asks for.

    Raises
    ------
    InvalidNameError
        The version is no str.
    EncodeError
        *bag* is no bag.
    """
    where = store.describe(name)
    if not isinstance(version, str | None):
        raise InvalidNameError(
            f"the version of {where} must be a str, not "
            f"{type(version).__name__}; use str({version!r})"
        )
    if bag is None:
        return Request(where, version=version, textfile=textfile, name=name)
    check_bag(bag)
    parents = parents_of(bag)
    return Request(where, bag.npartitions, parents, version, textfile, name)


def check_bag(bag: object) -> None:
    """Refuse what is no bag.

    Raises
    ------
    EncodeError
    """
    if not isinstance(bag, Bag):
        raise EncodeError(
            f"bag must be a dask bag, not a {type(bag).__name__}; "
            "dask.bag.from_sequence makes one"
        )


@dataclass(frozen=True)
class Call:
    """One call for a checkpoint.

    Attributes
    ----------
    store : CheckpointStore
    name : str
        Name of the checkpoint.
    bag : dask.bag.Bag, optional
    request : Request
        What is asked for.
    settings : Settings
        Those in force for this call.
    compute_kw : mapping
        For dask.
    pool : WarmPool
        For dask's process scheduler.
    run : str
        8 hexadecimal digits by which it knows the files that it wrote.
    """

    store: CheckpointStore
    name: str
    bag: Bag | None
    request: Request
    settings: Settings
    compute_kw: Mapping[str, Any]
    pool: WarmPool
    run: str = field(default_factory=new_run)

    @cached_property
    def reporter(self) -> Reporter:
        """What says what happens; making it says the name."""
        return Reporter(self.name, self.settings.verbose)

    def look(self) -> Stored:
        """Return what is stored; with a bag at hand, also what is missing of it."""
        if self.bag is not None and not self.settings.enabled:
            return Stored()
        try:
            manifest = self.store.find_manifest(self.name)
        except CorruptCheckpointError as error:
            if self.bag is None:
                raise
            return Stored(problem=str(error).split(";")[0])
        if manifest is None or self.bag is None:
            return Stored(manifest)
        return Stored(manifest, tuple(self.store.missing(self.name, manifest)))

    @property
    def halts(self) -> bool:
        """Whether the program is to stop after this checkpoint."""
        return self.settings.halt_after == self.name

    def explain(self) -> Explanation:
        """Return what the call would do, from the same look, decision and survey.

        Raises
        ------
        CheckpointError
            As the call would.
        """
        stored = self.look()
        decision = decide(self.settings, self.request, stored)
        action, reason, halts = decision.action, decision.reason, self.halts
        if action is Action.PASS_THROUGH:
            return Explanation(self.name, _WORDS[action], passing(decision), reason)
        if action is Action.LOAD or self.bag is None:
            assert stored.manifest is not None
            line = loading(decision, stored.manifest)
            return Explanation(self.name, _WORDS[action], line, reason, halts=halts)
        survey = self._survey(decision, stored)
        missing = self._missing(survey)
        return Explanation(
            self.name,
            _WORDS.get(action) or ("resume" if survey.kept else "compute"),
            saving(decision, survey, self.bag.name, missing),
            reason,
            tuple(missing),
            len(survey.kept),
            halts,
        )

    def act(self, decision: Decision, stored: Stored) -> Manifest:
        """Carry out a decision and return the manifest that is then in place."""
        if decision.action is Action.LOAD or self.bag is None:
            assert stored.manifest is not None
            if self.bag is not None:
                with suppress(OSError):  # a root that can only be read
                    self.store.sync(self.name)
            self.reporter.say(loading(decision, stored.manifest), decision.warn)
            return stored.manifest
        self.store.begin(self.name)
        try:
            with self.store.hold(self.name, self.run):
                return self._save_all(self.bag, decision, stored)
        finally:
            end(self.run)

    def _save_all(self, bag: Bag, decision: Decision, stored: Stored) -> Manifest:
        plan, started = self.request.plan, perf_counter()
        survey = self._survey(decision, stored)
        missing = self._missing(survey)
        self.reporter.say(saving(decision, survey, bag.name, missing), decision.warn)
        try:
            infos = survey.kept | self._save(bag, missing, survey.kept)
            manifest, ours = self._mark_done(bag, infos, stored.manifest, survey)
        except CheckpointConflictError:
            # Another run's commit takes our files for left-overs, in the middle too.
            winner = self.store.adopt(self.name, plan, stored.manifest, self.run)
            if winner is None:
                raise
            self.reporter.say(f"{_ADOPTED}: {figures(winner)}")
            return winner
        except Exception as error:
            error.add_note(
                f"{self.request.where} is not known to be done; what was saved stays, "
                "and the next call with the same bag keeps it"
            )
            raise
        if manifest.token != ours:
            self.store.adopt(self.name, plan, stored.manifest, self.run)
            self.reporter.say(f"{_ADOPTED}: {figures(manifest)}")
        else:
            computed = [
                i
                for i, info in enumerate(manifest.partitions)
                if info != survey.kept.get(i)
            ]
            self.reporter.say(done(manifest, computed, perf_counter() - started))
        return manifest

    def _mark_done(
        self,
        bag: Bag,
        infos: dict[int, PartitionInfo],
        replaces: Manifest | None,
        survey: Survey,
    ) -> tuple[Manifest, str]:
        """Commit; return the manifest that is then in place, and the token of ours."""
        plan = self.request.plan
        seen = survey.seen or None
        self._wait_for_signs_of_life(survey)
        while True:
            partitions = tuple(infos[i] for i in range(plan.npartitions))
            ours = Manifest(plan, partitions)
            try:
                placed = self.store.mark_done(self.name, ours, replaces, seen)
                return placed, ours.token
            except RunGoesOnError as error:
                again = self._settle(bag, error.runs, infos, len(survey.kept))
            if again:
                self.reporter.say(
                    f"Saving {len(again):,} more: the run that left them goes on"
                )
                rest = {i: info for i, info in infos.items() if i not in again}
                infos |= self._save(bag, again, rest)
            else:
                seen = None

    def _wait_for_signs_of_life(self, survey: Survey) -> None:
        """Give a run that partitions are kept of the time to store another one."""
        mixed = 0 < len(survey.kept) < self.request.plan.npartitions
        if mixed and self.store.remote:
            sleep(max(0.0, time_to_show_life(survey.kept) - survey.age))

    def _settle(
        self,
        bag: Bag,
        runs: frozenset[str],
        infos: dict[int, PartitionInfo],
        kept: int,
    ) -> list[int]:
        """Return the partitions to compute here, of those that other runs left.

        None, where one of *runs* has stored all of them by now: it is taken whole.
        """
        plan = self.request.plan
        for run in sorted(runs):
            whole = self._stored(run=run).kept
            if len(whole) == plan.npartitions:
                infos |= whole
                return []
        theirs = partitions_of(runs, infos)
        if len(theirs) <= plan.npartitions - kept:
            return theirs
        # Half of the work or more: it stays if it is of the same graph.
        samples = [partitions_of(frozenset([run]), infos)[0] for run in runs]
        bags = {self.store.bag_of(self.name, i, infos[i]) for i in samples}
        return [] if bags == {bag.name} else theirs

    def _survey(self, decision: Decision, stored: Stored) -> Survey:
        """Return the partitions that need not be computed."""
        if decision.action is Action.REPAIR and stored.manifest:
            damaged = {partition.index for partition in stored.damaged}
            infos = enumerate(stored.manifest.partitions)
            return Survey({i: info for i, info in infos if i not in damaged})
        if not decision.keep_partial:
            return Survey({})
        exclude = stored.manifest.files if stored.manifest else frozenset()
        return self._stored(exclude=exclude)

    def _stored(self, **only: Any) -> Survey:
        """Return what is stored of the same plan, and by default of the same graph.

        A version says that what is stored under it may be kept, whatever the graph.
        """
        bag = None
        if self.bag is not None and self.request.version is None:
            bag = self.bag.name
        return self.store.survey(self.name, self.request.plan, bag=bag, **only)

    def _missing(self, survey: Survey) -> list[int]:
        return [i for i in range(self.request.plan.npartitions) if i not in survey.kept]

    def _save(
        self, bag: Bag, indexes: list[int], kept: dict[int, PartitionInfo]
    ) -> dict[int, PartitionInfo]:
        save = SavePartition(
            self.store,
            self.name,
            self.request.plan,
            self._compression(),
            self.settings.allow_pickle,
            bag.name,
            self.run,
        )
        with self.reporter.bar(bag.npartitions, kept.values()) as landed:
            return save_partitions(
                bag, indexes, save, dict(self.compute_kw), self.pool, landed
            )

    def _compression(self) -> str | None:
        if self.settings.compression == "auto":
            return "zstd" if self.store.remote else None
        return self.settings.compression
