"""Imports every module of fault cases, which registers them."""

from __future__ import annotations

from tests.faults import cameras, delivery, habits, model, program, refusals, storage, web
from tests.faults.case import FAULTS

__all__ = ["FAULTS", "cameras", "delivery", "habits", "model", "program", "refusals", "storage", "web"]
