"""Where runs take place: this machine (``local``)."""
