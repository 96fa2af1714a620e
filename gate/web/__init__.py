"""Git over HTTP, in front of git's own ``http-backend``."""
