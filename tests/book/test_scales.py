"""The dial: four scales, and one sentence for anything else."""

from dataclasses import FrozenInstanceError

import pytest

from rs5m.book import scales


def test_the_four_scales():
    assert list(scales.SCALES) == ["mini", "local", "colab", "paper"]
    for name, scale in scales.SCALES.items():
        assert scales.get(name) is scale and scale.name == name
        assert scale.runs and all(scale.runs) and scale.tests


def test_an_unknown_scale_names_the_four():
    with pytest.raises(
        ValueError, match="^unknown scale 'huge': choose one of mini, local, colab, paper$"
    ):
        scales.get("huge")


def test_a_scale_cannot_be_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        scales.get("mini").batch_size = 1


def test_openai_weights_are_built_with_quickgelu():
    """Without it the same weights give other numbers, and no error."""
    for scale in scales.SCALES.values():
        assert scale.pretrained != "openai" or scale.model.endswith("-quickgelu")


@pytest.mark.parametrize("name", ["local", "colab", "paper"])
def test_a_missing_data_folder_says_what_to_fetch_and_where_to_name_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError) as raised:
        scales.data_folder(scales.get(name))
    said = str(raised.value)
    assert (
        f"scale '{name}'" in said
        and f"{tmp_path / 'gone'}" in said
        and "RS5M_DATA" in said
        and "\n" not in said
    )
    wanted = (
        ("eurosat_rgb.zip", "ucm_q92.zip", "ucm_captions.json")
        if name == "local"
        else ("train-NNNN.tar",)
    )
    assert all(part in said for part in wanted)


@pytest.mark.parametrize("value", [None, ""])
def test_the_default_folder_is_data(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RS5M_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("RS5M_DATA", value)
    with pytest.raises(FileNotFoundError, match="reads data, which does not exist"):
        scales.data_folder(scales.get("local"))
    (tmp_path / "data").mkdir()
    assert scales.data_folder(scales.get("local")).resolve() == tmp_path / "data"


def test_a_file_is_no_data_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RS5M_DATA", str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError):
        scales.data_folder(scales.get("local"))


def test_mini_needs_no_folder():
    assert not scales.get("mini").needs and all(
        scales.get(name).needs for name in ("local", "colab", "paper")
    )


def test_length_and_batch_are_the_environment_s_where_towers_are_clip_s(monkeypatch):
    monkeypatch.setenv("RS5M_STEPS", "7")
    monkeypatch.setenv("RS5M_BATCH", "5")
    assert (scales.get("colab").steps, scales.get("colab").batch_size) == (7, 5)
    assert scales.get("mini") is scales.SCALES["mini"]
    assert scales.SCALES["colab"].batch_size == 256
    monkeypatch.setenv("RS5M_STEPS", "-3")
    with pytest.raises(ValueError, match="RS5M_STEPS is '-3': give a whole number"):
        scales.get("paper")


def test_a_claim_on_quality_stops_the_small_scales_alone(capsys):
    scales.get("colab").expect(True, "it learns")
    assert not capsys.readouterr().out
    scales.get("colab").expect(False, "it learns")
    assert capsys.readouterr().out == "not so in this run: it learns\n"
    with pytest.raises(AssertionError, match="it learns"):
        scales.get("mini").expect(False, "it learns")
