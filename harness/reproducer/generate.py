# SPDX-License-Identifier: GPL-2.0-only
"""Make one C file of a recording: the runtime that it uses, and the case's calls as a program that judges."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError
from harness.reproducer import expand, runtime
from harness.reproducer.calls import C_TYPES
from harness.reproducer.recorded import ObjectRef
from harness.reproducer.row import Arguments, Row, number
from harness.reproducer.steps import JudgedSteps, Step, name_of, row_of, value_of

WIDTH = 100
"""Columns of a line of C; a tab is 8."""
TIMEOUT_S = 300
"""After this many seconds the program reports a call that does not return."""

SUCCESS = "IBV_WC_SUCCESS"
JUDGED = {
    "ring": "whether the exporter ran the command, and the DMA faults in the kernel's log",
    "refusal": "the error of its last call",
    "acceptance": "the error of its last call",
    "import": "whether the kernel lets the importer in",
    "value": "the result of its last call",
    "growth": "the difference of two measurements",
    "statuses": "the statuses of its last transfers",
    "log": "the kernel's log",
    "host": "nothing: only an observer outside the program sees the bug",
}


@dataclass(frozen=True)
class About:
    """What the head of the file says."""

    name: str
    """The id of the bug, or of the case."""
    title: str
    """The bug, or the title of the case."""
    case: str
    """The id of the case."""
    kernel: str
    """The kernel that the case ran on."""
    machine: str
    """The machine's name."""
    reason: str
    """The reason of the verdict."""


def program(judged: JudgedSteps, about: About) -> str:
    """Return the C file. Raises UsageError for a call that no program can repeat."""
    written = _Writer(judged)
    written.write()
    body = "\n".join(
        [
            *written.globals,
            *written.functions,
            "",
            "static void program(void)",
            "{",
            *_declarations(written.locals),
            *written.body,
            "}",
        ]
    )
    chosen = runtime.choose(body)
    before_main, main = runtime.split(chosen)
    return "\n".join(
        [
            "// SPDX-License-Identifier: GPL-2.0-only",
            *_comment(judged, about),
            "#define _GNU_SOURCE",
            *chosen.includes,
            "",
            f'#define NAME\t\t"{about.name}"',
            f"#define TIMEOUT_S\t{TIMEOUT_S}",
            "",
            before_main,
            "",
            body.strip("\n"),
            "",
            main,
            "",
        ]
    )


def _comment(judged: JudgedSteps, about: About) -> Iterator[str]:
    """Yield the head: the bug, the rule, the origin, how the program judges, and how to build it."""
    yield "/*"
    paragraphs = (
        f"{about.name}: {about.title}",
        f"Rule: {judged.sentence}.",
        f"Made by vfio-harness of the calls of {about.case} on Linux {about.kernel}, machine {about.machine}, "
        f"which ended so: {about.reason}",
        f"The program judges by {JUDGED[judged.judgement]}. The case also has the trace of the device model.",
        "Build: cc -static -o reproducer FILE.c. Run it as root, or as the init of a machine of its own: it then "
        "mounts what it needs, loads the modules of /dev/vdb, prints KTAP to the kernel's log and powers off.",
    )
    for index, text in enumerate(paragraphs):
        if index:
            yield " *"
        for line in textwrap.wrap(text.replace("*/", "* /"), 76, break_long_words=False, break_on_hyphens=False):
            yield f" * {line}"
    yield " */"


def _declarations(names: Sequence[tuple[str, str]]) -> list[str]:
    return [*(f"\t{kind} {name};" for kind, name in names), ""] if names else []


