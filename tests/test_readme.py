"""README.md: what it states is what results/ holds, its links and commands exist."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import readme

from rs5m import paper, results
from rs5m.book import scorecard

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
EMPTY = "<!-- cost:start -->\n<!-- cost:end -->"
TIMING = {
    "run": "cold",
    "seconds": 840,
    "setup_seconds": 180,
    "cpus": 2,
    "gigabytes": {".venv": 2.6, "runs/mini": 0.3, "_build": 0.1, "cache": 0.24},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """README.md and results alone, in which the page is up to date."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "results", root / "results")
    (root / "rs5m").mkdir()
    for name in ("_toc.yml", "README.md"):
        shutil.copy(ROOT / name, root)
    (root / "results/mini/timing.json").write_text(json.dumps(TIMING))
    # what the page states today would stay, where it is off by less than half
    today = re.sub(r"<!-- cost:start -->.*?<!-- cost:end -->", EMPTY, TEXT, flags=re.DOTALL)
    (root / "README.md").write_text(today)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        readme.main([])
        readme.main(["--check"])
    return root


@pytest.fixture
def copy(project, tmp_path, monkeypatch) -> Path:
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_is_in_sync(monkeypatch):
    monkeypatch.chdir(ROOT)
    readme.main(["--check"])


@pytest.mark.parametrize(
    ("was", "now", "fails"),
    [
        ("14 minutes", "20 minutes", False),
        ("14 minutes", "22 minutes", True),
        ("14 minutes", "9 minutes", True),
        ("3 minutes", "6 minutes", True),
        ("2.6 GB", "3.0 GB", False),
        ("2.6 GB", "5.2 GB", True),
        ("0.6 GB", "0.2 GB", True),
        ("2 CPU cores", "4 CPU cores", True),
        ("(cold", "(warm", True),
    ],
)
def test_stated_minutes_may_be_off_by_half(copy, was, now, fails):
    page = copy / "README.md"
    text = page.read_text()
    assert was in text
    page.write_text(text.replace(was, now))
    said = pytest.raises(SystemExit, match="cost out of date: run `python tools/readme.py`")
    with said if fails else nullcontext():
        readme.main(["--check"])


def test_a_run_of_about_the_same_length_leaves_the_page_alone(copy):
    before = (copy / "README.md").read_bytes()
    (copy / "results/mini/timing.json").write_text(json.dumps(TIMING | {"seconds": 700}))
    readme.main([])
    assert (copy / "README.md").read_bytes() == before


def test_without_a_complete_run_no_cost_is_stated(copy):
    (copy / "results/mini/timing.json").unlink()
    readme.main([])
    assert "minutes" not in (copy / "README.md").read_text()


@pytest.mark.parametrize(
    ("chapter", "path"),
    [
        ("zeroshot", ("tests", "pocket", "models", "general", "balanced")),
        ("retrieval", ("tests", "pocket", "gain", "pub11+rs3", "high")),
        ("selo", ("tests", "pocket", "models", "pub11+rs3", "rmi")),
        ("rotation", ("own_ranker", "low")),
        ("keywords", ("found", "silent", "rate")),
    ],
)
def test_another_number_is_noticed(copy, chapter, path):
    file = copy / "results/mini" / f"{chapter}.json"
    record = json.loads(file.read_text())
    *outer, last = path
    inner = record["values"]
    for key in outer:
        inner = inner[key]
    inner[last] += 3
    file.write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="findings out of date"):
        readme.main(["--check"])


def test_the_findings_count_outcomes_untouched_lines_and_published_numbers(monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = scorecard.rows()
    text, outcomes = readme.findings(), [scorecard.outcome(row) for row in lines]
    for outcome in set(outcomes):
        assert f"{outcomes.count(outcome)} {outcome}" in text
    assert f"{scorecard.untouched(lines)} free of contact" in text
    assert f"Of the paper's {len(paper.table('results'))} published numbers" in text
    assert text.count("\n| ") == len(readme.rows()) == 6


def test_a_page_without_a_block_says_so(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# nothing\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="no block between the markers cost:start"):
        readme.main([])


def test_it_fits_a_first_reading():
    prose = re.sub(r"<!-- findings:start -->.*<!-- findings:end -->", "", TEXT, flags=re.DOTALL)
    assert 350 <= len(prose.split()) <= 700
    assert "Not affiliated with the authors" in TEXT
    tree = re.search(r"```text\n(.*?)```", TEXT, re.DOTALL)[1]
    assert len(tree.splitlines()) <= 10
    for name in re.findall(r"^(\w+)/", tree, re.M):
        assert name == "runs" or (ROOT / name).is_dir()


def test_every_link_is_a_file():
    targets = re.findall(r"\]\(([^)#\s]+)", TEXT)
    missing = [target for target in targets if ":" not in target and not (ROOT / target).exists()]
    assert targets and not missing, f"README.md links to {missing}"


def test_every_image_has_a_text():
    assert re.search(r"!\[[^\]]{20,}\]\(results/scorecard.png\)", TEXT)
    assert not re.search(r"!\[\s*\]", TEXT)


def test_every_target_of_make_exists():
    code = " ".join(re.findall(r"`[^`]+`|^make .*$", TEXT, re.M))
    said = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True).stdout
    named = set(re.findall(r"\bmake ([a-z]+)\b", code))
    assert {"setup", "reproduce"} <= named
    assert not [name for name in named if f"make {name} " not in said]


def test_every_command_and_option_exists():
    commands = re.findall(r"^\.venv/bin/rs5m (\w+) (.*)$", TEXT, re.M)
    assert [name for name, _ in commands] == ["pub11", "rs3", "tune", "evaluate"]
    for name, options in commands:
        command = [sys.executable, "-m", "rs5m.cli", name, "--help"]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        for option in re.findall(r"--[a-z]+", options):
            assert option in said.stdout, f"rs5m {name} has no {option}"


def test_the_tool_needs_no_torch():
    code = "import sys, readme; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}", "HOME": str(Path.home())}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert said.returncode == 0, said.stderr


def test_results_of_the_command_are_no_findings(copy):
    (copy / "results/mini/evaluate.json").write_text('{"paper": {"same_model": false}}')
    readme.main(["--check"])
    assert results.load("evaluate", "mini")
