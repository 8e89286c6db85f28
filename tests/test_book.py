"""The book as a whole: its pages, their Colab siblings, and the tools that run and render them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import chapter
import nbformat
import notebooks
import pytest
import yaml

from rs5m.book import scales

ROOT = Path(__file__).parents[1]
PAGES = [path.stem for path in sorted((ROOT / "book").glob("*.md"))]
HEAD = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
SCALE_CELL = '```{code-cell} ipython3\n:tags: [parameters]\n\nscale = "mini"\n```\n'
CLIP = """# Clip it

(sec)=
## A part

{cite:t}`doe2024` in {ref}`sec`, {numref}`fig`, [the start](index.md): {glue:text}`x:.2f`.

:::{note}
For {cite}`doe2024`.
:::

```{exercise} Try
:label: ex
Do it.
```

PARAMETERS

```{code-cell} ipython3
from pathlib import Path

from rs5m import results

results.save("clip", scale, {"x": 1}, seconds=1)
results.glue("x", 1.234)
with Path("ran.txt").open("a") as log:
    log.write(scale)
```

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: A square.
    name: fig
  image:
    alt: One dot in the middle.
---
import matplotlib.pyplot as plt

plt.plot([1], "o");
```

```{bibliography}
```
"""
MYST = re.compile(r"(?<!`)\{[a-z:]+\}`|^\s*(?:`{3,}|:{3,})\s*\{|^\([\w:.-]+\)=\s*$", re.M)


def cells(page: str, kind: str) -> list:
    return [cell for cell in notebooks.read(ROOT, page).cells if cell.cell_type == kind]


def tool(name: str, root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / name, "--root", root, *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def small_book(tmp_path: Path) -> Path:
    """Two pages that need no model: a chapter that writes a result, and a root page that reports
    it.
    """
    (tmp_path / "book").mkdir()
    (tmp_path / "rs5m").mkdir()
    for name in ("_config.yml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    (tmp_path / "book" / "references.bib").write_text(
        "@misc{doe2024, author={Doe, Ann and Roe, Bo and Poe, Cy}, title={T}, year={2024}, "
        "doi={10.1/x}}"
    )
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n- file: clip\n")
    (tmp_path / "book" / "index.md").write_text(HEAD + "# Start\n\n[](clip.md)\n\n" + SCALE_CELL)
    (tmp_path / "book" / "clip.md").write_text(HEAD + CLIP.replace("PARAMETERS", SCALE_CELL))
    return tmp_path


def test_every_page_of_the_contents_exists():
    assert len(notebooks.toc(ROOT)) >= 9


def test_a_page_without_a_source_is_named(small_book):
    (small_book / "book" / "clip.md").unlink()
    said = tool("reproduce.py", small_book)
    assert said.returncode == 1 and "book/clip.md does not exist" in said.stderr


def test_siblings_are_in_sync():
    assert not notebooks.stale(ROOT), f"run `{notebooks.CURE}`"


@pytest.mark.parametrize("page", PAGES)
def test_page_style(page):
    text = (ROOT / "book" / f"{page}.md").read_text()
    prose = "\n".join(cell.source for cell in cells(page, "markdown"))
    assert len(re.findall(r"^# \S", prose, re.M)) == 1, "one H1"
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp|Users)/", text), "a path of one machine"
    assert not re.search(r"!\[\s*\]\(", prose), "an image without alt text"
    assert not re.search(r"^%", prose, re.M), "MyST takes a line that begins with % for a comment"
    for directive in re.findall(
        r"^(?:`{3,}|:{3,})\{(?:figure|image)\}.*?^(?:`{3,}|:{3,})\s*$", prose, re.M | re.S
    ):
        assert re.search(r"^:alt: *\S|^alt: *\S", directive, re.M), "a figure without alt text"


def test_no_label_is_given_twice():
    """Labels are the whole book's: rendering, which comes last, would stop at the second one."""
    text = "\n".join((ROOT / "book" / f"{page}.md").read_text() for page in PAGES)
    labels = re.findall(r"^ +name: (fig\S*)$|^:(?:label|name): (\S+)$|^\((\S+)\)=$", text, re.M)
    labels = ["".join(found) for found in labels]
    assert len(labels) > 40 and not {label for label in labels if labels.count(label) > 1}


@pytest.mark.parametrize("page", PAGES)
def test_page_code(page):
    code = cells(page, "code")
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source.strip() for cell in parameters] == ['scale = "mini"'] * bool(code)
    for cell in code:
        lines = cell.source.splitlines()
        assert len(lines) <= 30, f"a cell of over 30 lines: {cell.source[:60]}"
        long = [line for line in lines if len(line) > 88]
        assert not long, f"over 88 columns: {long}"
        shown = cell.metadata.get("mystnb", {})
        assert "figure" not in shown or shown.get("image", {}).get("alt"), (
            f"no alt text: {shown['figure']}"
        )


