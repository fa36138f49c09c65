"""Every public object has a complete numpydoc docstring."""

import doctest
import importlib
import inspect

import pytest

import skvae

validate = pytest.importorskip("numpydoc.validate").validate

MODULES = ["skvae", "skvae.datasets", "skvae.inference", "skvae.plotting"]
IGNORED = {
    "GL01",  # the summary starts on the line of the quotes
    "GL02",  # the quotes of a one-line docstring close on its line
    "ES01",  # no extended summary
    "RT02",  # a returned value has a name, as in scikit-learn
    "SA01",  # no "See Also"
    "SA04",  # "See Also" without a description
}
# Classes and functions carry an example; their methods and properties need not.
IGNORED_FOR_MEMBERS = IGNORED | {"EX01"}


def _public_modules():
    return map(importlib.import_module, MODULES)


def _is_documented_member(member):
    return callable(member) or isinstance(member, property | classmethod | staticmethod)


def _public_names():
    """Yield full names: classes and functions, then the members that skvae defines."""
    for module in _public_modules():
        for name in sorted(module.__all__):
            public = getattr(module, name)
            if not (inspect.isclass(public) or inspect.isfunction(public)):
                continue
            yield f"{module.__name__}.{name}", IGNORED
            if inspect.isclass(public):
                for member in sorted(_own_members(public)):
                    yield f"{module.__name__}.{name}.{member}", IGNORED_FOR_MEMBERS


def _own_members(public):
    """Names of public methods and properties that come from skvae, not scikit-learn."""
    return {
        name
        for base in public.__mro__
        if base.__module__.startswith("skvae")
        for name, member in vars(base).items()
        if not name.startswith("_") and _is_documented_member(member)
    }


@pytest.mark.parametrize(("name", "ignored"), list(_public_names()))
def test_docstring_is_complete(name, ignored):
    errors = [
        f"{code}: {text}"
        for code, text in validate(name)["errors"]
        if code not in ignored
    ]
    assert not errors, f"{name}\n" + "\n".join(errors)


def test_the_docstrings_are_found():
    names = [name for name, _ in _public_names()]
    assert "skvae.VAETransformer.fit" in names
    assert "skvae.datasets.load_penguins" in names


def test_examples_of_public_classes_are_collected():
    """Their ``__module__`` is skvae, so pytest finds them in ``skvae/__init__.py``."""
    found = doctest.DocTestFinder(exclude_empty=True).find(skvae, "skvae")
    assert {test.name for test in found if test.examples} == {
        "skvae.Checkpoint",
        "skvae.VAEClassifier",
        "skvae.VAEImputer",
        "skvae.VAERegressor",
        "skvae.VAETransformer",
        "skvae.pool",
    }
