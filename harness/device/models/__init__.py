# SPDX-License-Identifier: GPL-2.0-only
"""The models by the name that a machine's description gives, and models from a file."""

import importlib.util
import re
from pathlib import Path

from harness.device.model import Model
from harness.device.models.edu import Edu
from harness.device.models.nvme import Nvme
from harness.device.models.random import faulty_nvme

MODELS: dict[str, type[Model]] = {"nvme": Nvme, "edu": Edu, "memory": Model}


def find(name: str) -> type[Model]:
    """Return the model ``name``: a key of MODELS, ``random-SEED``, or a Python file with a class ``Device``.

    Raises LookupError for an unknown name and for a file without that class.
    """
    if seeded := re.fullmatch(r"random-(\d{1,9})", name):
        return faulty_nvme(int(seeded[1]))
    if not name.endswith(".py"):
        if name not in MODELS:
            known = ", ".join(MODELS)
            raise LookupError(
                f"no model {name!r}; known are {known}, random-SEED, or a file NAME.py with a class Device"
            )
        return MODELS[name]
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LookupError(f"{path}: no such file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, "Device", None)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise LookupError(f"{path}: has no class Device that is a Model of harness.device.model")
    return found
