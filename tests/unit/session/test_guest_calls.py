# SPDX-License-Identifier: GPL-2.0-only
"""Each call that the host makes by name exists in the guest, with the arguments that the host gives.

The host names a guest function in a string, so neither mypy nor the agent finds a wrong name before a VM runs. This
test compares the syntax trees of both sides.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness.guest
import harness.session
from harness.guest.rpc import SERVICES
from harness.session import IMPORTERS, ImporterKind

ROOT = Path(__file__).parents[3]
HOST = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in (
        Path(harness.session.__file__).parent,
        ROOT / "tests" / "vm",
        ROOT / "tests" / "robustness" / "cases",
    )
    for path in sorted(folder.glob("*.py"))
}
GUEST = {path.stem: path.read_text() for path in sorted(Path(harness.guest.__file__).parent.glob("*.py"))}

ENGINES = ("EduEngine", "NvmeEngine", "DmaApiEdu", "DmaApiNvme", "Rxe", "BlockImporter")
WINDOWS = ("IovaWindow", "DmaApiWindow", "DmaApiNvmeWindow", "MrWindow", "LocalWindow", "RemoteWindow", "BlockWindow")
BEHIND: Mapping[str, tuple[str, ...]] = {
    "Access": ("Access",),
    "Handle": ("Resource",),
    "Handle.change_process": ("Iommufd",),
    "Attachment": ("Attachment",),
    "CpuMapping": ("CpuMapping",),
    "Device": ("Device",),
    "DmaBuf": ("DmaBuf",),
    "Domain": ("Domain",),
    "Importer": ENGINES,
    "Importer.area": ("EduEngine", "NvmeEngine"),
    "Importer.dma_read": ("EduEngine", "NvmeEngine"),
    "Importer.listed": ("Rxe",),
    "Importer.register": ("Rxe",),
    "Importer.memory": ("Rxe",),
    "Importer.on_disk": ("BlockImporter",),
    "Importer.put": ("BlockImporter",),
    "Importer.copy": ("EduEngine", "NvmeEngine"),
    "Importer.window": ("DmaApiEdu", "DmaApiNvme"),
    "Importing": ("Access", "Attachment", "Umem"),
    "Ioas": ("Ioas",),
    "KernelLog": ("KernelLog",),
    "Nvme": ("Controller",),
    "Process": ("Process",),
    "ProtectionDomain": ("ProtectionDomain",),
    "Requester": ("End",),
    "Storm": ("Storm", "RemoteStorm"),
    "SyncFile": ("SyncFile",),
    "Timeline": ("Timeline",),
    "Umem": ("Umem",),
    "UserMemory": ("UserMemory",),
    "VirtualFunctions": ("VirtualFunctions",),
    "Window": WINDOWS,
    "Window.drain": ("BlockWindow",),
    "Window.fill": ("BlockWindow",),
    "Window.key": ("MrWindow",),
    "Window.local": ("MrWindow",),
    "Window.store32_after": ("DmaApiNvmeWindow",),
}
"""The guest classes behind each handle, or behind one method of it that not all of them have."""
VARIABLES = {"iommufd": "Iommufd", "self.iommufd": "Iommufd", "ref": "Resource", "end": "End"}
"""The guest classes behind the references that the host calls without a handle, by the variable's name."""
SERVICE_CLIENTS = {"FeatureClient": ("feature_request", "device")}
"""Host classes whose ``_call`` is a call of a service, and the argument that it adds."""
OPTIONS = {"timeout"}
"""Arguments of the host's ``call`` itself."""


