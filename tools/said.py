"""The numbers of the prose, as the last run at scale mini found them -> book/said.json, from which
tools/notebooks.py fills the text of the Colab siblings.

    make reproduce && python tools/said.py && make notebooks
"""

import argparse
import json
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
FILE = Path("book") / "said.json"


def values(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """name -> repr of what `rs5m.results.glue` kept in an executed notebook."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    kept = (o for o in outputs if "scrapbook" in o.get("metadata", {}))
    return {o.metadata.scrapbook.name: next(iter(o.data.values())) for o in kept}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of _toc.yml")
    parser.add_argument("--ran", type=Path, help="executed notebooks, runs/mini/book by default")
    options = parser.parse_args(arguments)
    path, ran = options.root / FILE, options.ran or options.root / "runs" / "mini" / "book"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for file in sorted(ran.glob("*.ipynb")):
        if found := values(nbformat.read(file, 4)):
            known[file.stem] = found
    text = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    print(f"{FILE}: {sum(map(len, known.values()))} values of {len(known)} pages")


if __name__ == "__main__":
    main()
