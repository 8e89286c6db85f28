"""README.md: its table is what results/ holds, its links and commands exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import readme

from rs5m import paper, results
from rs5m.book import scorecard

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_scorecard_is_in_sync(here):
    readme.main(["--check"])


def test_another_number_is_noticed_with_its_cure(tmp_path, monkeypatch):
    for name in ("results", "rs5m"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "README.md"
    page.write_text(re.sub(r"\babout \d+ minutes", "about 999 minutes", TEXT))
    readme.main(["--check"])  # another duration is no other finding
    page.write_text(
        TEXT.replace("| ZSC |", "| ZSX |", 1)
        if "| ZSC |" in TEXT
        else TEXT.replace("| GAP |", "| G |", 1)
    )
    page.write_text(page.read_text().replace("not attempted", "reproduced"))
    with pytest.raises(SystemExit, match=r"run `python tools/readme.py`"):
        readme.main(["--check"])


def test_a_report_of_the_command_is_no_chapters_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results.save("zeroshot", "mini", {"tests": {}}, seconds=60)
    assert len(readme.records("mini")) == 1
    (tmp_path / "results/mini/evaluate.json").write_text('{"metrics": {}, "seconds": {"total": 1}}')
    assert [record["seconds"] for record in readme.records("mini")] == [60]


def test_the_block_counts_the_published_numbers_and_keeps_their_table_out(here):
    block = readme.block(ROOT, "Disk: x")
    ran = (paper.compare(scorecard.published())["this run"] != "—").sum()
    assert (
        f"Of the paper's {len(paper.table('results'))} published numbers, {ran} have been measured again"
        in block
    )
    assert "AIR-SLT: " not in block and block.count("\n| ") == len(scorecard.rows()) + 2 + 1 + 4


def test_a_page_without_the_block_says_so(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# nothing\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="put the two lines back"):
        readme.main([])


def test_every_link_is_a_file():
    targets = re.findall(r"\]\(([^)#\s]+)", TEXT)
    local = [target for target in targets if ":" not in target]
    missing = [target for target in local if not (ROOT / target).exists()]
    assert local and not missing, f"README.md links to {missing}"


def test_every_image_has_a_text():
    assert re.search(r"!\[[^\]]{20,}\]\(results/scorecard.png\)", TEXT)
    assert not re.search(r"!\[\s*\]", TEXT)


def test_every_command_is_a_target():
    named = set(
        re.findall(r"\bmake ([a-z]+)\b", " ".join(re.findall(r"`[^`]+`|^make .*$", TEXT, re.M)))
    )
    said = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True).stdout
    assert {"reproduce", "test"} <= named
    assert not [name for name in named if f"make {name} " not in said]


def test_every_tool_it_names_runs():
    for tool in set(re.findall(r"python (tools/\w+\.py)", TEXT)):
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
        command = [sys.executable, ROOT / tool, "--help"]
        said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert said.returncode == 0, said.stderr
