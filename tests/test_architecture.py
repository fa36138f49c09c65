"""The rooms of the house and what each may import, held by reading the source."""

import ast
from functools import cache
from pathlib import Path

import pytest

import skvae

PACKAGE = Path(skvae.__file__).parent

# Every room with the rooms that it may import: three rows of four, read from below.
SPINE = {
    "_tables": {"_validation"},
    "_distributions": set(),
    "_networks": {"_distributions"},
    "_training": {"_distributions", "_networks", "_validation"},
}
BELOW_MODELS = {*SPINE, "_validation"}
MODELS = {
    "_density": BELOW_MODELS,
    "_imputation": {*BELOW_MODELS, "_density"},
    "_semi_supervised": {*BELOW_MODELS, "_density"},
    "_conditional": {*BELOW_MODELS, "_density"},
}
DOORS = {
    "_estimators": {*BELOW_MODELS, *MODELS, "_version"},
    "plotting": {*BELOW_MODELS, *MODELS, "_estimators"},
    "datasets": {"_tables"},
    "inference": {"_distributions", "_training", "_validation"},
}
ENTRANCE = {
    "__init__": {"_estimators", "_imputation", "_version"},
    "_validation": set(),
    "_version": set(),
    "data": set(),
}
ALLOWED = {**SPINE, **MODELS, **DOORS, **ENTRANCE}

# Imported inside the function that needs them: skvae works without.
OPTIONAL = {"pandas", "polars", "pyarrow", "matplotlib", "rich"}
# Inside plotting, displays import only these, and not each other.
PICTURES = ["_axes", "_cells", "_latents"]


def dotted(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


FILES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module):
    return module.split(".")[0]


@cache
def tree_of(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def imported(module, *, at_import_time=False):
    """Full names of what a module imports, those of skvae as its files' names."""
    package = FILES[module].relative_to(PACKAGE).parts[:-1]
    tree = tree_of(module)
    names = set()
    for node in top_level(tree) if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                source = ".".join(["skvae", *above, *source.split(".")]).rstrip(".")
            # from . import x; from skvae._room import x: x may be a file
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return frozenset(names)


def top_level(tree):
    """Statements that run on import, those under ``if TYPE_CHECKING`` left out."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def files_imported(module):
    """The files of skvae that a module imports from, type hints included."""
    found = set()
    for name in imported(module):
        if not name.startswith("skvae."):
            continue
        own = name.removeprefix("skvae.")
        candidates = [own, f"{own}.__init__", own.rpartition(".")[0]]
        candidates.append(f"{candidates[-1]}.__init__".lstrip("."))
        found.add(next(name for name in candidates if name in FILES))
    return found - {module}


def libraries(module, **kwargs):
    return {name.split(".")[0] for name in imported(module, **kwargs)} - {"skvae"}


def test_every_file_is_in_a_room():
    assert {room_of(module) for module in FILES} <= set(ALLOWED)


@pytest.mark.parametrize("module", FILES)
def test_imports_go_one_way(module):
    rooms = {room_of(name) for name in files_imported(module)}
    assert rooms <= {*ALLOWED[room_of(module)], room_of(module)}


def test_no_file_imports_itself_around_a_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, [*path, module]
        if module not in done:
            path.append(module)
            for name in files_imported(module):
                visit(name)
            path.remove(module)
            done.add(module)

    for module in FILES:
        visit(module)


def test_displays_share_only_what_is_shared():
    for module in FILES:
        if room_of(module) != "plotting" or module == "plotting.__init__":
            continue
        name = module.split(".")[1]
        shared = PICTURES[: PICTURES.index(name)] if name in PICTURES else PICTURES
        inside = {n for n in files_imported(module) if room_of(n) == "plotting"}
        assert inside <= {f"plotting.{name}" for name in shared}, module


def test_tables_know_no_torch_and_the_spine_knows_no_frames():
    for module in FILES:
        if room_of(module) in ("_tables", "_validation", "datasets"):
            assert not libraries(module) & {"torch", "skorch"}, module
        if room_of(module) in ("_distributions", "_networks", "_training"):
            assert not libraries(module) & {"narwhals", *OPTIONAL}, module


def test_each_frame_library_has_one_file():
    for library in ("pandas", "polars", "pyarrow"):
        knows = {module for module in FILES if library in libraries(module)}
        examples = {"datasets"} if library == "pandas" else set()
        assert knows == {f"_tables.{library}_table", *examples}


def test_every_library_offers_the_same():
    own = [f"_tables.{name}_table" for name in ("numpy", "pandas", "polars", "pyarrow")]
    functions = [
        {
            (node.name, *(argument.arg for argument in node.args.args))
            for node in tree_of(module).body
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        }
        for module in own
    ]
    shared = set.intersection(*functions)
    assert {name for name, *_ in shared} == {
        *("read", "build", "cells", "fill"),
        *("replace_marker", "missing_mask", "mask_cells"),
    }


def test_only_training_knows_skorch():
    knows = {room_of(module) for module in FILES if "skorch" in libraries(module)}
    assert knows == {"_training"}


@pytest.mark.parametrize("module", FILES)
def test_optional_libraries_are_imported_lazily(module):
    assert not libraries(module, at_import_time=True) & OPTIONAL
