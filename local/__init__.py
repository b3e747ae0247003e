"""The same on a laptop: the emulated cloud, the extension's emulator, a real MySQL server."""
