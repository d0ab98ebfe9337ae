"""The judge of a chaos run: what was written, what arrived, what it caused, and when something was killed.

Pure. `readback` fetches the facts from PostgreSQL and Kafka; a service may fetch its own. An event is named by its
key and its number within the key: the writer counts 1, 2, 3, ... in committed transactions. All times are seconds since
the epoch, of clocks that agree (one machine).
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

__all__ = ["Arrival", "Effect", "Kill", "Verdict", "Written", "judge", "percentile"]

Name = tuple[str, int]
"""Key and number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An event whose transaction has committed; ``at`` is when it was written."""

    key: str
    number: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A record on the wire; ``at`` is the broker's time of it, ``sender`` names the process where that is known."""

    key: str
    number: int
    partition: int
    offset: int
    at: float
    sender: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one run of a handler has committed; ``place`` orders the effects of a key, ``process`` ran the handler."""

    key: str
    number: int
    place: int
    at: float
    process: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Something was killed, restarted or cut at ``at``: the process ``process``, where it was one."""

    point: str
    at: float
    process: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run came to.

    Attributes:
        events: Committed events.
        lost_on_wire: Committed, never on the wire.
        lost_effects: Committed, without an effect.
        phantoms: On the wire, never committed.
        reordered_on_wire: First arrived after a later one of their key, or in another partition than it.
        reordered_effects: First took effect after a later one of their key.
        doubled: With more than one effect.
        repeated: The same, where a death explains it: see `judge`.
        wire_duplicates: Records beyond the first of an event.
        wire_duplicates_max: Most that one process has sent again of another's, or, of its own or where senders are
            not known, between one kill and the next.
        recoveries: For each kill, the seconds until all that waited at that moment had arrived and, where
            effects were given, taken effect.
    """

    events: int
    lost_on_wire: Sequence[Name] = ()
    lost_effects: Sequence[Name] = ()
    phantoms: Sequence[Name] = ()
    reordered_on_wire: Sequence[Name] = ()
    reordered_effects: Sequence[Name] = ()
    doubled: Sequence[Name] = ()
    repeated: Sequence[Name] = ()
    wire_duplicates: int = 0
    wire_duplicates_max: int = 0
    recoveries: Sequence[float] = ()

    @property
    def lost(self) -> int:
        """Events lost on the wire or without effect."""
        return len({*self.lost_on_wire, *self.lost_effects})

    @property
    def reordered(self) -> int:
        """Events out of order, on the wire or in effect."""
        return len({*self.reordered_on_wire, *self.reordered_effects})

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, reordered, doubled or made up."""
        return not (self.lost or self.reordered or self.doubled or self.phantoms)


