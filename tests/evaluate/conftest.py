"""What commands keep between runs lies in the test's own folder."""

import pytest

from rs5m import results


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "cache_folder", lambda: tmp_path)
