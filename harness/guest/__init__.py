# SPDX-License-Identifier: GPL-2.0-only
"""The guest agent: a Python process in the guest that drives vfio, iommufd, dma-buf and verbs for the host.

The session uploads it as a zip. It runs on the guest's Python and imports only this package and the standard library
(``verbs`` also imports pyverbs). ``rpc`` is the protocol. The objects live in the guest; the host has handles on them.
"""
