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

# Files that still ask for the class or the name of a likelihood: none may be added.
EXEMPT = {"_estimators.base", "_estimators.imputer", "_estimators.regressor"}

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


def test_only_training_knows_skorch():
    knows = {room_of(module) for module in FILES if "skorch" in libraries(module)}
    assert knows == {"_training"}


@pytest.mark.parametrize("module", FILES)
def test_optional_libraries_are_imported_lazily(module):
    assert not libraries(module, at_import_time=True) & OPTIONAL


def head_classes():
    """Names of the classes of likelihoods: Head and what inherits from it."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for module in FILES
        if room_of(module) == "_distributions"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ClassDef)
    }
    found = {"Head"}
    while True:
        more = {name for name, above in bases.items() if above & found} - found
        if not more:
            return found
        found |= more


def asks_for_a_likelihood(node, heads):
    """Whether an expression tells likelihoods apart by class or by their names."""
    if isinstance(node, ast.MatchClass):
        return names_in(node.cls) & heads
    if isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
        return names_in(node) & heads
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called in ("isinstance", "issubclass"):
        return names_in(node.args[1]) & heads
    return called.endswith(".startswith") and any(
        isinstance(part, ast.Constant) and part.value in ("normal", "student_t")
        for argument in node.args
        for part in ast.walk(argument)
    )


def names_in(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def test_only_distributions_tell_likelihoods_apart():
    heads = head_classes()
    assert heads > {"Normal", "Bernoulli", "Categorical", "Poisson"}
    asking = {
        module
        for module in FILES
        if "_distributions" in ALLOWED[room_of(module)]
        and any(
            asks_for_a_likelihood(node, heads) for node in ast.walk(tree_of(module))
        )
    }
    assert asking == EXEMPT


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(head, Normal)",
        "isinstance(head, discrete.Bernoulli | Poisson)",
        "isinstance(head, (int, StudentT))",
        "type(head) is Ordinal",
        "issubclass(kind, LocationScale)",
        "name.startswith(('normal', 'student_t'))",
        "match head:\n    case Codes(): pass",
    ],
)
def test_asking_for_a_likelihood_is_seen(source):
    heads = head_classes()
    nodes = list(ast.walk(ast.parse(source)))
    assert any(asks_for_a_likelihood(node, heads) for node in nodes)
    other = ast.walk(ast.parse("isinstance(x, Column) and name.startswith('other')"))
    assert not any(asks_for_a_likelihood(node, heads) for node in other)
