"""The rules of the house that a machine can hold: who imports whom, sizes, names, where settings are read."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAY_IMPORT = {
    "shared": {"shared"},
    "gateway": {"gateway", "shared"},
    "validator": {"validator", "shared"},
    "services": {"services", "gateway", "validator", "shared"},
}
SOURCES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
SAYS_NOTHING = re.compile(r"^(utils?|helpers?|common|core|base|manager|service)$")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package):
    for path in (ROOT / package).rglob("*.py"):
        ours = imported_packages(path) & set(MAY_IMPORT)
        assert ours <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


def test_services_do_not_import_each_other_except_where_the_whole_is_put_together():
    composing = {"standalone", "cli"}
    for path in (ROOT / "services").rglob("*.py"):
        own = path.relative_to(ROOT / "services").parts[0]
        if own in composing:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("services."):
                assert node.module.split(".")[1] == own, f"{path.relative_to(ROOT)} imports {node.module}"


def test_files_stay_below_500_lines_and_functions_below_60():
    long_files = [str(path.relative_to(ROOT)) for path in SOURCES if len(path.read_text().splitlines()) > 500]
    long_functions = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno > 60
    ]
    assert (long_files, long_functions) == ([], [])


def test_no_module_has_a_name_that_excludes_nothing():
    assert [str(path) for path in SOURCES if SAYS_NOTHING.match(path.stem)] == []


def test_the_environment_is_read_only_by_the_settings():
    readers = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv")
        and path.relative_to(ROOT).as_posix() != "shared/settings.py"
    ]
    assert readers == []


def test_no_broad_handler_swallows():
    swallowing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
        and all(isinstance(part, ast.Pass | ast.Continue | ast.Return) for part in node.body)
    ]
    assert swallowing == []


def test_no_package_registry_is_named():
    # spelled in pieces, so that this file names none
    hosts = re.compile(
        r"pypi\." + r"org|pythonhosted\." + r"org|npmjs\." + r"org|deb\.debian\." + r"org|crates\." + r"io"
    )
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    named = [
        name for name in listed if (ROOT / name).is_file() and hosts.search((ROOT / name).read_text(errors="replace"))
    ]
    assert named == []
