"""The broker: reachable, its topics and their settings, the services' groups and their lag, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sskai import contract
from sskai.broker import Broker
from sskai.broker_admin import EMPTY, STABLE, Admin, AdminError, Topic, connected
from sskai.bus import MAX_RECORD_BYTES
from sskai.database import SERVICES
from sskai.delivery import INBOX_RETENTION_DAYS
from sskai.doctor import Finding, Findings
from sskai.doctor.settings import Settings

NAMES = (*contract.TOPICS, contract.OTLP_TOPIC)
LETTERS = tuple(name + contract.DEAD_LETTER_SUFFIX for name in NAMES)
DAY_MS = 86_400_000
LAG_WARNING = 1_000
SAFE_COPIES = 3
MAKE_TOPICS = "Run `python -m sskai.local.prepare topics`; what exists is left alone."


async def look(settings: Settings, now: datetime) -> list[Finding]:
    said = Findings("broker")
    try:
        async with connected(Broker.from_settings(settings)) as broker:
            brokers = await broker.brokers()
            said.ok("reachable", ", ".join(brokers))
            topics = await broker.topics([*NAMES, *LETTERS])
            judge_topics(said, topics, len(brokers))
            await _groups(said, broker, topics)
            await _dead_letters(said, broker, now)
            await _offsets(said, broker)
    except ValueError as error:
        said.fail("reachable", str(error), "Set what is named as the broker asks for it.")
    except (AdminError, OSError, TimeoutError) as error:
        said.fail(
            "reachable",
            f"{settings.kafka_bootstrap} does not answer: {error!r}",
            "Start the broker, or set SSKAI_KAFKA_BOOTSTRAP to where it runs and answers this machine.",
        )
    return said.found


def judge_topics(said: Findings, topics: Mapping[str, Topic], brokers: int) -> None:
    missing = [name for name in (*NAMES, *LETTERS) if name not in topics]
    if missing:
        said.fail("topics", f"{len(missing)} are missing: {', '.join(missing)}", MAKE_TOPICS)
    else:
        said.ok("topics", f"all {len(NAMES)} of the contract, and their dead letters'")
    events = [topics[name] for name in NAMES if name in topics]
    if not events:
        return
    _partitions(said, events)
    _copies(said, [*topics.values()], brokers)
    _kept(said, events)
    _sizes(said, events)


def _partitions(said: Findings, events: list[Topic]) -> None:
    counts = {one.partitions for one in events}
    says = ", ".join(f"{one.name} {one.partitions}" for one in events) if len(counts) > 1 else f"{counts.pop()} of each"
    if len(counts) > 1:
        # Each event is one transaction of its own: nothing is joined by partition. But one member would get more.
        said.warn("partitions", says, "Give all topics as many: replicas of a service share them unevenly so.")
    else:
        said.ok("partitions", f"{says}: so many replicas of a service can work at once")


def _copies(said: Findings, topics: list[Topic], brokers: int) -> None:
    leaderless = [one.name for one in topics if one.leaderless]
    short = [one.name for one in topics if one.in_sync < max(1, one.number("min.insync.replicas"))]
    stiff = [one.name for one in topics if one.replicas > 1 and one.number("min.insync.replicas") >= one.replicas]
    loose = [one.name for one in topics if one.replicas > 1 and one.number("min.insync.replicas") < 2]
    few = [one.name for one in topics if one.replicas < min(brokers, SAFE_COPIES)]
    if leaderless or short:
        said.fail(
            "copies",
            f"no event can be written to {', '.join(leaderless or short)}",
            "Start the brokers that are missing.",
        )
    elif few:
        said.warn(
            "copies",
            f"fewer copies than brokers: {', '.join(few)}",
            "Raise the replication factor to 3 (kafka-reassign-partitions): one disk is not enough.",
        )
    elif stiff:
        said.warn(
            "copies",
            f"min.insync.replicas is the number of copies: {', '.join(stiff)}",
            "Set min.insync.replicas to 2 of 3: now no broker may be away.",
        )
    elif loose:
        said.warn(
            "copies",
            f"min.insync.replicas is 1: {', '.join(loose)}",
            "Set min.insync.replicas to 2: now an acknowledged event may lie on one broker alone.",
        )
    else:
        copies = min(one.replicas for one in topics)
        said.ok("copies", f"{copies}" + ("" if copies > 1 else ", with one broker: its disk's loss is the log's"))
    unclean = [one.name for one in topics if one.settings.get("unclean.leader.election.enable") == "true"]
    if unclean:
        said.warn(
            "elections",
            f"a copy that lags may lead: {', '.join(unclean)}",
            "Set unclean.leader.election.enable=false: acknowledged events could vanish.",
        )


def _kept(said: Findings, events: list[Topic]) -> None:
    compacted = [one.name for one in events if "compact" in one.settings.get("cleanup.policy", "")]
    if compacted:
        said.fail(
            "retention",
            f"compacted: {', '.join(compacted)}",
            "Set cleanup.policy=delete: compaction keeps only the newest event of each job.",
        )
        return
    days = {one.name: one.number("retention.ms") / DAY_MS for one in events if one.number("retention.ms") >= 0}
    short = [name for name, kept in days.items() if kept < 1]
    long = [one.name for one in events if days.get(one.name, float("inf")) > INBOX_RETENTION_DAYS]
    if short:
        said.warn(
            "retention",
            f"under a day: {', '.join(short)}",
            "Raise retention.ms to 604800000: what a service did not read in that time is lost to it.",
        )
    elif long:
        said.warn(
            "retention",
            f"longer than the {INBOX_RETENTION_DAYS} days of inboxes: {', '.join(long)}",
            "Set retention.ms to 604800000: a group that begins anew would handle older events twice.",
        )
    else:
        said.ok("retention", f"{min(days.values()):g} to {max(days.values()):g} days")


def _sizes(said: Findings, events: list[Topic]) -> None:
    # Protobuf, headers and the batch's own frame: 1 MiB and 12 bytes are Kafka's default for 1 MB of ours.
    small = [one.name for one in events if one.number("max.message.bytes") < contract.MAX_EVENT_BYTES + 4096]
    if small:
        said.fail(
            "message size",
            f"below what an event may have: {', '.join(small)}",
            "Set max.message.bytes to 1048588 or more: an event that the broker refuses blocks its outbox.",
        )
    else:
        said.ok(
            "message size",
            f"{min(one.number('max.message.bytes') for one in events)} bytes at least, "
            f"ours are {contract.MAX_EVENT_BYTES} at most; {MAX_RECORD_BYTES} are fetched at once",
        )


async def _groups(said: Findings, broker: Admin, topics: Mapping[str, Topic]) -> None:
    groups = await broker.groups(SERVICES)
    ends = await broker.ends(name for name in NAMES if name in topics)
    lags = {}
    for name in SERVICES:
        group = groups.get(name)
        if group is None or group.state == EMPTY:
            said.fail(f"group {name}", "nobody reads", f"Start the service {name}; its log says why it does not join.")
            continue
        if group.state != STABLE:
            said.warn(
                f"group {name}",
                f"{group.state}, {group.members} members",
                "Look again in a minute; if it stays so, members come and go: see their logs.",
            )
            continue
        # What was never committed is of a partition without events, or of a member that has only begun.
        lag = sum(max(0, ends.get(at, offset) - offset) for at, offset in group.committed.items())
        lags[name] = lag
        if lag > LAG_WARNING:
            said.warn(f"group {name}", f"{lag} events behind", "See docs/runbooks.md, SSKAIConsumerLag.")
    if len(lags) == len(SERVICES) and max(lags.values()) <= LAG_WARNING:
        said.ok("groups", f"all {len(SERVICES)} stable, {max(lags.values())} events behind at most")


async def _dead_letters(said: Findings, broker: Admin, now: datetime) -> None:
    since, ends = await broker.at(LETTERS, now - timedelta(days=1)), await broker.ends(LETTERS)
    found: dict[str, int] = {}
    for at, end in ends.items():
        found[at.topic] = found.get(at.topic, 0) + max(0, end - since.get(at, end))
    waiting = {name: count for name, count in found.items() if count}
    if waiting:
        first = next(iter(waiting)).removesuffix(contract.DEAD_LETTER_SUFFIX)
        said.warn(
            "dead letters",
            ", ".join(f"{count} on {name} in a day" for name, count in waiting.items()),
            f"`sskai dlq list {first}` says why; `sskai dlq redrive {first}` once that is mended.",
        )
    else:
        said.ok("dead letters", "none in a day")


async def _offsets(said: Findings, broker: Admin) -> None:
    try:
        minutes = int((await broker.settings()).get("offsets.retention.minutes") or 0)
    except (AdminError, IndexError, ValueError) as error:
        said.skip("offsets", f"the broker does not tell its settings: {error!r}")
        return
    if 0 < minutes < INBOX_RETENTION_DAYS * 24 * 60:
        said.warn(
            "offsets",
            f"groups are forgotten {minutes / 1440:g} days after their last member left",
            "Set offsets.retention.minutes to 10080: a service that was away longer begins with the oldest event.",
        )
    else:
        said.ok("offsets", f"kept for {minutes / 1440:g} days without members")
