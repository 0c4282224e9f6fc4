# SPDX-License-Identifier: GPL-2.0-only
"""Pydantic models of every YAML file the harness reads."""
