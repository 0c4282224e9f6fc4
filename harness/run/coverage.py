# SPDX-License-Identifier: GPL-2.0-only
"""Keep the kernel's gcov counters of each case, on a kernel of FLAVOUR=coverage."""

import logging
from pathlib import Path

from harness.errors import GuestLost, HarnessError
from harness.gcov.counters import Reached, counted_files, save_case, save_notes
from harness.run.setup import Setup
from harness.session import Session
from harness.session.gcov import read_counters, reset_counters

log = logging.getLogger(__name__)


class CaseCoverage:
    """The counters of one run's cases, below ``directory``."""

    def __init__(self, setup: Setup, directory: Path) -> None:
        """Copy the notes of the build. Raises HarnessError for a build without notes, or without its source."""
        kernel = setup.kernel
        self._machine = setup.machine.name
        self._fail_nth = setup.options.fail_nth
        self._counting: tuple[str, Session] | None = None
        self._directory = directory
        if kernel.source_dir is None:
            raise HarnessError(f"{kernel.origin}: the source is missing, so coverage cannot be shown")
        self._files = counted_files(kernel.build_dir, kernel.source_dir)
        save_notes(directory, self._files, kernel.build_dir, kernel.source_dir)

    def start(self, case_id: str, session: Session) -> None:
        """Begin a case. Its later passes on the same session, with other failures, add to its counters."""
        if self._counting != (case_id, session):
            reset_counters(session)
            self._counting = case_id, session

    def finish(self, case_id: str, session: Session) -> None:
        """End a case. A guest that is lost has lost its counters, too."""
        try:
            counters = read_counters(session)
        except (GuestLost, HarnessError) as error:
            log.debug("no counters of %s: %s", case_id, error)
            return
        save_case(self._directory, Reached(case_id, self._machine, self._fail_nth), counters, self._files)
