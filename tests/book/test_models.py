"""A scale's general model where the hub does not answer."""

import pytest
from loopback_hub import served

from rs5m.book import models, scales


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_a_hub_that_refuses_is_one_sentence_at_once(tmp_path, monkeypatch, status):
    import huggingface_hub as given

    monkeypatch.setattr(given.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with served(tmp_path) as here:
        here.status = status
        address = f"{here.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(given.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        with pytest.raises(OSError) as raised:
            models.general(scales.get("colab"))
        assert here.asked
    said = str(raised.value)
    assert said.startswith("the hub does not give the weights of ViT-B-32-quickgelu (")
    assert said.endswith("point HF_HOME at a folder that has them") and "\n" not in said
    assert len(here.asked) <= 2, "asked at once, not again and again"
