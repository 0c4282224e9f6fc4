# SPDX-License-Identifier: GPL-2.0-only
"""The reference model does what section 2 of the contract says."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cases.model import ACTIONS, AVOIDS, MOST, PLACES, Expected, Model, State, Wait, check
from harness.cases.program import Program, parse
from harness.errors import UsageError
from harness.run.known_issues import catalogue

LIVE = frozenset(AVOIDS)
"""The known issues of a kernel that has all of them."""


def run(text: str, known: Iterable[str] = ()) -> tuple[Model, list[Expected]]:
    """Apply a program. Returns the model and what each call must do."""
    model = Model(frozenset(known))
    return model, [model.apply(call) for call in parse(text, "x")]


def state_after(text: str) -> State:
    """Return the state of ``buffer0``, exported first, after a program."""
    model, _ = run(f"buffer0 = export()\n{text}")
    return model.buffers["buffer0"].state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("", State.OK),
        ("memory_off()", State.REVOKED),
        ("memory_off()\nmemory_on()", State.OK),
        ("d3hot()", State.REVOKED),
        ("memory_off()\nd3hot()\nd0()", State.REVOKED),
        ("memory_off()\nd3hot()\nd0()\nmemory_on()", State.OK),
        ("d3hot()\nmemory_off()\nmemory_on()", State.REVOKED),
        ("memory_off()\nreset()", State.REVOKED),
        ("d3hot()\nreset()", State.OK),
        ("flr()", State.OK),
        ("low_power_entry()", State.REVOKED),
        ("low_power_entry()\nreset()", State.REVOKED),
        ("low_power_entry()\nmemory_off()\nlow_power_exit()", State.REVOKED),
        ("low_power_entry_with_wakeup()\nwake()", State.OK),
        ('memory_off("byte")\nmemory_on("dword")', State.OK),
        ('d3hot("dword")\nflr("byte")', State.OK),
        ('d3hot("byte")', State.REVOKED),
        ("bad_entry()\nprobe_low_power()", State.OK),
        ("low_power_entry()\nlow_power_entry()\nprobe_low_power()", State.REVOKED),
        ("close(device0)", State.DEAD),
        ("close(device0)\ndevice1 = open()", State.DEAD),
        ("device1 = dup(device0)\nclose(device0)", State.OK),
        ("device1 = dup(device0)\nclose(device0)\nclose(device1)", State.DEAD),
        ("process0 = fork(device0)\nclose(device0)", State.OK),
        ("process0 = fork(device0)\nclose(device0)\nkill(process0)", State.DEAD),
        ("process0 = fork(device0)\nkill(process0)", State.OK),
        ("memory_off()\nclose(device0)\ndevice1 = open()", State.DEAD),
    ],
)
def test_the_state_of_a_buffer_follows_its_device(text: str, state: State) -> None:
    assert state_after(text) is state


def test_a_buffer_exported_while_memory_is_disabled_starts_revoked() -> None:
    model, (_, _, refused, _, _) = run(
        'memory_off()\nbuffer0 = export()\nattach(buffer0, "rxe")\nmemory_on()\nwindow0 = attach(buffer0, "rxe")'
    )
    assert refused.errno == "ENODEV"
    assert model.windows["window0"].live


def test_a_revoke_ends_mappings_for_good() -> None:
    text = 'buffer0 = export()\nwindow0 = attach(buffer0, "rxe")\nreset()\nwindow1 = attach(buffer0, "rxe")'
    model, expected = run(text)
    assert expected[2].ended == ("window0",)
    assert [window.live for window in model.windows.values()] == [False, True]


@pytest.mark.parametrize(
    ("text", "notified"),
    [
        ("memory_off()", 1),
        ("memory_off()\nmemory_off()", 1),
        ("memory_off()\nmemory_on()", 2),
        ("memory_on()", 0),
        ("bad_entry()", 0),
        ("low_power_entry()\nlow_power_entry_with_wakeup()\nprobe_low_power()\nlow_power_exit()", 2),
        ("reset()", 2),
        ("memory_off()\nreset()", 1),
        ("d3hot()\nreset()", 2),
        ("close(device0)", 1),
        ("memory_off()\nclose(device0)", 1),
        ("process0 = fork(device0)\nclose(device0)\nkill(process0)", 1),
    ],
)
def test_each_change_notifies_an_attachment_once(text: str, notified: int) -> None:
    model, _ = run(f'buffer0 = export()\nattachment0 = attach_driver(buffer0, "prompt")\n{text}')
    assert model.attachments["attachment0"].notified == notified


def test_a_remapping_attachment_is_mapped_by_the_unrevoke() -> None:
    text = 'buffer0 = export()\nattachment0 = attach_driver(buffer0, "remap")\nmemory_off()'
    assert not run(text)[0].attachments["attachment0"].mapped
    model, expected = run(f"{text}\nmemory_on()\nreset()")
    assert model.attachments["attachment0"].mapped
    assert expected[-1].ended == ()


def test_a_revoke_waits_for_fences_and_then_for_slow_importers() -> None:
    text = """\
