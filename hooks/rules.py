"""What ``gate check`` needs of gate.toml, kept in a form that is read in no time.

To read gate.toml takes longer to load than to do: the format, every section and its every error. The same file comes with
nearly every commit, so what was made of it once is kept below ``gate`` in the repository's common Git folder, under its
blob id. Only a file that was right is kept, and none that names folders, whose files have a say as well.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci import RUNTIME
from ci.model import Check, Stage

if TYPE_CHECKING:
    from gate.config import Config

CONFIG_NAME = "gate.toml"  # as gate.config has it, which is long to load
RULES = "gate/rules"  # one file: of the gate.toml that was read last


class Rules:
    """The checks, and of sections [hooks] and [run] what has a say here; names and units are those of gate/config.py."""

    __slots__ = (
        "budget_s",
        "cache_age_s",
        "cache_size_bytes",
        "checks",
        "link",
        "log_max_bytes",
        "pass_env",
        "pool_size_bytes",
    )

    def __init__(
        self,
        checks: tuple[Check, ...],
        *,
        budget_s: float,
        link: tuple[str, ...],
        cache_age_s: float,
        cache_size_bytes: int,
        pool_size_bytes: int,
        pass_env: tuple[str, ...],
        log_max_bytes: int,
    ) -> None:
        self.checks = checks
        self.budget_s = budget_s
        self.link = link
        self.cache_age_s = cache_age_s
        self.cache_size_bytes = cache_size_bytes
        self.pool_size_bytes = pool_size_bytes
        self.pass_env = pass_env
        self.log_max_bytes = log_max_bytes

    @classmethod
    def of(cls, config: "Config") -> "Rules":
        hooks, run = config.hooks, config.run
        return cls(
            config.checks,
            budget_s=hooks.budget_s,
            link=hooks.link,
            cache_age_s=hooks.cache_age_s,
            cache_size_bytes=hooks.cache_size_bytes,
            pool_size_bytes=hooks.pool_size_bytes,
            pass_env=run.pass_env,
            log_max_bytes=run.log_max_bytes,
        )


def kept_rules(common_dir: str, blob: str | None, content: Callable[[], bytes], read: "Callable[[bytes], Config]") -> Rules:
    """The rules of the gate.toml with this blob id; None: nobody knows it. content, read: for when it was not read before.

    Raises what these raise.
    """
    path = Path(common_dir, RULES)
    known = _found(path, blob) if blob is not None else None
    if known is not None:
        return known
    text = content()
    config = read(text)
    rules = Rules.of(config)
    # Somebody may have staged another since the id was asked for.
    if blob is not None and not config.nested.folders and _is_blob(blob, text):
        _keep(path, blob, rules)
    return rules


def _is_blob(blob: str, content: bytes) -> bool:
    import hashlib  # long to load, and needed once for each gate.toml

    found = hashlib.new(
        "sha1" if len(blob) == 40 else "sha256", b"blob %d\0" % len(content) + content, usedforsecurity=False
    )
    return found.hexdigest() == blob


def _found(path: Path, blob: str) -> Rules | None:
    try:
        version, of_blob, checks, others = json.loads(path.read_bytes())
        if (version, of_blob) != (RUNTIME, blob):
            return None
        return Rules(tuple(map(_check, checks)), **_frozen(others))
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):  # none, or none of ours
        return None


def _check(fields: dict[str, Any]) -> Check:
    return Check(**{**_frozen(fields), "stage": Stage(fields["stage"])})


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _as_tuple(value) for name, value in fields.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _keep(path: Path, blob: str, rules: Rules) -> None:
    checks = [{name: getattr(check, name) for name in Check._fields} for check in rules.checks]
    others = {name: getattr(rules, name) for name in Rules.__slots__ if name != "checks"}
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):  # then it is read again
        path.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished.write_text(json.dumps([RUNTIME, blob, checks, others]), encoding="utf-8")
        unfinished.replace(path)
