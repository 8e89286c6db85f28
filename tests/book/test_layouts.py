"""The tables of layouts: nothing that the readers know is left out of them."""

from rs5m.book import layouts
from rs5m.clip import formats, known
from rs5m.data import shards, tables


def test_every_release_and_every_known_network_has_its_line():
    models = known.models().values()
    released = layouts.releases().set_index("format")
    assert set(released.index) == {one.format for one in models}
    assert released["models"].sum() == len(models)
    networks = layouts.networks()
    assert list(networks["network"]) == list(formats.FORMATS)
    assert networks["told by"].is_unique


def test_every_ending_of_the_readers_stands_in_the_table():
    named = " ".join(layouts.data()["files"]).replace(",", "").split()
    assert {*shards.ENDINGS, *tables.ENDINGS} <= set(named)