@dataclass
class _Writer:
    """Writes the body of the program, and the variables that it needs."""

    judged: JudgedSteps
    globals: list[str] = field(default_factory=list)
    locals: list[tuple[str, str]] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    """The functions of calls that run beside the program."""
    _threads: dict[int, tuple[str, Step]] = field(default_factory=dict)
    """By its number, the variable and the call of each thread that runs."""
    _names: dict[int, str] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _expected: tuple[str, str] | None = None
    """The errno and the sentence of the block that is open."""
    _completed: str = "NOT_ASKED"
    """Whether the command of the last ring completed."""
    _rings: bool = False
    """Whether the steps ring a doorbell."""
    _status: str = ""
    """The result of the transfer that rang it, if its importer gives a status."""

    def write(self) -> None:
        """Write each step, and then the judgement."""
        steps = self.judged.steps
        for index, step in enumerate(steps):
            if "check" in step:
                self._check(step, follows_a_block=index > 0 and "expected" in steps[index - 1])
            elif "expect" in step:
                self._expected = step["expect"], step["sentence"]
            elif "expected" in step:
                self._expected = None
            elif "join" in step:
                self._join(step["join"])
            elif "ring" in step:
                self._ring(begins=step["ring"] == "begin")
            elif row := row_of(step, self.judged.classes):
                self._call(index, step, row)
        if self.judged.judgement == "import":
            self._say(f'end(BROKEN, "{self.judged.sentence}", "the importer has access to the buffer");')
        elif self.judged.judgement == "statuses":
            self._say(f"judge_statuses(others, {_text(self.judged.sentence)});")
        elif self.judged.judgement == "host":
            self._say(f'end(NOT_JUDGED, "{self.judged.sentence}", "all calls went as with the bug");')
        for kind, declared in self.locals:
            name = declared.partition(" ")[0]
            if kind == "int" and not any(re.search(rf"[(, ]{name}[,)]", line) for line in self.body):
                self._say(f"(void){name};")

    def _ring(self, *, begins: bool) -> None:
        self._rings = begins
        if begins:
            self._completed, self._status = "NOT_ASKED", ""
            self._say("forget_faults();")

    def _check(self, step: Step, *, follows_a_block: bool) -> None:
        if step["rule"] in ("arrives", "blocked") and self._status:
            function = "must_arrive_by_rdma" if step["rule"] == "arrives" else "must_be_refused_by_rdma"
            self._say(f"{function}({self._completed}, {self._status}, {_text(step['check'])});")
        elif step["rule"] in ("arrives", "blocked"):
            function = "must_arrive" if step["rule"] == "arrives" else "must_be_blocked"
            self._say(f"{function}({self._completed}, {_text(step['check'])});")
        elif not follows_a_block:
            self.body.append(f"\t/* {step['check'].replace('*/', '* /')} */")

    def _call(self, index: int, step: Step, row: Row) -> None:
        gives_status = row.status and expand.PROCESS not in step
        what = step.get("lost") or ("" if gives_status else step.get("refused"))
        if what:
            raise UsageError(f"no C program can repeat {self._name(step)}: it ended with {what}")
        code = self._code(step, row)
        if code and "thread" in step:
            self._start(step, code)
        elif code and gives_status and self.judged.judgement == "statuses" and index >= self.judged.at:
            self._declare("int", "others = 0")
            self._say(f"others += other_status({code}, {_text(step.get('refused', SUCCESS))});")
        elif code and gives_status and self._rings:
            self._declare("int", "status")
            self._status = "status"
            self._say(f"status = {code};")
        elif code and index in (self.judged.at, self.judged.against):
            self._judged_call(index, step, row, code)
        elif code:
            self._plain_call(index, step, row, code)

    def _start(self, step: Step, code: str) -> None:
        if (thread := step["thread"]) in self._threads:
            raise UsageError(f"no C program can repeat {self._name(step)}: its thread made a call before")
        function = self._function(code, "int")
        name = function.removeprefix("make_")
        self._threads[thread] = name, step
        self.globals.append(f"static struct call {name};")
        self._say(f"need(start_call(&{name}, {function}));")

    def _function(self, code: str, kind: str) -> str:
        """Write a function that makes a call. Returns its name."""
        self._counts["call"] += 1
        name = f"make_call{self._counts['call']}"
        self.functions += ["", f"static {kind} {name}(void)", "{", *wrap(f"return {code};"), "}"]
        return name

    def _join(self, thread: int) -> None:
        """Wait for a thread, once: a case may ask for its result again."""
        name, step = self._threads.pop(thread, ("", {}))
        if name and "errno" in step:
            self._say(f"must_fail(finish_call(&{name}), {step['errno']}, {_text(self._name(step) + ' is refused')});")
        elif name:
            self._say(f"need(finish_call(&{name}));")

    def _judged_call(self, index: int, step: Step, row: Row, code: str) -> None:
        sentence = _text(self.judged.sentence)
        if index == self.judged.against:
            self._declare("long long", "before")
            self._say(f"before = {code};")
        elif self.judged.judgement == "growth":
            self._say(f"judge_growth({code} - before, {self._grown()}, {sentence});")
        elif self.judged.judgement == "acceptance":
            function = "must_be_read" if row.reads else "must_succeed"
            self._say(f"{function}({code}, {sentence});")
        elif self.judged.judgement == "import":
            self._say(f"wrongly_succeeds({code}, {sentence});")
        else:
            if step["call"][1] == "mapped":
                self._say(f"print_events(&{self._object(step['call'][0])});")
            self._say(f"must_differ({code}, {value_of(step, self.judged.classes)}, {sentence});")

    def _plain_call(self, index: int, step: Step, row: Row, code: str) -> None:
        if "errno" in step:
            sentence = self._sentence_after(index) or f"{self._name(step)} is refused"
            self._say(f"must_fail({code}, {step['errno']}, {_text(sentence)});")
        elif "refused" in step:
            sentence = self._sentence_after(index) or f"{self._name(step)} is refused"
            self._say(f"must_end_with({code}, {_text(step['refused'])}, {_text(sentence)});")
        elif self._expected and self._is_last_of_block(index):
            errno, sentence = self._expected
            self._say(f"must_fail({code}, {errno}, {_text(sentence)});")
        elif step["call"][1] == "completed":
            self._declare("int", "completed")
            self._completed = "completed"
            self._say(f"completed = {code};")
        elif row.exact:
            self._say(f"need_same({code}, {value_of(step, self.judged.classes)});")
        elif row.reads:
            self._say(f"need_read({code});")
        elif not row.measure:
            self._say(f"need({code});")

    def _declare(self, kind: str, name: str) -> None:
        if (kind, name) not in self.locals:
            self.locals.append((kind, name))

    def _grown(self) -> str:
        ends = self.judged.against, self.judged.at
        first, last = (value_of(self.judged.steps[index], self.judged.classes) or 0 for index in ends)
        return number(last - first)

    def _is_last_of_block(self, index: int) -> bool:
        rest = self.judged.steps[index + 1 :]
        for step in rest:
            if "expected" in step:
                return True
            if row_of(step, self.judged.classes):
                return False
        return True

    def _sentence_after(self, index: int) -> str:
        """Return the sentence of the block or of the check that follows a refused call."""
        if self._expected:
            return self._expected[1]
        for step in self.judged.steps[index + 1 :]:
            if "check" in step:
                return str(step["check"])
            if "call" in step:
                return ""
        return self.judged.sentence

    def _code(self, step: Step, row: Row) -> str:
        """Return the C expression of a call; empty if the program need not make it."""
        if expand.CALLS in step:
            return self._with_functions(step)
        on, _ = step["call"]
        values = {name: self._value(value) for name, value in step["args"].items()}
        out = self._make(step, row) if row.makes else ""
        arguments = Arguments("" if isinstance(on, str) else self._object(on), out, values)
        declared = row.before(arguments)
        if declared and declared[0] not in self.globals:  # several calls may have the same data
            self.globals += declared
        code = row.code(arguments)
        if code and expand.PROCESS in step:
            return f"process_call(&{self._object(step[expand.PROCESS])}, {self._function(code, 'long long')})"
        return code

    def _with_functions(self, step: Step) -> str:
        """Return a call that makes others, with a function for each of them."""
        functions = []
        for each in step[expand.CALLS]:
            row = row_of(each, self.judged.classes)
            code = self._code(each, row) if row else ""
            if not code or (step["call"][0] == "repeat" and row and row.makes and "errno" not in each):
                raise UsageError(f"no C program can repeat {self._name(each)} in {'.'.join(step['call'])}")
            functions.append(self._function(code, "int"))
        if step["call"][0] == "repeat":
            return f"repeat({functions[0]}, {step['args']['times']})"
        point = f"IMPORTER_PAUSE_{step['args']['point'].upper()}"
        return f"interleave({point}, {', '.join(functions)}, {round(step['args']['call_seconds'] * 1000)})"

    def _make(self, step: Step, row: Row) -> str:
        """Declare the variable of the object that a call makes. A refused call makes none, but its program may."""
        if row.makes not in C_TYPES:
            return ""
        kind, _, base = C_TYPES[row.makes].rpartition(" ")
        star = "*" if base.startswith("*") else ""
        base = base.removeprefix("*")
        self._counts[base] += 1
        name = f"{base}{self._counts[base]}"
        if isinstance(made := step.get("ok"), ObjectRef):
            self._names[made.number] = name
        self.globals.append(f"static {kind} {star}{name};")
        return name

    def _value(self, value: Any) -> Any:
        return self._object(value) if isinstance(value, ObjectRef) else value

    def _object(self, ref: ObjectRef) -> str:
        if ref.number not in self._names:
            raise UsageError(f"the recording uses the object {ref.number}, which none of its calls made")
        return self._names[ref.number]

    def _name(self, step: Step) -> str:
        on, do = step["call"]
        return f"{name_of(on, self.judged.classes)}.{do}"

    def _say(self, statement: str) -> None:
        self.body += wrap(statement)


def _text(sentence: str) -> str:
    escaped = sentence.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def wrap(statement: str) -> list[str]:
    """Break a statement after commas, so that its lines have at most WIDTH columns if its strings allow."""
    lines = [""]
    for piece in _pieces(statement):
        room = WIDTH - (8 if len(lines) == 1 else 16)
        if lines[-1] and len(lines[-1]) + 1 + len(piece) > room:
            lines.append(piece)
        else:
            lines[-1] = f"{lines[-1]} {piece}".strip()
    return [f"\t{lines[0]}", *(f"\t\t{line}" for line in lines[1:])]


def _pieces(statement: str) -> Iterator[str]:
    """Split at the blanks after commas outside strings."""
    start, quoted = 0, False
    for index, character in enumerate(statement):
        if character == '"' and statement[index - 1] != "\\":
            quoted = not quoted
        if not quoted and statement.startswith(", ", index):
            yield statement[start : index + 1]
            start = index + 2
    yield statement[start:]
