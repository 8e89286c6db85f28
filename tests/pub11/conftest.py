"""The pocket web behind its server, and a small CLIP, made once for all tests of this folder."""

import pytest
import small_clip
from fake_pub11 import LIMITS, Cheap

from rs5m import pub11
from rs5m.clip import export
from rs5m.pocket import webpages


@pytest.fixture(scope="package")
def site(tmp_path_factory):
    web = webpages.build(listed=600)
    with webpages.serve(web) as base:
        folder = tmp_path_factory.mktemp("pairs")
        webpages.write(web, base, folder)
        yield web, folder


@pytest.fixture(scope="package")
def finished(site, tmp_path_factory):
    """The folder of a run on all of it, to be read."""
    pairs, out = f"{site[1]}/*.parquet", tmp_path_factory.mktemp("run") / "out"
    return pub11.run(pairs, out, Cheap(), LIMITS, 8)


@pytest.fixture(scope="package")
def small_model(tmp_path_factory):
    """A random network as open_clip's `local-dir:` names it."""
    root = tmp_path_factory.mktemp("clip")
    small_clip.register(root)
    export.openclip(small_clip.random(False), root / "model")
    return f"local-dir:{root / 'model'}"
