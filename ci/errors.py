"""The exceptions that mean "cannot continue". Expected outcomes are return values; anything else raised is our bug."""


class UserError(Exception):
    """Input or configuration that its owner can correct. Exit code 2. Never retried."""


class Unavailable(Exception):  # noqa: N818 - a state of the world, named in the design
    """Something outside failed: git, disk, journal, network. Exit code 4. May work later."""
