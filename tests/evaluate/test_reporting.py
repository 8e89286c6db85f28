"""What a report writes beside its JSON."""

import pandas as pd

from rs5m.evaluate import reporting
from rs5m.evaluate.scoring import Scored


def test_a_set_of_two_tasks_keeps_its_predictions(tmp_path):
    table = pd.DataFrame({"path": ["a.jpg"], "label": ["sea"]})
    some, none = Scored({}, {}, {}, {}, {}, table), Scored({}, {}, {}, {}, {})
    scored = {("zeroshot", "ucm"): some, ("retrieval", "ucm"): none}
    reporting.write_predictions(scored, tmp_path / "p")
    assert pd.read_parquet(tmp_path / "p" / "ucm.parquet").equals(table)
    reporting.write_predictions(scored, None)
