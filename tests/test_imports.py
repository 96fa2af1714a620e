"""Rules of import: the direction between packages, what pure modules stay away from, what gate check may load."""

import ast
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.repositories import Repository, git_env

PROJECT = Path(__file__).parents[1]

# Each package may import itself and those to its right.
ORDER = ("hooks", "gate", "ci")

PURE = (
    "gate/model.py",
    "gate/blame.py",
    "gate/odds.py",
    "gate/flakes.py",
    "gate/trials.py",
    "gate/policy.py",
    "gate/view.py",
    "gate/known.py",
    "gate/plan.py",
    "gate/meddling.py",
    "gate/simulate/batches.py",
    "gate/simulate/paths.py",
    "ci/model.py",
    "ci/proof.py",
    "ci/pipeline.py",
    "ci/culprit.py",
    "ci/deploy/model.py",
    "ci/deploy/plan.py",
)

# What a pure module may import of the standard library: nothing here does I/O, reads a clock or rolls dice.
HARMLESS = {
    *("abc", "bisect", "collections", "dataclasses", "enum", "fnmatch", "fractions", "functools", "graphlib", "hashlib"),
    *("heapq", "itertools", "math", "operator", "re", "statistics", "string", "types", "typing"),
}


def modules(package: str) -> Iterator[Path]:
    return (PROJECT / package).rglob("*.py")


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, absolute module) of every import in a file, also inside functions and under TYPE_CHECKING."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(PROJECT).with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join([*here, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def strings_naming_modules(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every "module:function" string: a table of commands is an import too."""
    return [
        (node.lineno, node.value.partition(":")[0])
        for node in ast.walk(ast.parse(path.read_bytes(), path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(tuple(f"{p}." for p in ORDER))
        if ":" in node.value and all(part.isidentifier() for part in node.value.replace(":", ".").split("."))
    ]


@pytest.mark.parametrize("package", ORDER)
def test_imports_go_down_only(package: str) -> None:
    above = ORDER[: ORDER.index(package)]
    wrong = [
        f"{path.relative_to(PROJECT)}:{line} imports {module}"
        for path in modules(package)
        for line, module in [*imports(path), *strings_naming_modules(path)]
        if module.split(".")[0] in above
    ]
    assert wrong == []


def test_the_product_does_not_import_its_tests() -> None:
    wrong = [
        f"{path.relative_to(PROJECT)}:{line} imports {module}"
        for package in ORDER
        for path in modules(package)
        for line, module in imports(path)
        if module.split(".")[0] in ("tests", "fakes", "benchmarks", "demo", "pytest")
    ]
    assert wrong == []


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_can_do_nothing_but_think(name: str) -> None:
    path = PROJECT / name
    if not path.exists():
        pytest.skip(f"{name} is not there yet")
    pure = {each.removesuffix(".py").replace("/", ".") for each in PURE}
    wrong = [
        f"line {line}: {module}"
        for line, module in imports(path)
        if module.split(".")[0] not in HARMLESS and module not in pure and module.rpartition(".")[0] not in pure
    ]
    assert wrong == []
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"open", "print", "input", "exec", "eval", "__import__"})


# --- what gate check loads ----------------------------------------------------------------------------------------------


def loaded_by_check(repository: Repository, *words: str) -> set[str]:
    """The modules that gate check loads on top of a bare interpreter."""
    # Without site: an editable installation would load half of the standard library for us, and hide the rest.
    program = (
        "import sys; before = set(sys.modules)\n"
        f"sys.path[:0] = [{str(PROJECT)!r}, {sysconfig.get_path('purelib')!r}]\n"
        f"sys.argv = ['gate', 'check', *{list(words)!r}]\n"
        "from hooks.main import main\n"
        "assert main() == 0\n"
        "print(*sorted(set(sys.modules) - before), sep='\\n', file=sys.__stdout__)\n"
    )
    run = [sys.executable, "-S", "-c", program]
    done = subprocess.run(run, cwd=repository.path, env=git_env(), capture_output=True, text=True, check=True)
    # Lines of gate check itself stand before them.
    modules = {line for line in done.stdout.splitlines() if all(part.isidentifier() for part in line.split("."))}
    return {"SHA256" if name in ("_sha2", "_sha256") else name for name in modules}