def judge(
    written: Collection[Written],
    arrivals: Collection[Arrival],
    effects: Collection[Effect] | None = None,
    kills: Iterable[Kill] = (),
    *,
    unconfirmed: int = 0,
) -> Verdict:
    """Compare what was written with what came of it.

    Args:
        written: All committed events.
        arrivals: All records of the topic.
        effects: All effects of one consumer group; ``None`` leaves effects out.
        kills: When something was done to the processes or servers.
        unconfirmed: For consumers that confirm apart from the handler's commit: how many events a process may be
            about to confirm when it is killed. So many of each killed process may have a further effect, by another;
            they are `Verdict.repeated`, and not doubled.
    """
    kills = list(kills)
    moments = sorted(kill.at for kill in kills)
    records = sorted(arrivals, key=lambda one: (one.partition, one.offset))
    committed = {(one.key, one.number): one.at for one in written}
    arrived = _first_times(((one.key, one.number), one.at) for one in records)
    on_wire = _delays(committed, arrived)
    duplicates = _duplicates(records, moments)
    verdict = Verdict(
        events=len(committed),
        lost_on_wire=sorted(committed.keys() - arrived.keys()),
        phantoms=sorted(arrived.keys() - committed.keys()),
        reordered_on_wire=sorted({*_out_of_order(arrived), *_strayed(records)}),
        wire_duplicates=sum(duplicates.values()),
        wire_duplicates_max=max(duplicates.values(), default=0),
        recoveries=_recoveries(moments, [on_wire]),
    )
    if effects is None:
        return verdict
    in_order = sorted(effects, key=lambda one: one.place)
    taken = _first_times(((one.key, one.number), one.at) for one in in_order)
    doubled, repeated = _doubled(in_order, {kill.process for kill in kills} - {""}, unconfirmed)
    return replace(
        verdict,
        lost_effects=sorted(committed.keys() - taken.keys()),
        reordered_effects=_out_of_order(taken),
        doubled=doubled,
        repeated=repeated,
        recoveries=_recoveries(moments, [on_wire, _delays(committed, taken)]),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


def _first_times(moments: Iterable[tuple[Name, float]]) -> dict[Name, float]:
    """When each first came, in the order in which they came."""
    first: dict[Name, float] = {}
    for name, at in moments:
        first.setdefault(name, at)
    return first


def _out_of_order(firsts: Iterable[Name]) -> list[Name]:
    """Those that came after a later one of their key."""
    latest: dict[str, int] = {}
    late = []
    for key, number in firsts:
        if number < latest.get(key, 0):
            late.append((key, number))
        else:
            latest[key] = number
    return late


def _doubled(in_order: Iterable[Effect], dead: Collection[str], unconfirmed: int) -> tuple[list[Name], list[Name]]:
    """Those with more than one effect: without and with a death after each effect but the last."""
    by_name: defaultdict[Name, list[str]] = defaultdict(list)
    for one in in_order:
        by_name[one.key, one.number].append(one.process)
    earlier = {name: processes[:-1] for name, processes in by_name.items() if len(processes) > 1}
    left_by = Counter(process for processes in earlier.values() for process in processes)
    doubled: list[Name] = []
    repeated: list[Name] = []
    for name, processes in sorted(earlier.items()):
        explained = all(process in dead and left_by[process] <= unconfirmed for process in processes)
        (repeated if explained else doubled).append(name)
    return doubled, repeated


def _strayed(records: Iterable[Arrival]) -> set[Name]:
    """Those in another partition than the first record of their key: nobody keeps an order between partitions."""
    home: dict[str, int] = {}
    return {(one.key, one.number) for one in records if home.setdefault(one.key, one.partition) != one.partition}


def _duplicates(records: Iterable[Arrival], moments: Sequence[float]) -> Mapping[Hashable, int]:
    """How many records repeat an event, by who sent it first and who again; see `Verdict.wire_duplicates_max`."""
    first: dict[Name, str] = {}
    counts: Counter[Hashable] = Counter()
    for one in records:
        name = (one.key, one.number)
        if name not in first:
            first[name] = one.sender
        else:
            own = first[name] == one.sender
            counts[first[name], one.sender, bisect_right(moments, one.at) if own else 0] += 1
    return counts


def _delays(committed: Mapping[Name, float], came: Mapping[Name, float]) -> list[tuple[float, float]]:
    """When each event was written and when it came, in the order of writing."""
    return sorted((at, came[name]) for name, at in committed.items() if name in came)


def _recoveries(moments: Sequence[float], courses: Sequence[Sequence[tuple[float, float]]]) -> list[float]:
    recoveries = []
    for moment in moments:
        last = max((_last_of_waiting(course, moment) for course in courses), default=moment)
        recoveries.append(last - moment)
    return recoveries


_LONGEST_WAIT_S = 120.0  # nothing waits longer in a run whose phases end within two minutes


def _last_of_waiting(course: Sequence[tuple[float, float]], moment: float) -> float:
    """When the last of those came that had been written but had not come at ``moment``."""
    begin = bisect_left(course, (moment - _LONGEST_WAIT_S, 0.0))
    end = bisect_right(course, (moment, float("inf")))
    return max((came for _, came in course[begin:end] if came > moment), default=moment)
