"""What the next commit says of what was found red in the background. As part of every commit it imports next to nothing."""

# ruff: noqa: PTH123

from os import fsdecode

from hooks.staged import ask_git

SAID = "gate/said"  # in the work tree's git folder: a commit that was found red, and words for it (hooks/worker.py)


def reminder(git_dir: str) -> str:
    """A line that says what was found red in the background in the history of HEAD; or nothing."""
    try:
        with open(f"{git_dir}/{SAID}", "rb") as file:
            commit, _, found = fsdecode(file.read()).rstrip().partition(" ")
    except OSError:
        return ""
    (is_elsewhere, _), (failed, count) = ask_git(
        ("merge-base", "--is-ancestor", commit, "HEAD"), ("rev-list", "--count", f"{commit}..HEAD")
    )
    if is_elsewhere or failed:
        return ""
    ago = int(count)
    when = f"{ago} commit{'s' if ago > 1 else ''} ago" if ago else "HEAD"
    return f"gate: {when}: {found} (gate local says more)\n"