@dataclass(frozen=True)
class Signature:
    """The arguments that a guest function takes by keyword."""

    accepted: frozenset[str]
    required: frozenset[str]

    @classmethod
    def of(cls, function: ast.FunctionDef, *, bound: bool) -> "Signature":
        """Read it from the syntax tree. ``bound``: leave out ``self``."""
        arguments = function.args
        positional = [each.arg for each in arguments.args][bound:]
        defaults = len(arguments.defaults)
        keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        required = positional[: len(positional) - defaults] + [each.arg for each, default in keywords if not default]
        return cls(frozenset(positional + [each.arg for each in arguments.kwonlyargs]), frozenset(required))

    def problem(self, given: set[str]) -> str | None:
        """Name the first error of a call with these arguments; None without one."""
        if unknown := given - self.accepted:
            return f"takes no {', '.join(sorted(unknown))}"
        if missing := self.required - given:
            return f"needs {', '.join(sorted(missing))}"
        return None


class Guest:
    """The guest's services and classes."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.services: dict[str, dict[str, ast.FunctionDef | ast.ClassDef]] = {}
        for module, source in sources.items():
            names = self.services.setdefault(module, {})
            for node in ast.parse(source).body:
                if isinstance(node, ast.ClassDef):
                    assert node.name not in self.classes, f"two guest classes are named {node.name}"
                    self.classes[node.name] = names[node.name] = node
                elif isinstance(node, ast.FunctionDef):
                    names[node.name] = node

    def method(self, kind: str, name: str) -> Signature | None:
        """Find a method of a class or of its bases."""
        node = self.classes.get(kind)
        if node is None:
            return None
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name == name:
                return Signature.of(member, bound=True)
        inherited = (self.method(base.id, name) for base in node.bases if isinstance(base, ast.Name))
        return next(filter(None, inherited), None)

    def function(self, service: str, name: str) -> Signature | None:
        """Find a function of a service, or the constructor of one of its classes."""
        if service == "rpc":
            return self.method("Server", name)
        node = self.services.get(service, {}).get(name)
        if isinstance(node, ast.ClassDef):
            return self.method(name, "__init__")
        return Signature.of(node, bound=False) if node else None


@dataclass(frozen=True)
class HostCall:
    """A call as the host writes it. ``targets``: the service, or the guest classes that may be behind the handle."""

    where: str
    targets: tuple[str, ...]
    name: str
    arguments: frozenset[str]
    is_service: bool = False

    def problems(self, guest: Guest) -> Iterator[str]:
        """Yield the reasons why the guest would refuse it."""
        for target in self.targets:
            find = guest.function if self.is_service else guest.method
            signature = None if self.name.startswith("_") else find(target, self.name)
            problem = signature.problem(set(self.arguments)) if signature else "does not exist"
            if problem:
                yield f"{self.where}: {target}.{self.name} {problem}"


def host_calls(path: str, source: str) -> Iterator[HostCall]:
    """Yield the calls of one host file."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            yield from _calls_of(path, "", node)
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield from _calls_of(path, node.name, member)


def _calls_of(path: str, owner: str, function: ast.FunctionDef) -> Iterator[HostCall]:
    """Yield the calls of one function of the class ``owner``."""
    types = {each.arg: each.annotation.id for each in function.args.args if isinstance(each.annotation, ast.Name)}
    for node in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        where = f"{path}:{node.lineno}"
        if isinstance(node.func, ast.Name) and node.func.id == "Operation":
            on, name, *rest = node.args
            arguments = frozenset(_keys(where, rest[:1]))
            if service := _text(on):
                yield HostCall(where, (service,), _text(name), arguments, is_service=True)
                continue
            handle = types.get(ast.unparse(on), "Handle")
            yield HostCall(where, _behind(handle, _text(name)), _text(name), arguments)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "_call" and _text(node.args[0]):
            name, arguments = _text(node.args[0]), _keywords(where, node)
            if owner in SERVICE_CLIENTS:
                service, added = SERVICE_CLIENTS[owner]
                yield HostCall(where, (service,), name, arguments | {added}, is_service=True)
            else:
                yield HostCall(where, _behind(owner, name), name, arguments)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "call" and _text(node.args[-1]):
            on, name = ast.unparse(node.args[0]), _text(node.args[1])
            if service := _text(node.args[0]):
                yield HostCall(where, (service,), name, _keywords(where, node), is_service=True)
            else:
                yield HostCall(where, (VARIABLES[on],), name, _keywords(where, node))


