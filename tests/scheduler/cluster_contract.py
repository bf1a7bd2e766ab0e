"""What every cluster promises the scheduler: the same tests against each of them.

A test class inherits `ClusterContract` and has a fixture `site` that gives a `Site`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import pytest

from sskai.cluster import Cluster, ClusterUnavailableError, NoCapacityError, Observation, Pod, PodState
from sskai.testing import wait_for
from tests.scheduler.examples import placement

LIMIT_SECONDS = 30.0
POD = Pod("job_1", "tenant_a", 1, placement(), {"SSKAI_ATTEMPT": "1"})


def attempt(number: int) -> Pod:
    return replace(POD, attempt=number, env={"SSKAI_ATTEMPT": str(number)})


class Site(Protocol):
    """A cluster, and the hands of fate."""

    cluster: Cluster

    def running(self) -> int:
        """Machines (or pods) that cost something now."""

    def signals(self) -> int:
        """SIGTERMs that pods were sent so far."""

    def deny(self) -> None:
        """From now on there is no machine to have."""

    async def start(self, machine_id: str) -> None:
        """The pod's program runs."""

    async def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        """The pod's program ends (a gang's: that member's)."""

    async def lose(self, machine_id: str, rank: int = 0) -> None:
        """A machine is no more (a gang's: that member's)."""

    async def cut_off(self) -> None:
        """The cluster answers no more."""


async def observed(site: Site, machine_id: str) -> Observation | None:
    return next((one for one in await site.cluster.observe() if one.machine_id == machine_id), None)


async def reaches(site: Site, machine_id: str, state: PodState) -> Observation:
    """Wait for the state."""

    async def there() -> Observation | None:
        one = await observed(site, machine_id)
        return one if one is not None and one.state is state else None

    found: Observation | None = await wait_for(there, limit_seconds=LIMIT_SECONDS)
    assert found is not None
    return found


async def stand(site: Site, machines: int) -> None:
    """Wait until so many cost something: controllers make and remove them in their own time."""
    await wait_for(lambda: site.running() == machines, limit_seconds=LIMIT_SECONDS)


