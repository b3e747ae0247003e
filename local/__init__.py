"""The local cloud: an emulator of AWS's APIs, an emulator of the extension, and a real MySQL server."""
