"""Imports only go down, light things stay light, and every error code is registered."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import t2i
from t2i.errors import CODES

ROOT = Path(t2i.__file__).parent
GROUND = {"errors", "files", "rng", "media", "prompts", "sampling", "schema", "version", "batching", "jsonl"}

#: room -> the rooms that it imports from, besides itself and GROUND; "bundle" is store/ without the registry
ARROWS: dict[str, set[str]] = {
    **{room: set() for room in sorted(GROUND)},
    "diffusion": set(),
    "nets": set(),
    "text": set(),
    "bundle": set(),
    "world": set(),
    "stages": {"diffusion", "nets", "text", "bundle"},
    "pipeline": {"nets", "text", "bundle", "stages"},
    "store": {"bundle"},
    "data": {"world"},
    "edit": {"diffusion", "bundle", "stages", "pipeline"},
    "jobs": {"bundle", "store", "pipeline", "edit"},
    "score": {"nets", "text", "bundle", "store", "world", "jobs"},
    "train": {"diffusion", "nets", "text", "bundle", "stages", "world", "data"},
    "lab": {"bundle", "store", "stages", "pipeline", "edit", "world", "score", "train"},
    "api": {"store", "pipeline", "edit", "jobs", "score"},
    "cli": {"bundle", "store", "jobs", "train", "score"},
}


def room_of(module: str) -> str:
    """t2i.nets.unet -> nets; t2i.store.manifest -> bundle; t2i.store.registry -> store; t2i -> version."""
    parts = module.split(".")[1:]
    if parts[:1] == ["store"]:
        return "bundle" if parts[1:] and parts[1] != "registry" else "store"
    return parts[0] if parts else "version"


@cache
def modules() -> list[tuple[str, ast.Module]]:
    out = []
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(("t2i", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        out.append((name, ast.parse(path.read_text(encoding="utf-8"))))
    return out


def imported(tree: ast.AST, module_name: str) -> set[str]:
    """Dotted names of everything imported anywhere in ``tree``; t2i.x for `from t2i import x` where x is a
    module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module_name.split(".")[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            for alias in node.names:
                child = ROOT.parent / Path(*module.split("."), alias.name)
                if child.is_dir() or child.with_suffix(".py").is_file():
                    names.add(f"{module}.{alias.name}")
    return names


def top_level(tree: ast.Module) -> set[str]:
    """What importing the module imports: not inside functions, not under TYPE_CHECKING."""
    body = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))]
    light = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return imported(ast.Module(body=light, type_ignores=[]), "")


@cache
def arrows() -> dict[tuple[str, str], str]:
    """(room, room that it imports from) -> one such import."""
    out: dict[tuple[str, str], str] = {}
    for name, tree in modules():
        for other in imported(tree, name) - {"t2i.store"}:
            here, there = room_of(name), room_of(other)
            if other.split(".")[0] == "t2i" and name not in ("t2i", "t2i.__main__") and here != there:
                out.setdefault((here, there), f"{name} imports {other}")
    return out


def test_imports_only_go_down() -> None:
    for name, _ in modules():
        assert room_of(name) in {*ARROWS, "__main__"}, f"{name} stands in no room: say in this test where it belongs"
    wrong = [told for (here, there), told in arrows().items() if there not in ARROWS[here] | GROUND]
    assert not wrong, wrong


def test_every_arrow_is_used() -> None:
    found = arrows()
    spare = [f"{here} -> {there}" for here, others in ARROWS.items() for there in others if (here, there) not in found]
    assert not spare, spare


def test_the_arrows_make_no_circle() -> None:
    below: set[str] = set(GROUND)
    while rest := [room for room in ARROWS if room not in below]:
        ready = [room for room in rest if ARROWS[room] <= below]
        assert ready, f"these import one another: {rest}"
        below |= set(ready)


def test_no_class_name_twice() -> None:
    places: dict[str, list[str]] = {}
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, twice


def test_only_the_command_line_imports_its_libraries() -> None:
    for name, tree in modules():
        if room_of(name) != "cli":
            found = {other.split(".")[0] for other in imported(tree, name)} & {"typer", "rich"}
            assert not found, f"{name} imports {found}"


def test_libraries_of_a_few_reports_are_imported_where_they_are_used() -> None:
    for name, tree in modules():
        found = {other.split(".")[0] for other in top_level(tree)} & {"scipy", "jinja2", "junitparser"}
        assert not found, f"{name} imports {found} at its top"


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    light = {"cli", "jobs", "errors", "files", "prompts", "sampling", "schema", "batching", "jsonl"}
    for name, tree in modules():
        if room_of(name) in light or name == "t2i":
            heavy = {other.split(".")[0] for other in top_level(tree)} & {"torch", "numpy", "safetensors", "PIL"}
            assert not heavy, f"{name} imports {heavy} at its top"


def test_no_foreign_library_on_the_way_to_a_picture() -> None:
    foreign = {"diffusers", "transformers", "open_clip", "torchvision"}
    for name, tree in modules():
        if room_of(name) in {"diffusion", "nets", "text", "bundle", "stages", "pipeline"} | GROUND:
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


def test_no_two_classes_have_the_same_name() -> None:
    found: dict[str, list[str]] = {}
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(name)
    assert not {name: places for name, places in found.items() if len(places) > 1}


def test_public_names_are_there_and_lazy() -> None:
    assert set(t2i.__all__) <= set(dir(t2i))
    assert t2i.T2IError is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = t2i.no_such_name