buffer0 = export()
attachment0 = attach_driver(buffer0, "slow")
map(attachment0)
fence(attachment0, "read")
buffer1 = export()
reset(closing=buffer1)
reset()
"""
    model, expected = run(text)
    assert expected[-2].waits == (Wait("attachment0", "fence", 1), Wait("attachment0", "importer", 1))
    assert expected[-1].waits == ()
    assert list(model.buffers) == ["buffer0"]


def test_no_map_of_the_rdma_core_waits_for_a_fence_that_is_never_signalled() -> None:
    text = 'buffer0 = export()\nattachment0 = attach_driver(buffer0, "prompt")\nfence(attachment0, "{}")'
    for usage, possible in (("kernel", False), ("write", True)):
        model, _ = run(text.format(usage))
        assert possible == any("rxe" in call.args for call in model.choices("attach"))


def test_a_dma_buf_lives_as_long_as_its_users() -> None:
    text = 'buffer0 = export()\nwindow0 = attach(buffer0, "rxe")\nbuffer1 = dup(buffer0)\nprocess0 = fork(buffer1)'
    closes = ["close(buffer0)", "close(buffer1)", "kill(process0)", "detach(window0)"]
    for count in range(len(closes) + 1):
        model, _ = run("\n".join([text, *closes[:count]]))
        assert len(model.held()) == len(model.exported) == (count < len(closes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fly()", r"call 1, fly\(\): no such call"),
        ("memory_on()\nmap(attachment0)", r"call 2, map\(attachment0\): not possible here"),
        ("device1 = open()", "not possible here"),
        ("buffer7 = export()", "not possible here"),
        ("low_power_entry()\nd3hot()", "not possible here"),
        ("low_power_entry_with_wakeup()\nlow_power_entry()", "not possible here"),
        ("low_power_entry_with_wakeup()\nprobe_low_power()", "not possible here"),
    ],
)
def test_a_program_that_the_model_does_not_allow_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(parse(text, "x"), frozenset())


@pytest.mark.parametrize(
    ("issue", "text"),
    [
        ("live-in-low-power", "low_power_entry()\nreset()"),
        ("revoked-after-wakeup", "low_power_entry_with_wakeup()\nwake()"),
        ("unrevoke-notified-too-early", 'buffer0 = export()\nattachment0 = attach_driver(buffer0, "remap")'),
    ],
)
def test_the_model_avoids_what_a_known_issue_decides(issue: str, text: str) -> None:
    program = parse(text, "x")
    check(program, frozenset())
    with pytest.raises(UsageError, match="not possible here"):
        check(program, frozenset({issue}))


def test_what_the_model_avoids_is_known_issues() -> None:
    assert {issue.id for issue in catalogue()} >= set(AVOIDS)


@settings(max_examples=100)
@given(st.data(), st.sampled_from([frozenset[str](), LIVE]))
def test_every_choice_can_be_applied(data: st.DataObject, known: frozenset[str]) -> None:
    model = Model(known)
    program: Program = ()
    for _ in range(25):
        call = data.draw(st.sampled_from([call for do in ACTIONS for call in model.choices(do)]))
        expected = model.apply(call)
        program = (*program, call)
        assert bool(expected.errno) <= (call.result is None)
        assert all(len(getattr(model, place)) <= MOST[kind] for kind, place in PLACES.items())
        for window in model.windows.values():
            assert not window.live or (window.buffer.state is State.OK and model.enabled)
        for attachment in model.attachments.values():
            assert not attachment.mapped or attachment.buffer.state is State.OK
        assert {buffer.state for buffer in model.exported} <= {State.OK if model.enabled else State.REVOKED}
        assert set(model.exported) <= set(model.held())
    check(program, known)
