"""The exceptions that mean "cannot continue". Expected outcomes are return values; anything else raised is our bug."""


class UserError(Exception):
    """Input or configuration that its owner can correct. Exit code 2. Never retried."""


class Unavailable(Exception):
    """Something outside failed: git, disk, journal, network. Exit code 4. May work later."""