def _behind(handle: str, method: str) -> tuple[str, ...]:
    return BEHIND.get(f"{handle}.{method}") or BEHIND[handle]


def _keywords(where: str, node: ast.Call) -> frozenset[str]:
    """Return the names of the arguments that go to the guest."""
    assert all(each.arg for each in node.keywords), f"{where}: name each argument, without **"
    return frozenset(str(each.arg) for each in node.keywords) - OPTIONS


def _keys(where: str, arguments: list[ast.expr]) -> Iterator[str]:
    """Yield the keys of an Operation's arguments, if it has any."""
    for each in arguments:
        assert isinstance(each, ast.Dict), f"{where}: write the arguments as a dict"
        yield from map(_text, each.keys)


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def problems(host: Mapping[str, str], guest: Mapping[str, str]) -> list[str]:
    """List the calls that the guest would refuse."""
    behind = Guest(guest)
    calls = [call for path, source in host.items() for call in host_calls(path, source)]
    return [problem for call in calls for problem in call.problems(behind)]


def test_the_guest_takes_each_call_of_the_host() -> None:
    calls = [call for path, source in HOST.items() for call in host_calls(path, source)]
    assert len(calls) > 100
    assert problems(HOST, GUEST) == []


def test_the_agent_serves_each_service_that_the_host_calls() -> None:
    calls = (call for path, source in HOST.items() for call in host_calls(path, source))
    services = {target for call in calls if call.is_service for target in call.targets}
    assert services - {"rpc"} <= set(SERVICES) <= set(GUEST)


@pytest.mark.parametrize("kind", IMPORTERS.values(), ids=lambda kind: kind.name)
def test_the_guest_makes_each_importer(kind: ImporterKind) -> None:
    signature = Guest(GUEST).function(*kind.engine)
    assert signature is not None
    assert signature.problem({"bdf" if kind.driver == "its own" else "device"}) is None


@pytest.mark.parametrize(
    ("side", "file", "old", "new", "expected"),
    [
        ("guest", "dmabuf", "def sync(self, flags", "def synchronize(self, flags", "DmaBuf.sync does not exist"),
        ("guest", "dmabuf", "def sync(self, flags: int)", "def sync(self)", "DmaBuf.sync takes no flags"),
        ("guest", "engine", "def iova(self)", "def address(self)", "LocalWindow.iova does not exist"),
        ("guest", "verbs", "def key(self)", "def rkey_of(self)", "MrWindow.key does not exist"),
        ("guest", "pci", "def power_state(", "def state(", "pci.power_state does not exist"),
        ("guest", "leaks", "def scan()", "def scan(passes: int)", "leaks.scan needs passes"),
        ("guest", "feature_request", "requests: list", "wanted: list", "feature_request.request takes no requests"),
        ("guest", "races", "def run(threads:", "def run(lanes:", "races.run takes no threads"),
        ("host", "harness/session/device.py", '"hot_reset"', '"bus_reset"', "Device.bus_reset does not exist"),
        ("host", "harness/session/device.py", ", data=data)", ")", "Device.write needs data"),
        ("host", "harness/session/opening.py", ', name=driver)', ', driver=driver)', "pci.bind takes no driver"),
        ("host", "harness/session/nvme.py", '"nvme", "Controller"', '"nvme", "Ctrl"', "nvme.Ctrl does not exist"),
        ("host", "harness/session/opening.py", '(iommufd, "ioas")', '(iommufd, "space")', "Iommufd.space does not"),
        ("host", "tests/vm/test_stress.py", '{"on": True}', '{"enable": True}', "Device.set_memory takes no enable"),
    ],
)  # fmt: skip
def test_a_change_of_one_side_is_found(side: str, file: str, old: str, new: str, expected: str) -> None:
    source = (HOST if side == "host" else GUEST)[file]
    assert old in source
    changed = {file: source.replace(old, new)}
    found = problems(HOST | changed, GUEST) if side == "host" else problems(HOST, GUEST | changed)
    assert any(expected in each for each in found), found
