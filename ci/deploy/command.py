"""Turns a configured command into an argument vector and an environment. Data never enters a shell string.

Placeholders of a string become shell parameters, quoted for the place where they stand; those of a list become (part of)
one argument. Braces around any other word belong to the shell and stay.
"""

import os
import re
from collections.abc import Mapping, Sequence

PLACEHOLDERS = ("target", "commit", "previous", "environment", "wave")

_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_SHELL_TOKEN = re.compile(_PLACEHOLDER.pattern + r"|\\.|.", re.DOTALL)

_KEPT_VARIABLES = ("PATH", "HOME", "LANG")


def arguments(command: str | tuple[str, ...], values: Mapping[str, str]) -> tuple[str, ...]:
    """The argument vector. values: by placeholder name; a string needs them in its environment too, see ``environ``."""
    if isinstance(command, str):
        return ("/bin/sh", "-c", _with_parameters(command), "sh")
    return tuple(_PLACEHOLDER.sub(lambda found: values[found[1]], word) for word in command)


def _with_parameters(script: str) -> str:
    """Replace each placeholder by its parameter so that the value stays one word, also inside the author's own quotes."""
    out: list[str] = []
    quote = ""
    for token in _SHELL_TOKEN.finditer(script):
        text, name = token[0], token[1]
        if name is not None:
            parameter = f"${{GATE_{name.upper()}}}"
            out.append({"": f'"{parameter}"', '"': parameter, "'": f"'\"{parameter}\"'"}[quote])
            continue
        if text in ("'", '"') and quote in ("", text):
            quote = "" if quote else text
        elif quote == "'" and text == "\\'":  # a backslash is nothing special in there: this quote ends it
            quote = ""
        out.append(text)
    return "".join(out)


def environ(values: Mapping[str, str], more: Mapping[str, str], pass_env: Sequence[str]) -> dict[str, str]:
    """The environment of a command: built, with the daemon's own only as far as ``pass_env`` names it."""
    env = {name: os.environ[name] for name in (*_KEPT_VARIABLES, *pass_env) if name in os.environ}
    env.setdefault("PATH", os.defpath)
    return env | {f"GATE_{name.upper()}": value for name, value in values.items()} | dict(more)
