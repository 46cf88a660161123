"""The fault runs use a real RTSP server, like the tests of the sources."""

from __future__ import annotations

from tests.streaming.conftest import pytest_collection_modifyitems

__all__ = ["pytest_collection_modifyitems"]
