# SPDX-License-Identifier: GPL-2.0-only
"""The guest agent: a Python process in the guest that drives vfio, iommufd, dma-buf and verbs for the host.

It runs from a zip that the session uploads, on the guest's Python and its standard library (and pyverbs, in
``verbs`` alone), so it imports nothing of the harness but its own package. ``rpc`` is the protocol; the objects
live here, the host holds handles on them.
"""
