# SPDX-License-Identifier: GPL-2.0-only
"""``python3 -m harness.guest``: serve requests on stdin until it closes."""

from .rpc import main

if __name__ == "__main__":
    main()