@cache
def distributions() -> dict[str, list[str]]:
    return packages_distributions()


@pytest.mark.parametrize("page", PAGES)
def test_page_imports_only_what_colab_gets(page):
    """A chapter on Colab has the package's own dependencies, not the extras that build the book."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    normal = {
        re.split(r"[<>=!~\[; ]", line)[0].lower().replace("_", "-")
        for line in project["dependencies"]
    }
    homes = distributions()
    code = "\n".join(cell.source for cell in cells(page, "code"))
    for module in (
        set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.M))
        - sys.stdlib_module_names
        - {"rs5m"}
    ):
        owners = {name.lower().replace("_", "-") for name in homes.get(module, [])}
        assert owners & (normal | {"ipython"}), f"{module} is no runtime dependency of rs5m"


def test_no_myst_is_left_in_any_notebook():
    for path in (ROOT / "book").glob("*.ipynb"):
        notebook = json.loads(path.read_text())
        assert all(not cell.get("outputs") for cell in notebook["cells"]), (
            f"{path.name} holds outputs"
        )
        for cell in notebook["cells"]:
            text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
            assert not MYST.search(text), f"{path.name}: {MYST.search(text)[0]}"


def test_conversion(small_book):
    assert tool("notebooks.py", small_book).returncode == 0
    path = small_book / "book" / "clip.ipynb"
    first, notebook = path.read_bytes(), json.loads(path.read_bytes())
    text = "\n".join(
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )
    for wanted in (
        "colab-badge.svg",
        "/github/rs5m/rs5m/blob/main/book/clip.ipynb",
        "[Doe et al. (2024)](https://doi.org/10.1/x) in A part, Figure 1, [the start](",
        "`x`",
        "> **Note**\n>\n> For ([Doe et al., 2024](https://doi.org/10.1/x)).",
        "**Exercise 1 (Try)**\n\nDo it.",
        "**Figure 1.** A square.",
    ):
        assert wanted in text
    assert not MYST.search(text)
    assert "google.colab" in "".join(notebook["cells"][1]["source"])
    path.unlink()
    tool("notebooks.py", small_book)
    assert path.read_bytes() == first, "the same source gives the same bytes"


def test_a_sibling_carries_the_numbers_of_the_stored_run(small_book):
    ran = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("results.glue('x', 1.234)")])
    about = {"scrapbook": {"name": "x", "mime_prefix": "application/papermill.record/"}}
    kept = {"application/papermill.record/text/plain": "1.234"}
    ran.cells[0].outputs = [nbformat.v4.new_output("display_data", kept, metadata=about)]
    (small_book / "ran").mkdir()
    nbformat.write(ran, small_book / "ran" / "clip.ipynb")
    said = tool("said.py", small_book, "--ran", str(small_book / "ran"))
    assert said.stdout == "book/said.json: 1 values of 1 pages\n"
    tool("notebooks.py", small_book)
    text = (small_book / "book" / "clip.ipynb").read_text()
    assert "1.23." in text and "stored run at scale `mini`" in text and "`x`" not in text


def test_a_stale_sibling_is_named_with_its_cure(small_book):
    tool("notebooks.py", small_book)
    assert tool("notebooks.py", small_book, "--check").returncode == 0
    page = small_book / "book" / "clip.md"
    page.write_text(page.read_text() + "\nOne more sentence.\n")
    said = tool("notebooks.py", small_book, "--check")
    assert (
        said.returncode == 1
        and "book/clip.ipynb" in said.stderr
        and "make notebooks" in said.stderr
    )
    assert "index" not in said.stderr


def test_an_unknown_directive_stops_the_conversion(small_book):
    page = small_book / "book" / "clip.md"
    page.write_text(page.read_text() + "\n```{mystery}\nx\n```\n")
    said = tool("notebooks.py", small_book)
    assert said.returncode == 1 and "{mystery}" in said.stderr and "book/clip.md" in said.stderr


@pytest.mark.slow
def test_reproduce_runs_once_and_again_only_what_changed(small_book):
    page, ran = small_book / "book" / "clip.md", small_book / "ran.txt"
    first = tool("reproduce.py", small_book)
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"\[1/2\] clip +[\d.]+ s", first.stdout) and re.search(
        r"\[2/2\] index +[\d.]+ s", first.stdout
    )
    timing = json.loads((small_book / "results/mini/timing.json").read_text())
    assert timing["run"] == "cold" and set(timing["chapters"]) == {"clip", "index"}
    assert timing["seconds"] >= sum(timing["chapters"].values()) > 0
    assert set(timing["gigabytes"]) == {".venv", "runs/mini", "_build", "cache"}
    html = small_book / "_build" / "html" / "clip.html"
    assert "blob/main/book/clip.ipynb" in html.read_text() and "1.23</span>" in html.read_text()
    assert 'alt="One dot in the middle."' in html.read_text() and "{glue" not in html.read_text()
    assert "Show code cell source" in html.read_text()  # glue and figures: behind a toggle
    assert not re.search(r'(?:src|href)="https?://[^"]*[.](?:js|css)', html.read_text())
    assert (html.parent / "_static" / "mathjax" / "tex-chtml.js").is_file()  # formulas, offline
    times = {path: path.stat().st_mtime_ns for path in small_book.rglob("*") if path.is_file()}

    second = tool("reproduce.py", small_book)
    assert second.stdout.count("up to date") == 3 and ran.read_text() == "mini"
    changed = [path for path, at in times.items() if path.stat().st_mtime_ns != at]
    assert all("source" in path.parts for path in changed), changed

    page.write_text(page.read_text().replace("Do it.", "Do it twice."))  # prose: rendered, not run
    third = tool("reproduce.py", small_book)
    assert ran.read_text() == "mini" and "Do it twice." in html.read_text(), third.stderr

    result = small_book / "results" / "mini" / "clip.json"
    found = result.read_bytes()
    result.write_text("{}")  # somebody edited it
    assert "clip        up to date" not in tool("reproduce.py", small_book, "--render").stdout
    tool("reproduce.py", small_book)
    assert ran.read_text() == "minimini" and result.read_bytes() == found

    page.write_text(page.read_text().replace("results.glue", "results . glue"))  # finds the same
    tool("reproduce.py", small_book)
    assert ran.read_text() == "miniminimini" and result.read_bytes() == found
    assert "clip        up to date" in tool("reproduce.py", small_book, "--render").stdout
    assert json.loads((small_book / "results/mini/timing.json").read_text()) == timing


@pytest.mark.parametrize(("page", "stays"), [("clip", True), ("scorecard", False)])
def test_a_report_on_all_scales_is_not_current_when_another_has_changed(page, stays, tmp_path):
    one = chapter.Chapter(tmp_path, "mini", page, nbformat.v4.new_notebook())
    other = tmp_path / "results/local/tune.json"
    for path in (one.ran, other, tmp_path / f"results/mini/{page}.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    wrote = {f"results/mini/{page}.json": chapter.file_digest(other)}
    record = {"key": "k", "elsewhere": one.elsewhere(), "results": wrote}
    one.record.write_text(json.dumps(record))
    assert one.current("k") and not one.current("another")
    other.write_text('{"gain": 1}')
    assert one.current("k") == stays


@pytest.mark.slow
def test_a_failing_cell_stops_with_its_place(small_book):
    page = small_book / "book" / "clip.md"
    page.write_text(page.read_text().replace('"x": 1', '"x": 1 / 0'))
    said = tool("reproduce.py", small_book)
    assert said.returncode == 1
    number = page.read_text()[: page.read_text().index("from pathlib")].count("\n") + 1
    assert f"clip stopped in code cell 2 (book/clip.md, line {number})" in said.stderr
    assert '"x": 1 / 0' in said.stderr and "ZeroDivisionError: division by zero" in said.stderr
    assert "\x1b" not in said.stderr and "index" not in said.stdout
    assert not (small_book / "runs" / "mini" / "book" / "clip.ipynb").exists()
    said = tool("reproduce.py", small_book, "--keep-going")
    assert said.returncode == 1 and "ZeroDivisionError" in said.stdout
    assert re.search(r"\nclip +failed: .*\nindex +[\d.]+  ran\n", said.stdout)
    assert not (small_book / "_build").exists()


@pytest.mark.slow
def test_chapters_run_alone_and_the_others_are_named(small_book):
    said = tool("reproduce.py", small_book, "--chapters", "clip")
    assert said.returncode == 0 and re.search(r"\[1/2\] clip +[\d.]+ s", said.stdout)
    assert re.search(r"^index +has not run", said.stdout, re.M)
    assert not (small_book / "_build").exists()
    assert (
        "no chapter clap: choose of"
        in tool("reproduce.py", small_book, "--chapters", "clap").stderr
    )


@pytest.mark.slow
def test_a_figure_without_alt_text_stops_the_run(small_book):
    page = small_book / "book" / "clip.md"
    page.write_text(page.read_text().replace("  image:\n    alt: One dot in the middle.\n", ""))
    said = tool("reproduce.py", small_book)
    assert said.returncode == 1 and "code cell 3 draws a figure without alt text" in said.stderr


@pytest.mark.slow
def test_a_broken_reference_stops_the_rendering_with_its_line(small_book):
    """On a page that runs and on one of prose, above the strip and below it."""
    broken = {
        "clip": (small_book / "book" / "clip.md")
        .read_text()
        .replace("# Clip it\n", "# Clip it\n\n[](gone.md)\n")
        + "\n[](lost.md)\n",
        "prose": "[](gone.md)\n\n# Prose\n\nA line\n\n[](lost.md)\n",
    }
    for page, text in broken.items():
        (small_book / "book" / f"{page}.md").write_text(text)
    with (small_book / "_toc.yml").open("a") as toc:
        toc.write("- file: prose\n")
    said = tool("reproduce.py", small_book)
    assert said.returncode == 1
    for page, text in broken.items():
        for target in ("gone.md", "lost.md"):
            line = text[: text.index(target)].count("\n") + 1
            assert re.search(rf"^book/{page}.md:{line}: WARNING.*{target}", said.stderr, re.M), (
                said.stderr
            )
    assert not (small_book / "_build" / "html").exists()


def test_an_unknown_scale_is_one_sentence():
    for said in (
        tool("reproduce.py", ROOT, "--scale", "huge"),
        subprocess.run(
            ["make", "-C", ROOT, "reproduce", "SCALE=huge"], capture_output=True, text=True
        ),
    ):
        assert (
            said.returncode
            and "unknown scale 'huge'" in said.stderr
            and len(said.stderr.splitlines()) == 1
        )
        assert all(name in said.stderr for name in scales.SCALES)


def test_local_without_its_folder_is_one_sentence(tmp_path):
    said = tool("reproduce.py", ROOT, "--scale", "local", RS5M_DATA=str(tmp_path / "gone"))
    assert (
        said.returncode == 1 and len(said.stderr.splitlines()) == 1 and "RS5M_DATA" in said.stderr
    )


@pytest.mark.slow
def test_an_unreachable_index_is_one_sentence(tmp_path):
    """`make setup` in a copy of the project, the index set to a port that nobody listens on."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "rs5m/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    index = {
        "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple",
        "PIP_RETRIES": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "MAKE", "MFLAGS"))
    }
    said = subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}"],
        cwd=tmp_path,
        env=kept | index,
        capture_output=True,
        text=True,
    )
    assert said.returncode and "make setup cannot reach the package index" in said.stdout
    assert not list((tmp_path / ".venv").glob(".setup-*")), "a failed set-up must not look done"


