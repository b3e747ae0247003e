"""Checks a deployed environment through AWS's public APIs, with the shell's credentials (`make verify ENV=dev`)."""