@pytest.fixture
def ruled(repository: Repository) -> Repository:
    repository.commit("Rules", {"gate.toml": '[[check]]\nname = "whole"\ncommand = "true"\nstage = "pre-commit"\n'})
    return repository


# To find a marker, and to find that every check has a green result.
MARKED = {"hooks", "hooks.main", "hooks.check", "hooks.markers", "hooks.staged", "ci", "ci.digest", "SHA256"}
STORED = MARKED | {"ci.keytable", "zlib", "hooks.known", "hooks.lines"}

# What every ordinary interpreter has loaded before we come.
LOADED_BY_SITE = {"_abc", "_collections_abc", "_stat", "abc", "genericpath", "os", "os.path", "posixpath", "stat"}


def test_with_nothing_to_do_next_to_nothing_is_loaded(ruled: Repository) -> None:
    assert loaded_by_check(ruled) - LOADED_BY_SITE == MARKED
    ruled.write("src/a.py", "A = 2\n")
    ruled.git("add", "src/a.py")
    loaded_by_check(ruled)
    assert loaded_by_check(ruled) - LOADED_BY_SITE == MARKED
    shutil.rmtree(ruled.git_dir / "gate/greens")
    assert loaded_by_check(ruled) - LOADED_BY_SITE == STORED


HEAVY = {
    *(
        "asyncio",
        "concurrent",
        "email",
        "http",
        "importlib.metadata",
        "logging",
        "multiprocessing",
        "unittest",
        "urllib.request",
    ),
    *("alembic", "git", "junitparser", "msgspec", "pathspec", "rich", "sqlalchemy", "starlette", "toml", "uvicorn", "xml"),
}


def test_running_a_check_loads_nothing_heavy(ruled: Repository) -> None:
    ruled.write("src/a.py", "A = 2\n")
    ruled.git("add", "src/a.py")
    loaded = loaded_by_check(ruled)
    assert "ci.run" in loaded
    assert {name for name in loaded if any(name == heavy or name.startswith(f"{heavy}.") for heavy in HEAVY)} == set()
    assert {name for name in loaded if name.startswith("gate.")} <= {"gate.config", "gate.config_values", "gate.toml_lines"}


def test_a_gate_toml_that_was_read_before_is_not_read_again(ruled: Repository) -> None:
    for content in ("A = 2\n", "A = 3\n"):
        ruled.write("src/a.py", content)
        ruled.git("add", "src/a.py")
        loaded = loaded_by_check(ruled)
        assert "ci.run" in loaded
    assert {name for name in loaded if name.split(".")[0] in ("gate", "tomllib")} == set()
    assert not {"tempfile", "hashlib", "ci.deploy.model"} & loaded
    assert not {"dataclasses", "inspect", "hooks.records"} & loaded, "a third of what it took to run a check"


def test_declared_inputs_cost_their_matcher_once_and_no_more(ruled: Repository) -> None:
    check = '[[check]]\nname = "some"\ncommand = "true"\nstage = "pre-commit"\ninputs = ["src/"]\n'
    ruled.commit("Rules", {"gate.toml": check})
    ruled.write("src/a.py", "A = 2\n")
    ruled.git("add", "src/a.py")
    loaded = loaded_by_check(ruled)
    assert {name for name in loaded if name.split(".")[0] in HEAVY} == {
        name for name in loaded if name.split(".")[0] == "pathspec"
    }
    assert "pathspec" in loaded
    ruled.write("src/a.py", "A = 3\n")
    ruled.git("add", "src/a.py")
    loaded = loaded_by_check(ruled)
    assert "ci.run" in loaded
    assert "pathspec" not in loaded, "what matches is in the table that the first run has left"
