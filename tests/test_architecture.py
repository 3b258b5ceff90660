"""Imports only go down, light things stay light, and every error code is registered."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import t2i
from t2i.errors import CODES

ROOT = Path(t2i.__file__).parent

#: The files in the root that every room may use. They import one another only.
GROUND = {
    "errors", "files", "jsonl", "schema", "sampling", "prompts", "batching", "rng", "engine", "version", "torch_import",
}  # fmt: skip

#: Each room and the rooms that it imports, from the top down.
ROOMS: dict[str, set[str]] = {
    "lab": {"train", "score", "edit", "pipeline", "stages", "nets", "store", "world", "media", "ground"},
    "cli": {"train", "score", "serve", "jobs", "stages", "store", "media", "ground"},
    "train": {"data", "pipeline", "stages", "diffusion", "nets", "text", "store", "world", "media", "ground"},
    "data": {"world", "media", "ground"},
    "api": {"score", "jobs", "edit", "pipeline", "store", "media", "ground"},
    "score": {"jobs", "stages", "nets", "text", "store", "world", "media", "ground"},
    "serve": {"jobs", "store", "ground"},
    "jobs": {"open", "edit", "pipeline", "store", "media", "ground"},
    "open": {"edit", "store", "media", "ground"},
    "edit": {"pipeline", "stages", "diffusion", "store", "world", "media", "ground"},
    "pipeline": {"stages", "nets", "text", "store", "media", "ground"},
    "stages": {"diffusion", "nets", "text", "store", "ground"},
    "diffusion": {"ground"},
    "nets": {"ground"},
    "text": {"ground"},
    "store": {"ground"},
    "world": {"ground"},
    "media": {"ground"},
    "ground": set(),
}


def room_of(module: str) -> str:
    """t2i.nets.unet -> nets; t2i.files -> ground, and so is t2i itself, which holds the version."""
    name = (module.split(".") + ["version"])[1]
    return "ground" if name in GROUND else name


@cache
def modules() -> list[tuple[str, ast.Module]]:
    out = []
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("t2i", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        out.append((name, ast.parse(path.read_text(encoding="utf-8"))))
    return out


def for_types_only(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:`"""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(tree: ast.AST, types: bool = True) -> set[str]:
    """Dotted names of all modules imported in `tree`, inside functions too; types: also for the type checker."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports are absolute"
            for alias in node.names:
                child = ROOT.parent / Path(*node.module.split("."), alias.name)
                is_module = child.is_dir() or child.with_suffix(".py").is_file()
                names.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif types or not for_types_only(node):
            names |= imported(node, types)
    return names


def top_level(tree: ast.Module) -> set[str]:
    """What importing the module imports: not inside functions, not for the type checker."""
    light = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return imported(ast.Module(body=light, type_ignores=[]))


def arrows() -> dict[tuple[str, str], str]:
    """(room, another room that it imports) -> one such import."""
    found: dict[tuple[str, str], str] = {}
    for name, tree in modules():
        if name in ("t2i", "t2i.__main__"):  # the one offers the names of the api, the other starts the cli
            continue
        for other in imported(tree):
            if other.split(".")[0] == "t2i" and room_of(other) != room_of(name):
                found[room_of(name), room_of(other)] = f"{name} imports {other}"
    return found


def test_each_room_imports_what_the_table_says() -> None:
    """Neither more nor less: a permission that no import needs is a fault, too."""
    found, allowed = arrows(), {(room, below) for room, others in ROOMS.items() for below in others}
    wrong = [line for arrow, line in found.items() if arrow not in allowed]
    assert not wrong, wrong
    assert not allowed - set(found)


def test_imports_only_go_down() -> None:
    order = list(ROOMS)
    up = [f"{a} -> {b}" for a, below in ROOMS.items() for b in below if order.index(b) <= order.index(a)]
    assert not up, up


def test_no_imports_in_a_circle() -> None:
    """Of modules, at run time: imports inside functions count, those for the type checker do not."""
    names = {name for name, _ in modules()}
    graph = {name: imported(tree, types=False) & names - {"t2i"} for name, tree in modules() if name != "t2i"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_class_name_twice() -> None:
    homes: dict[str, list[str]] = {}
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    twice = {cls: where for cls, where in homes.items() if len(where) > 1}
    assert not twice, twice


PACKAGES = [ROOT / room for room in ROOMS if (ROOT / room).is_dir() and room != "lab"]  # each file there is a program


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_says_what_is_where(package: Path) -> None:
    """Its docstring is a map: it names every file and folder, and none that is not there."""
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    named = set(re.findall(r"\b\w+\.py\b|\b\w+/(?=[\s:)])", said))
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert named == files | folders


def test_only_the_command_line_imports_its_libraries() -> None:
    for name, tree in modules():
        if room_of(name) != "cli":
            found = {other.split(".")[0] for other in imported(tree)} & {"typer", "rich"}
            assert not found, f"{name} imports {found}"


def test_libraries_of_a_few_reports_are_imported_where_they_are_used() -> None:
    for name, tree in modules():
        found = {other.split(".")[0] for other in top_level(tree)} & {"scipy", "jinja2", "junitparser"}
        assert not found, f"{name} imports {found} at its top"


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    light = {"t2i", "cli", "serve", "jobs", "errors", "files", "prompts", "sampling", "schema", "batching", "jsonl"}
    light.add("torch_import")
    for name, tree in modules():
        if name.removeprefix("t2i.").split(".")[0] in light:
            heavy = {other.split(".")[0] for other in top_level(tree)} & {"torch", "numpy", "safetensors", "PIL"}
            assert not heavy, f"{name} imports {heavy} at its top"


def test_no_foreign_library_on_the_way_to_a_picture() -> None:
    foreign = {"diffusers", "transformers", "open_clip", "torchvision"}
    for name, tree in modules():
        if room_of(name) in {"ground", "media", "diffusion", "nets", "text", "store", "stages", "pipeline"}:
            assert not {other.split(".")[0] for other in top_level(tree)} & foreign, name


def test_help_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from t2i.cli.app import run; code = run(['--help']);"
        "heavy = [m for m in ('torch', 'numpy', 'PIL', 'rich', 'pydantic') if m in sys.modules];"
        "sys.stderr.write(repr(heavy)); sys.exit(code or bool(heavy))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_error_code_used_is_registered() -> None:
    for path in ROOT.rglob("*.py"):
        for code in re.findall(r"\bcode=\"(\w+)\"", path.read_text(encoding="utf-8")):
            assert code in CODES, f"{path.name}: {code}"


@pytest.mark.parametrize("word", ["torch.manual_seed", "torch.seed(", "np.random.seed"])
def test_no_global_randomness(word: str) -> None:
    # torch's initialisers know no generator: a seed inside fork_rng leaves the global state as it was
    texts = {p: p.read_text(encoding="utf-8") for p in ROOT.rglob("*.py")}
    assert not [p for p, text in texts.items() if text.count(word) > text.count("torch.random.fork_rng(")]


def test_normal_draws_name_their_generator() -> None:
    drawing = {"randn", "rand", "randint", "randperm", "normal", "bernoulli", "multinomial"}
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in drawing:
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id == "torch":
                    assert any(k.arg == "generator" for k in node.keywords), f"{name}:{node.lineno}"


def test_public_names_are_there_and_lazy() -> None:
    assert set(t2i.__all__) <= set(dir(t2i))
    assert t2i.T2IError is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = t2i.no_such_name
