"""The rooms of the package and their allowed imports, checked on the source."""

import ast
from functools import cache
from pathlib import Path

import import_graph
import pytest

import skvae

PACKAGE = Path(skvae.__file__).parent

# Every room with the rooms that it may import, in three layers, the lowest first.
CORE = {
    "_tables": {"_validation"},
    "_distributions": set(),
    "_networks": {"_distributions"},
    "_training": {"_container", "_distributions", "_networks", "_validation"},
}
BELOW_MODELS = {*CORE, "_validation"}
MODELS = {
    "_density": BELOW_MODELS,
    "_imputation": {*BELOW_MODELS, "_density"},
    "_semi_supervised": {*BELOW_MODELS, "_density"},
    "_conditional": {*BELOW_MODELS, "_density"},
}
PUBLIC_API = {
    "_estimators": {*BELOW_MODELS, *MODELS, "_container", "_version"},
    "plotting": {*BELOW_MODELS, *MODELS, "_estimators"},
    "datasets": {"_tables", "_validation"},
    "inference": {"_distributions", "_training", "_validation"},
}
ENTRANCE = {
    "__init__": {"_container", "_estimators", "_imputation", "_training", "_version"},
    "_container": set(),
    "_validation": set(),
    "_version": set(),
    "data": set(),
}
ALLOWED = {**CORE, **MODELS, **PUBLIC_API, **ENTRANCE}

# Imported inside the function that needs them: skvae works without.
OPTIONAL = {"pandas", "polars", "pyarrow", "matplotlib", "rich", "safetensors"}
# Inside plotting, displays import only these, and not each other.
PICTURES = ["_axes", "_animation_page", "_columns", "_priors", "_latents", "_display"]

FILES = import_graph.files_of(PACKAGE)


def room_of(module):
    return module.split(".")[0]


@cache
def tree_of(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def imported(module, *, at_import_time=False):
    """Full names of what a module imports, those of skvae as its files' names."""
    tree = tree_of(module)
    nodes = top_level(tree) if at_import_time else ast.walk(tree)
    return frozenset(import_graph.names_imported(nodes, module, "skvae"))


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
    return import_graph.holders(imported(module), "skvae", FILES) - {module}


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


def test_tables_know_no_torch_and_the_core_knows_no_frames():
    for module in FILES:
        if room_of(module) in ("_tables", "_validation", "_container", "datasets"):
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
        *("read", "build", "fill", "levels"),
        *("replace_marker", "missing_mask", "mask_cells"),
    }


def test_only_training_knows_skorch():
    knows = {room_of(module) for module in FILES if "skorch" in libraries(module)}
    assert knows == {"_training"}


@pytest.mark.parametrize("module", FILES)
def test_optional_libraries_are_imported_lazily(module):
    assert not libraries(module, at_import_time=True) & OPTIONAL


FIT = {"fit", "partial_fit"}  # where constructor parameters are read
ESTIMATORS = [
    skvae.VAEClassifier,
    skvae.VAEImputer,
    skvae.VAERegressor,
    skvae.VAETransformer,
]


def methods_of(estimator):
    """Syntax trees of the methods that an estimator has from skvae, by name."""
    found = {}
    for room in ("base", estimator.__name__.removeprefix("VAE").lower()):
        for node in tree_of(f"_estimators.{room}").body:
            if isinstance(node, ast.ClassDef):
                found |= {
                    n.name: n for n in node.body if isinstance(n, ast.FunctionDef)
                }
    return found


def attributes_read(node):
    """Names that a method reads from self."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
        and isinstance(part.ctx, ast.Load)
    }


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_inference_reads_no_constructor_parameter(estimator):
    methods, parameters = methods_of(estimator), set(estimator().get_params())
    public = {name for name in methods if not name.startswith("_")} - FIT
    assert {"score_samples", "score"} <= public
    pending, seen = [*public, "__getstate__", "__setstate__"], set()
    while pending:
        name = pending.pop()
        if name not in methods or name in seen:
            continue
        seen.add(name)
        read = attributes_read(methods[name])
        assert not read & parameters, f"{name} reads {read & parameters}"
        pending += read


def test_estimators_override_two_methods_and_the_hooks_of_scikit_learn():
    hooks = {"__init__", "__sklearn_tags__", "_read", "_build", "score", "fit"}
    base = {
        node.name
        for top in tree_of("_estimators.base").body
        if isinstance(top, ast.ClassDef)
        for node in top.body
        if isinstance(node, ast.FunctionDef)
    }
    for estimator in ESTIMATORS:
        (own,) = (
            node
            for node in tree_of(
                f"_estimators.{estimator.__name__.removeprefix('VAE').lower()}"
            ).body
            if isinstance(node, ast.ClassDef) and node.name == estimator.__name__
        )
        names = {node.name for node in own.body if isinstance(node, ast.FunctionDef)}
        assert names & base <= hooks, names & base


def test_models_do_not_inherit_from_each_other():
    models = ["VAEModel", "ImputationModel", "LabelledModel", "M1M2Model"]
    models.append("ConditionalModel")
    found = {}
    for module in FILES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ClassDef) and node.name in models:
                found[node.name] = node.bases
    assert sorted(found) == sorted(models)
    assert not any(found.values())


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
    assert not asking


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
