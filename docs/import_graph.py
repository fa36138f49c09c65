"""Print the import graph between the rooms of a package, and the size of its code.

A room is a subpackage or module at the top level of the package. Its floor is one above
the highest floor that it imports from. Imports for type hints count as well. Give the
folder of a package, or no argument for the package in this repository::

    python docs/import_graph.py [path/to/skvae]
"""

import ast
import math
import statistics
import sys
from pathlib import Path

LONG_FILE, LARGE_CLASS = 700, 25  # lines and methods; more is listed
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def files_of(package):
    """Return the files of a package by dotted name, relative to the package."""
    paths = sorted(package.rglob("*.py"))
    return {".".join(p.relative_to(package).with_suffix("").parts): p for p in paths}


def names_imported(nodes, module, root):
    """Return the full names that statements of a module import."""
    folders, names = module.split(".")[:-1], set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = folders[: len(folders) - node.level + 1]
                source = ".".join([root, *above, source]).rstrip(".")
            # from . import x: x may be a file
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


def holders(names, root, files):
    """Return the files of the package that hold the imported names."""
    found = set()
    for name in names:
        if name.split(".")[0] == root:
            own = name.partition(".")[2]
            above = own.rpartition(".")[0]
            places = (own, f"{own}.__init__", above, f"{above}.__init__".lstrip("."))
            found.add(next(place for place in places if place in files))
    return found


def rooms_of(graph):
    """Return the rooms that every room imports from."""
    rooms = {module.split(".")[0]: set() for module in graph}
    for module, others in graph.items():
        room = module.split(".")[0]
        rooms[room] |= {other.split(".")[0] for other in others} - {room}
    return rooms


def floors_of(rooms):
    """Return the floor of every room, and the arrows that run up.

    The rooms are walked through from the entrance, ``__init__``. An arrow runs up if
    it leads back to a room on the way.
    """
    floors, way, up = {}, [], []

    def visit(room):
        way.append(room)
        for other in sorted(rooms[room]):
            if other in way:
                up.append(f"{room} -> {other}")
            elif other not in floors:
                visit(other)
        floors[room] = 1 + max((floors.get(o, 0) for o in rooms[room]), default=0)
        way.pop()

    for room in sorted(rooms, key=lambda name: (name != "__init__", name)):
        if room not in floors:
            visit(room)
    return floors, up


def circles_of(graph):
    """Return the groups of files that import one another in a circle."""
    reach = {}
    for file in graph:
        reach[file], pending = set(), [file]
        while pending:
            new = graph[pending.pop()] - reach[file]
            reach[file] |= new
            pending += new
    groups = {
        tuple(sorted(o for o in reach[file] if file in reach[o]))
        for file in graph
        if file in reach[file]
    }
    return [", ".join(group) for group in sorted(groups)]


def statement_lines(function, lines):
    """Count the lines of a function's body: no docstring, blank or comment lines."""
    body = function.body[ast.get_docstring(function) is not None :]
    inside = lines[body[0].lineno - 1 : function.end_lineno] if body else []
    return sum(bool(x.strip()) and not x.strip().startswith("#") for x in inside)


def report(package):
    """Yield the lines of the report on a package."""
    files = files_of(package)
    lines = {file: path.read_text("utf-8").splitlines() for file, path in files.items()}
    nodes = {f: list(ast.walk(ast.parse("\n".join(lines[f])))) for f in files}
    graph = {
        f: holders(names_imported(nodes[f], f, package.name), package.name, files) - {f}
        for f in files
    }
    rooms = rooms_of(graph)
    floors, up = floors_of(rooms)
    for room in sorted(rooms, key=lambda name: (-floors[name], name)):
        yield f"floor {floors[room]:2d}  {room} -> {', '.join(sorted(rooms[room]))}"
    yield f"rooms: {len(rooms)}"
    yield f"floors: {max(floors.values())}"
    yield f"arrows: {sum(map(len, rooms.values()))}"
    yield from listed("arrows that run up", up)
    yield from listed("circles between files", circles_of(graph))
    long_files = {f: len(lines[f]) for f in files if len(lines[f]) > LONG_FILE}
    yield from listed(f"files above {LONG_FILE} lines", long_files.items())
    methods = {
        f"{f}.{node.name}": sum(isinstance(part, FUNCTIONS) for part in node.body)
        for f in files
        for node in nodes[f]
        if isinstance(node, ast.ClassDef)
    }
    large = [item for item in methods.items() if item[1] > LARGE_CLASS]
    yield from listed(f"classes of more than {LARGE_CLASS} methods", large)
    lengths = sorted(
        statement_lines(node, lines[f])
        for f in files
        for node in nodes[f]
        if isinstance(node, FUNCTIONS)
    )
    median, high = (
        statistics.median(lengths),
        lengths[math.ceil(0.95 * len(lengths)) - 1],
    )
    yield f"statement lines of functions: median {median:g}, 95th percentile {high}"


def listed(title, found):
    """Yield the number of items, then the items."""
    yield f"{title}: {len(found)}"
    for one in found:
        yield "    " + (one if isinstance(one, str) else "{}: {}".format(*one))


if __name__ == "__main__":
    beside = Path(__file__).resolve().parents[1] / "skvae"
    path = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else beside
    print("\n".join(report(path)))