def test_the_pins_agree():
    pin = "jupyter-book==1.0.4.post1"
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert pin in environment and pin in extras["book"] and pin in constraints
    assert "torch==2.13.0" in constraints and "torchvision==0.28.0" in constraints
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in constraints), (
        "name==version and nothing else"
    )


def test_nothing_that_colab_owns_is_pinned():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert not [line for line in dependencies if "==" in line or "<" in line]


def test_the_makefile_is_short_and_explains_itself():
    text = (ROOT / "Makefile").read_text()
    said = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True).stdout
    targets = re.search(r"^\.PHONY: help (.+)$", text, re.M)[1].split()
    assert len(text.splitlines()) <= 80 and all(f"make {target} " in said for target in targets)


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 443)])
def test_the_guard_blocks_the_network(address):
    with pytest.raises(ConnectionError, match="loopback only"):
        socket.create_connection(address, timeout=1)


def test_the_guard_blocks_datagrams_and_connect_ex():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        pytest.raises(ConnectionError, match="loopback"),
    ):
        datagram.sendto(b"x", ("192.0.2.1", 53))
    with socket.socket() as stream, pytest.raises(ConnectionError, match="loopback"):
        stream.connect_ex(("192.0.2.1", 80))


def test_the_guard_lets_loopback_through():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client,
    ):
        server.accept()[0].sendall(b"hello")
        assert client.recv(5) == b"hello"
