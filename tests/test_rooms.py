"""The rooms' doors open one way: what each module may import."""

from __future__ import annotations

import ast
from pathlib import Path

import usage_explore

SOURCE = Path(usage_explore.__file__).parent
ORDER = [
    "errors",
    "parse",
    "filters",
    "question",
    "query",
    "cursor",
    "statements",
    "rollup/serving",
    "points",
    "aggregation",
    "paths",
    "store",
    "checks/running",
]


def imported(path: Path) -> set[str]:
    """Every module a file imports, those only for type checking left out."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, set[str]]:
    return {str(path.relative_to(SOURCE).with_suffix("")): imported(path) for path in SOURCE.rglob("*.py")}


def test_imports_run_one_way() -> None:
    found = modules()
    for place, name in enumerate(ORDER):
        later = {f"usage_explore.{other.replace('/', '.')}" for other in ORDER[place + 1 :]}
        assert not found[name] & later, name


def test_only_the_app_imports_streamlit() -> None:
    for name, names in modules().items():
        uses = any(word.split(".")[0] == "streamlit" for word in names)
        assert not uses or name.startswith("app/"), name


def test_faces_of_an_answer_never_see_sqlalchemy() -> None:
    found = modules()
    for name, names in found.items():
        if name in ("frames", "answers", "describe", "numbers", "arrow") or name.startswith("charts"):
            assert not any(word.split(".")[0] in ("sqlalchemy", "psycopg") for word in names), name
            assert "usage_explore.store" not in names, name


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    ]
    assert readers == ["config.py"]


def test_the_public_names_are_few_and_sorted() -> None:
    assert usage_explore.__all__ == sorted(usage_explore.__all__)
    assert len(usage_explore.__all__) <= 14
    assert all(hasattr(usage_explore, name) for name in usage_explore.__all__)
