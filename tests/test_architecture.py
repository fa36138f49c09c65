"""The import order inside skvae, held by reading its source."""

import ast
from pathlib import Path

import pytest

import skvae

PACKAGE = Path(skvae.__file__).parent
# Dotted names; a package stands for its __init__.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)
TOP_LEVEL = [module for module in MODULES if "." not in module]

# A module may import only from the modules above it.
TABLES = ["_numeric", "_layouts", "_tables", "_columns", "_encoding"]
TORCH = [
    "_latents",
    "_distributions",
    "_modules",
    "_ensemble",
    "_gradients",
    "_objectives",
    "_training",
]
ESTIMATORS = [
    "_linear_start",
    "_gaussian",
    "_units",
    "_completion",
    "_centred",
    "_predictive",
    "_missingness",
    "_filling",
    "_base",
    "_transformer",
    "_draws",
    "_imputer",
    "_context",
    "_convolution",
    "_regressor",
    "_semi_supervised",
    "_label_search",
    "_classifier",
]
LEAVES = ["plotting", "datasets", "inference", "_pool"]
# Imported inside the function that needs them: skvae works without.
OPTIONAL = {"pandas", "polars", "pyarrow", "matplotlib", "rich"}
# Inside plotting, displays import only these, and not each other.
PICTURES = ["_axes", "_cells", "_latents"]


def _imports(module, *, at_import_time=False):
    """Full names of what a module imports, those of skvae as ``skvae.name``."""
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    if not path.exists():
        path = PACKAGE / module / "__init__.py"
    package = ("skvae", *path.relative_to(PACKAGE).parts[:-1])
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _top_level(tree) if at_import_time else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = len(package) + 1 - node.level
            source = ".".join(package[:above]) if node.level else ""
            source = ".".join(part for part in (source, node.module) if part)
            if source == "skvae":  # from . import _modules; from skvae import _modules
                names |= {f"skvae.{alias.name}" for alias in node.names}
            else:
                names.add(source)
    return names


def _top_level(tree):
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


def _local_imports(module):
    return {
        name.split(".")[1] for name in _imports(module) if name.startswith("skvae.")
    } - {"__version__", module.split(".")[0]}


def _libraries(module, **kwargs):
    return {name.split(".")[0] for name in _imports(module, **kwargs)} - {"skvae"}


def test_every_module_has_a_place():
    known = {*TABLES, *TORCH, *ESTIMATORS, *LEAVES}
    assert set(TOP_LEVEL) <= known, "give the new module its place in this file"


@pytest.mark.parametrize("module", TOP_LEVEL)
def test_imports_go_one_way(module):
    if module in LEAVES:
        below = {
            "plotting": {*TABLES, *TORCH, *ESTIMATORS},
            "datasets": set(TABLES),
            "inference": {*TORCH, "_base"},
        }
        allowed = below.get(module, set())
    elif module in TABLES:
        allowed = set(TABLES[: TABLES.index(module)])
    elif module in TORCH:
        allowed = set(TORCH[: TORCH.index(module)])
    else:
        earlier = ESTIMATORS[: ESTIMATORS.index(module)]
        allowed = {*TABLES, *TORCH, *earlier}
    assert _local_imports(module) <= allowed


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("plotting.")])
def test_displays_share_only_what_is_shared(module):
    assert _local_imports(module) <= {*TABLES, *TORCH, *ESTIMATORS}
    inside = {
        name.split(".")[2]
        for name in _imports(module)
        if name.startswith("skvae.plotting.")
    }
    name = module.split(".")[1]
    shared = PICTURES[: PICTURES.index(name)] if name in PICTURES else PICTURES
    assert inside <= set(shared)


@pytest.mark.parametrize("module", [name for name in MODULES if name in TABLES])
def test_tables_know_no_torch(module):
    assert "torch" not in _libraries(module)


@pytest.mark.parametrize("module", MODULES)
def test_only_training_knows_skorch(module):
    assert module == "_training" or "skorch" not in _libraries(module)


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_optional_libraries_are_imported_lazily(module):
    assert not _libraries(module, at_import_time=True) & OPTIONAL