class ClusterContract:
    async def test_launching_an_attempt_twice_gives_one_machine(self, site: Site) -> None:
        first, second = await site.cluster.launch(POD), await site.cluster.launch(POD)
        assert first.machine_id == second.machine_id
        await stand(site, 1)
        other = await site.cluster.launch(attempt(2))
        assert other.machine_id != first.machine_id
        await stand(site, 2)

    async def test_a_launched_pod_is_observed_at_once(self, site: Site) -> None:
        """An observation that missed it would have its attempt declared dead."""
        await site.cluster.observe()
        machine = await site.cluster.launch(POD)
        seen = await observed(site, machine.machine_id)
        assert seen is not None
        assert (seen.job_id, seen.attempt, seen.state) == ("job_1", 1, PodState.RUNNING)

    async def test_an_exit_code_is_told(self, site: Site) -> None:
        for number, code in ((1, 0), (2, 71)):
            machine = await site.cluster.launch(attempt(number))
            await site.start(machine.machine_id)
            await site.exit(machine.machine_id, code)
            seen = await reaches(site, machine.machine_id, PodState.EXITED)
            assert seen.exit_code == code

    async def test_a_lost_machine_is_gone(self, site: Site) -> None:
        machine = await site.cluster.launch(POD)
        await site.start(machine.machine_id)
        await reaches(site, machine.machine_id, PodState.RUNNING)
        await site.lose(machine.machine_id)

        async def gone() -> bool:
            seen = await observed(site, machine.machine_id)
            return seen is None or seen.state is PodState.GONE

        await wait_for(gone, limit_seconds=LIMIT_SECONDS)

    async def test_a_pod_is_drained_once(self, site: Site) -> None:
        machine = await site.cluster.launch(POD)
        await site.start(machine.machine_id)
        await site.cluster.drain(machine.machine_id)
        await site.cluster.drain(machine.machine_id)
        await wait_for(lambda: site.signals() == 1)
        await site.cluster.drain("none-such")

    async def test_deleting_gives_the_machine_back_and_may_be_repeated(self, site: Site) -> None:
        machine = await site.cluster.launch(POD)
        await site.cluster.delete(machine.machine_id)
        await site.cluster.delete(machine.machine_id)
        await site.cluster.delete("none-such")
        await stand(site, 0)

        async def over() -> bool:
            seen = await observed(site, machine.machine_id)
            return seen is None or seen.state is PodState.GONE

        await wait_for(over)

    async def test_no_machine_to_have_is_no_capacity(self, site: Site) -> None:
        site.deny()
        with pytest.raises(NoCapacityError):
            await site.cluster.launch(POD)
        assert site.running() == 0

    async def test_a_gang_is_all_of_its_machines_or_none(self, site: Site) -> None:
        gang = await site.cluster.launch(replace(POD, machines=3))
        again = await site.cluster.launch(replace(POD, machines=3))
        assert (again.machine_id, again.member_ids) == (gang.machine_id, gang.member_ids)
        await stand(site, 3)
        await site.start(gang.machine_id)
        await reaches(site, gang.machine_id, PodState.RUNNING)
        await site.lose(gang.machine_id)
        await reaches(site, gang.machine_id, PodState.GONE)
        await site.cluster.delete(gang.machine_id)

        async def nothing_left() -> bool:
            seen = await observed(site, gang.machine_id)
            return site.running() == 0 and (seen is None or seen.state is PodState.GONE)

        await wait_for(nothing_left)

    async def test_a_gang_goes_on_without_members_that_were_lost(self, site: Site) -> None:
        """All but the first, which the others meet at."""
        gang = await site.cluster.launch(replace(POD, machines=3))
        await site.start(gang.machine_id)
        await reaches(site, gang.machine_id, PodState.RUNNING)
        for rank in (2, 1):
            await site.lose(gang.machine_id, rank)

            async def told(lost: int = 3 - rank) -> bool:
                seen = await observed(site, gang.machine_id)
                assert seen is not None
                assert seen.state is PodState.RUNNING
                return seen.lost == lost

            await wait_for(told)
        await stand(site, 1)
        await site.exit(gang.machine_id, 0)
        assert (await reaches(site, gang.machine_id, PodState.EXITED)).exit_code == 0
        await site.cluster.delete(gang.machine_id)
        await stand(site, 0)

    @pytest.mark.parametrize("codes", [(0, 0), (75, 75), (0, 75)], ids=str)
    async def test_a_gang_has_exited_when_all_members_have(self, site: Site, codes: tuple[int, int]) -> None:
        """Whoever is done or has saved sooner than the others does not end what they still do."""
        gang = await site.cluster.launch(replace(POD, machines=2))
        other = await site.cluster.launch(attempt(2))
        await site.start(gang.machine_id)
        await site.start(other.machine_id)
        await reaches(site, other.machine_id, PodState.RUNNING)
        await site.exit(gang.machine_id, codes[0])
        await site.exit(other.machine_id, 0)
        await reaches(site, other.machine_id, PodState.EXITED)
        seen = await observed(site, gang.machine_id)
        assert seen is not None
        assert seen.state is PodState.RUNNING
        await site.exit(gang.machine_id, codes[1], 1)
        assert (await reaches(site, gang.machine_id, PodState.EXITED)).exit_code == max(codes)
        await site.cluster.delete(gang.machine_id)
        await site.cluster.delete(other.machine_id)
        await stand(site, 0)

    async def test_a_gang_has_failed_with_a_member_and_says_what_tells_most(self, site: Site) -> None:
        """A member that misses another breaks, too; what the user must mend is what counts."""
        gang = await site.cluster.launch(replace(POD, machines=3))
        await site.start(gang.machine_id)
        await reaches(site, gang.machine_id, PodState.RUNNING)
        await site.exit(gang.machine_id, 75)
        await site.exit(gang.machine_id, 1, 1)
        assert (await reaches(site, gang.machine_id, PodState.EXITED)).exit_code == 1
        await site.exit(gang.machine_id, 71, 2)

        async def told() -> bool:
            seen = await observed(site, gang.machine_id)
            return seen is not None and seen.exit_code == 71

        await wait_for(told)

    async def test_a_cluster_that_does_not_answer_says_nothing_about_pods(self, site: Site) -> None:
        machine = await site.cluster.launch(POD)
        await site.cut_off()
        for call in (
            site.cluster.launch(attempt(2)),
            site.cluster.drain(machine.machine_id),
            site.cluster.delete(machine.machine_id),
        ):
            with pytest.raises(ClusterUnavailableError):
                await call

        async def unavailable() -> bool:
            try:
                await site.cluster.observe()
            except ClusterUnavailableError:
                return True
            return False

        await wait_for(unavailable)
