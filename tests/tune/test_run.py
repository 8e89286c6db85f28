"""From what is given to what is trained on."""

from rs5m.tune import run


def test_shards_of_a_folder_are_its_training_shards(tmp_path):
    rs5m = tmp_path / "rs5m" / "deep"
    rs5m.mkdir(parents=True)
    for name in ("rs3-train-0001.tar", "pub11-train-0000.tar", "pub11-val-0000.tar", "notes.txt"):
        (rs5m / name).touch()
    given = run.shards("shards", [str(tmp_path / "rs5m")], tmp_path / "out")
    assert [path.name for path in given] == ["pub11-train-0000.tar", "rs3-train-0001.tar"]
    assert run.shards("ret2", [str(tmp_path / "rs5m")], tmp_path / "out") == given
    addresses = ["https://x.org/{0000..0003}.tar", str(rs5m / "rs3-train-0001.tar")]
    assert run.shards("shards", addresses, tmp_path / "out") == addresses
