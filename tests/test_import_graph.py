"""The script that draws the import graph, on a package whose graph is known."""

import import_graph
import pytest

FILES = {
    "__init__.py": "from .shop import Shop\nfrom ._version import __version__\n",
    "_version.py": '__version__ = "1"\n',
    "shop/__init__.py": "from .sales import Shop\n",
    "shop/sales.py": """
from __future__ import annotations
import json
from typing import TYPE_CHECKING
from .. import _version, goods
from . import prices
if TYPE_CHECKING:
    from tiny.goods import Good

class Shop:
    \"\"\"A shop.\"\"\"

    def sell(self, good: Good):
        \"\"\"Sell it,

        or not.
        \"\"\"
        # a comment

        def price():
            return prices.of(
                good
            )

        return price()  # counts
""",
    "shop/prices.py": "def of(good):\n    from .sales import Shop\n    return Shop\n",
    "goods.py": "class Good:\n    def name(self):\n        '''A docstring alone.'''\n",
}


@pytest.fixture
def package(tmp_path):
    """A package of four rooms, with a circle inside one of them."""
    for name, text in FILES.items():
        path = tmp_path / "tiny" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path / "tiny"


def test_a_package_without_arrows_that_run_up(package):
    assert list(import_graph.report(package)) == [
        "floor  3  __init__ -> _version, shop",
        "floor  2  shop -> _version, goods",
        "floor  1  _version -> ",
        "floor  1  goods -> ",
        "rooms: 4",
        "floors: 3",
        "arrows: 4",
        "arrows that run up: 0",
        "circles between files: 1",
        "    shop.prices, shop.sales",
        "files above 700 lines: 0",
        "classes of more than 25 methods: 0",
        # 0 of name, 2 of of, 3 of price, 5 of sell
        "statement lines of functions: median 2.5, 95th percentile 5",
    ]


def test_what_breaks_the_rules_is_named(package):
    methods = "\n".join(f"    def f{i}(self): pass" for i in range(26))
    long = f"class Good:\n{methods}\n" + "\n" * 700 + "import tiny\n"
    (package / "goods.py").write_text(long)
    found = list(import_graph.report(package))
    assert "floors: 3" in found and "arrows: 5" in found
    for title, item in (
        ("arrows that run up: 1", "    goods -> __init__"),
        ("files above 700 lines: 1", f"    goods: {len(long.splitlines())}"),
        ("classes of more than 25 methods: 1", "    goods.Good: 26"),
    ):
        assert found[found.index(title) + 1] == item
    circles = found[found.index("circles between files: 1") + 1].split(", ")
    assert {"goods", "__init__", "shop.sales"} <= {name.strip() for name in circles}
