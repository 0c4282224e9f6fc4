# SPDX-License-Identifier: GPL-2.0-only
"""Which importers of a session stay ready, and what ends them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.config import MachineConfig, load_machine
from harness.errors import UsageError
from harness.session import MAINLINE, Agent, Importer
from harness.session.importer_pool import ImporterPool
from harness.session.opening import DeviceOpener
from harness.session.references import References
from harness.session.wire import Ref
from harness.vm import Machine


class FakeAgent:
    """Makes an object by each call, and keeps what was closed."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.closed: list[Ref] = []

    def call(self, on: str | Ref, do: str, **args: Any) -> Any:
        if do == "close":
            assert isinstance(on, Ref)
            self.closed.append(on)
            return None
        if do == "add_link":
            return ["rxe0", 1]
        self.made.append(do)
        return Ref(len(self.made))

    def set_name(self, ref: Ref, name: str) -> None:
        pass


class FakeReferences:
    """Keeps what is no longer expected."""

    def __init__(self) -> None:
        self.released: list[Counter[str]] = []

    @contextmanager
    def kept(self) -> Iterator[Counter[str]]:
        yield Counter(pins=1)

    def release(self, held: Counter[str]) -> None:
        self.released.append(held)


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def references() -> FakeReferences:
    return FakeReferences()


def pool_on(config: MachineConfig, agent: FakeAgent, references: FakeReferences) -> ImporterPool:
    machine = cast(Machine, SimpleNamespace(config=config, pci_address=lambda device_id: f"bdf of {device_id}"))
    opener = DeviceOpener(machine, cast(Agent, agent), MAINLINE)
    return ImporterPool(machine, cast(Agent, agent), cast(References, references), opener)


@pytest.fixture
def pool(agent: FakeAgent, references: FakeReferences) -> ImporterPool:
    return pool_on(load_machine("intel-iommu"), agent, references)


def test_an_importer_is_made_once_and_stays_ready(pool: ImporterPool, agent: FakeAgent) -> None:
    first = pool.get("iommufd+edu")
    made = len(agent.made)
    assert pool.end_case() == pool.objects(first)
    assert pool.get("iommufd+edu") is first
    assert len(agent.made) == made


def test_the_objects_of_an_importer_are_closed_newest_first(
    pool: ImporterPool, agent: FakeAgent, references: FakeReferences
) -> None:
    importer = pool.get("iommufd+edu")
    objects = pool.objects(importer)
    pool.release("another device")
    assert not agent.closed
    pool.release(importer.device_id)
    assert agent.closed == objects[::-1]
    assert references.released == [Counter(pins=1)]
    assert pool.get("iommufd+edu") is not importer


@pytest.mark.parametrize("make", [ImporterPool.get, ImporterPool.for_the_case])
def test_an_importer_that_wants_the_device_of_another_ends_it(
    make: Callable[[ImporterPool, str], Importer], pool: ImporterPool, agent: FakeAgent
) -> None:
    first = pool.get("iommufd+edu")
    objects = pool.objects(first)
    assert make(pool, "dma-api+edu").device_id == first.device_id
    assert agent.closed == objects[::-1]


def test_an_importer_for_the_case_is_forgotten_after_it(pool: ImporterPool, references: FakeReferences) -> None:
    ready, importer = pool.get("iommufd+nvme"), pool.for_the_case("iommufd+edu", via="iommufd-group")
    assert pool.end_case() == pool.objects(ready)
    assert pool.get("iommufd+edu") is not importer
    assert not references.released, "the agent has closed it"


def test_the_link_of_rxe_is_added_once(pool: ImporterPool) -> None:
    assert pool.add_rxe_link() == ("rxe0", 1)
    assert pool.add_rxe_link() is pool.add_rxe_link()


def test_a_machine_without_the_device_is_named(agent: FakeAgent, references: FakeReferences) -> None:
    config = load_machine("intel-iommu").model_copy(update={"devices": ()})
    with pytest.raises(UsageError, match=r"intel-iommu\.yaml: importer rxe needs a device of kind virtio-net-pci with"):
        pool_on(config, agent, references).get("rxe")
