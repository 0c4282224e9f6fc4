# SPDX-License-Identifier: GPL-2.0-only
"""Machine descriptions: the shipped ones load, and each kind of mistake is reported with file, line and key."""

from pathlib import Path

import pytest

from harness import paths
from harness.config import DEFAULT_MACHINE, known_machines, load_machine
from harness.errors import UsageError

DEFAULT_TEXT = (paths.VM_CONFIGS / f"{DEFAULT_MACHINE}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", known_machines())
def test_shipped_machines_load(name: str) -> None:
    config = load_machine(name)
    assert config.name == name
    assert len(config.purpose) > 20


def test_default_machine_has_what_the_cases_need() -> None:
    config = load_machine(DEFAULT_MACHINE)
    (exporter,) = config.with_role("under-test")
    assert (exporter.id, exporter.type, exporter.properties["cmb_size_mb"]) == ("nvme0", "nvme", 16)
    assert exporter.drive
    assert [device.id for device in config.with_role("dma-engine")] == ["nvme1", "edu0"]
    assert len(config.with_role("roce")) == 1
    buses = [bus for device, bus in config.walk() if device.type in ("nvme", "edu")]
    assert len(set(buses)) == 3, "each device under test or with DMA has a root port of its own"


def mistaken(tmp_path: Path, old: str, new: str) -> str:
    """Return the message for the default machine with ``old`` replaced; its file is ``<tmp_path>/m.yaml``."""
    assert old in DEFAULT_TEXT
    path = tmp_path / "m.yaml"
    path.write_text(DEFAULT_TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_machine(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


def line_of(text: str, word: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if word in line)


MISTAKES = {
    "unknown key": ("memory_mib: 1024", "memory_mb: 1024", ["unknown key", "did you mean 'memory_mib'", "vcpus"]),
    "unknown key of a device": (
        "role: dma-engine",
        "rule: dma-engine",
        ["devices[3].devices[0].rule", "'role'", "drive"],
    ),
    "not one of the words": ("role: dma-engine", "role: dma", ["'under-test'", "'management'", '"dma"']),
    "not a number": ("vcpus: 2", "vcpus: two", ["vcpus: ", "integer", '"two"']),
    "sexagesimal is not a number": ("vcpus: 2", "vcpus: 1:30", ["vcpus: ", "integer", '"1:30"']),
    "out of range": ("vcpus: 2", "vcpus: 0", ["vcpus: ", "greater than or equal to 1"]),
    "number for a word": ("cpu: EPYC", "cpu: 486", ["cpu: ", "486: quote it"]),
    "required key": ("cpu: EPYC\n", "", ["cpu: this key is required"]),
    "given twice": ("vcpus: 2", "vcpus: 2\nvcpus: 4", ["'vcpus' is given twice"]),
    "id taken": ("id: nvme1", "id: nvme0", ["device id 'nvme0' is taken"]),
    "own id": ("id: nvme1", "id: root", ["device id 'root' is taken"]),
    "no management": ("id: mgmt0, role: management", "id: mgmt0, role: roce", ["exactly one", "management", "0 have"]),
    "NIC without role": (", role: roce", "", ["roce0", "needs a role: management or roce"]),
    "role on the wrong type": ("role: under-test", "role: roce", ["role roce needs type virtio-net-pci, not nvme"]),
    "subsystem with a drive": (
        "role: under-test\n",
        "role: under-test\n        subsystem: true\n",
        ["nvme0: subsystem and drive exclude each other"],
    ),
    "vfio-user device without a model": (
        "type: edu\n",
        "type: vfio-user-pci\n",
        ["edu0: vfio_user belongs to type vfio-user-pci, which needs it"],
    ),
    "model of QEMU's own device": (
        "id: edu0\n",
        "id: edu0\n        vfio_user: {model: edu}\n",
        ["edu0: vfio_user belongs to type vfio-user-pci"],
    ),
    "reset of another bus": (
        "type: edu\n",
        "type: vfio-user-pci\n        vfio_user: {model: edu, express: false}\n",
        ["the reset pcie-flr needs express: true"],
    ),
    "peer that is too small": ("vcpus: 2", "peer: {memory_mib: 1}\nvcpus: 2", ["peer.memory_mib: ", "128"]),
    "version that is a word": ("vcpus: 2", "min_qemu: new\nvcpus: 2", ["min_qemu: "]),
    "reserved property": ("{dbcs: off}", "{drive: off}", ["drive: set by the harness"]),
    "no bus": (
        "type: pcie-root-port\n    id: rp-edu0",
        "type: edu\n    id: rp-edu0",
        ["edu gives no bus", "pcie-root-port"],
    ),
    "switch port on the root bus": ("type: pcie-root-port", "type: xio3130-downstream", ["sits on x3130-upstream"]),
    "malformed": ("machine:\n", "machine: [\n", [":9:3: not valid YAML"]),
    "no mapping": (DEFAULT_TEXT, "- a list", ["must be a mapping with the keys purpose, machine"]),
    "key that is not a word": ("{dbcs: off}", "{1: off}", ["a key must be a word: quote it"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named(tmp_path: Path, mistake: str) -> None:
    old, new, wanted = MISTAKES[mistake]
    message = mistaken(tmp_path, old, new)
    for words in wanted:
        assert words in message


@pytest.mark.parametrize("key", ["vcpus: two", "role: dma\n", "typ: edu"])
def test_message_has_the_line_of_the_key(tmp_path: Path, key: str) -> None:
    old = {"vcpus: two": "vcpus: 2", "role: dma\n": "role: dma-engine\n", "typ: edu": "type: edu"}[key]
    message = mistaken(tmp_path, old, key)
    line = line_of((tmp_path / "m.yaml").read_text(encoding="utf-8"), key.strip())
    assert any(f"m.yaml:{line}: " in line_text for line_text in message.splitlines())


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    message = mistaken(tmp_path, "cpu: EPYC\nvcpus: 2", "cpus: EPYC\nvcpus: two")
    assert len(message.splitlines()) == 3  # cpu is missing, cpus is unknown, vcpus is not a number


@pytest.mark.parametrize(
    ("written", "read"),
    [("on", "on"), ("off", "off"), ("yes", "yes"), ("true", True), ("8", 8), ("010", "010"), ("0.10", "0.10"),
     ("0000:01:00.0", "0000:01:00.0"), ("1_000", "1_000"), ("0xff", "0xff"), ("2026-01-01", "2026-01-01"),
     ('"8"', "8")],
)  # fmt: skip
def test_scalars_keep_their_spelling(tmp_path: Path, written: str, read: object) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(DEFAULT_TEXT.replace("{intremap: on,", f"{{intremap: {written},"), encoding="utf-8")
    iommu = load_machine(path).iommu
    assert iommu
    assert iommu.properties["intremap"] == read
    assert type(iommu.properties["intremap"]) is type(read)


def test_unknown_machine_lists_the_known() -> None:
    with pytest.raises(
        UsageError, match=r"unknown machine 'intel-iomu'; did you mean 'intel-iommu'\? Known: .*intel-iommu"
    ):
        load_machine("intel-iomu")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not text"])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"m\.yaml: cannot be read: "):
        load_machine(path)


def test_tree_of_switches_and_functions(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        DEFAULT_TEXT
        + """
  - type: pcie-root-port
    id: rp-switch
    devices:
      - type: x3130-upstream
        id: up
        devices:
          - type: xio3130-downstream
            id: down0
            devices:
              - {type: nvme, id: f0, properties: {addr: "0.0", multifunction: on, serial: a}, memory: {size_mib: 64}}
              - {type: nvme, id: f1, properties: {addr: "0.1", serial: b}}
          - {type: xio3130-downstream, id: down1}
""",
        encoding="utf-8",
    )
    tree = {device.id: bus for device, bus in load_machine(path).walk()}
    assert tree["rp-switch"] == "pcie.0"
    assert (tree["up"], tree["down0"], tree["down1"]) == ("rp-switch", "up", "up")
    assert (tree["f0"], tree["f1"]) == ("down0", "down0")


def test_a_peer_is_like_its_machine_without_the_devices() -> None:
    machine = load_machine("roce-pair")
    peer = machine.peer_machine()
    assert peer
    assert (peer.name, peer.machine, peer.cpu, peer.vcpus) == (machine.name, machine.machine, machine.cpu, 1)
    assert [device.id for device, _ in peer.walk()] == ["mgmt0", "roce0"]
    assert (machine.is_peer, peer.is_peer, peer.peer_machine()) == (False, True, None)


def extending(tmp_path: Path, text: str) -> Path:
    """Write ``child.yaml``, which extends ``base.yaml``, the default machine's text."""
    (tmp_path / "base.yaml").write_text(DEFAULT_TEXT, encoding="utf-8")
    path = tmp_path / "child.yaml"
    path.write_text(f"purpose: a child of the default machine\nextends: {tmp_path}/base.yaml\n{text}", encoding="utf-8")
    return path


def test_extending_machine_states_only_differences(tmp_path: Path) -> None:
    base = load_machine(DEFAULT_MACHINE)
    config = load_machine(extending(tmp_path, "cpu: Nehalem\niommu: null\n"))
    assert (config.name, config.cpu, config.iommu) == ("child", "Nehalem", None)
    assert (config.machine, config.kernel_args, config.devices) == (base.machine, base.kernel_args, base.devices)


def test_extending_machine_changes_devices_by_id(tmp_path: Path) -> None:
    text = "without: [rp-edu0]\ndevices: [{type: pcie-root-port, id: rp-nvme1}, {type: edu, id: edu9}]\n"
    config = load_machine(extending(tmp_path, text))
    assert [device.id for device in config.devices][:2] == ["rp-nvme1", "edu9"]
    ids = {device.id for device, _ in config.walk()}
    assert {"nvme0", "mgmt0"} <= ids
    assert not {"nvme1", "edu0", "rp-edu0"} & ids


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("vcpus: two\n", ["child.yaml:3: vcpus: ", '"two"']),
        ("cpus: EPYC\n", ["child.yaml:3: cpus: unknown key"]),
        ("devices:\n  - {type: edu, id: edu9}\n  - {type: edu, id: x, typ: y}\n", [":5: devices[1].typ", "'type'"]),
        ("devices: [{type: edu, id: nvme0}]\n", ["device id 'nvme0' is taken"]),
        ("without: [rp-edu9]\n", ["child.yaml: without: ", "has no device 'rp-edu9'"]),
        ("without: [roce0]\npeer: {}\n", ["child.yaml: peer: needs a device with the role roce"]),
        ("lacks: {iomufd: none}\n", ["child.yaml:3: lacks.iomufd", "the key should be", "'iommufd'"]),
    ],
)
def test_mistake_of_an_extending_machine_is_its_own(tmp_path: Path, text: str, wanted: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_machine(extending(tmp_path, text))
    assert all(words in str(caught.value) for words in wanted), str(caught.value)


def test_machine_cannot_extend_itself(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(f"purpose: one\nextends: {second}\n", encoding="utf-8")
    second.write_text(f"purpose: two\nextends: {first}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"b\.yaml: extends: .*a\.yaml extends this machine in turn"):
        load_machine(first)


def test_mistake_of_the_extended_machine_names_its_file(tmp_path: Path) -> None:
    path = extending(tmp_path, "")
    (tmp_path / "base.yaml").write_text(DEFAULT_TEXT.replace("vcpus: 2", "vcpus: two"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"base\.yaml:\d+: vcpus: "):
        load_machine(path)


def test_unknown_machine_to_extend(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("purpose: lost\nextends: intel-iomu\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"m\.yaml: extends: unknown machine 'intel-iomu'; did you mean 'intel-iommu'"):
        load_machine(path)
