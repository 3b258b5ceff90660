"""Imports only go down, light things stay light, and every error code is registered."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import t2i
from t2i.errors import CODES

ROOT = Path(t2i.__file__).parent
GROUND = {"errors", "files", "rng", "config", "media", "prompts", "sampling", "schema", "version", "batching", "jsonl"}
MATHS = {"diffusion", "nets", "text"}
#: the files of a bundle, without any network
BUNDLE = {"store.bundle", "store.compatibility", "store.completeness", "store.manifest"}
BUNDLE |= {"store.search_path", "store.shared_stages", "store.tensors"}

#: room -> the rooms it may import from, besides itself
MAY: dict[str, set[str]] = {
    **dict.fromkeys(GROUND | MATHS | BUNDLE, GROUND),
    "stages": GROUND | MATHS | BUNDLE,
    "pipeline": GROUND | MATHS | BUNDLE | {"stages"},
    "world": GROUND | {"text", "nets"},
    "data": GROUND | {"world", "text"},
    "store": GROUND | MATHS | BUNDLE | {"stages", "pipeline", "edit"},
    "edit": GROUND | MATHS | BUNDLE | {"stages", "pipeline"},
    "score": GROUND | BUNDLE | {"jobs", "text", "nets", "world", "stages", "pipeline", "store"},
    "train": GROUND | MATHS | BUNDLE | {"stages", "pipeline", "world", "data"},
    "lab": GROUND | MATHS | BUNDLE | {"stages", "pipeline", "store", "edit", "world", "data", "train", "score"},
    "jobs": GROUND | BUNDLE | {"store", "stages", "pipeline", "edit"},
    "api": GROUND | BUNDLE | {"jobs", "store", "pipeline", "edit", "score"},
    "cli": GROUND | BUNDLE | {"jobs", "store", "pipeline", "edit", "train", "world", "score", "stages", "diffusion"},
}
for room in BUNDLE:
    MAY[room] = GROUND | BUNDLE


def room_of(module: str) -> str:
    """t2i.store.bundle -> store.bundle; t2i.nets.unet -> nets; t2i.store.registry -> store."""
    parts = module.split(".")[1:]
    if ".".join(parts[:2]) in BUNDLE:
        return ".".join(parts[:2])
    return parts[0] if parts else "version"


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


def test_imports_only_go_down() -> None:
    wrong = []
    for name, tree in modules():
        here = room_of(name)
        if name in ("t2i", "t2i.__main__"):
            continue
        assert here in MAY, f"{name} stands in no room: say in this test where it belongs"
        for other in imported(tree, name):
            if other.split(".")[0] == "t2i" and other != "t2i.store":
                there = room_of(other)
                if there not in MAY[here] | {here, "version"}:
                    wrong.append(f"{name} imports {other}")
    assert not wrong, wrong


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
        if room_of(name) in MATHS | BUNDLE | GROUND | {"stages", "pipeline"}:
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
