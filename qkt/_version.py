"""The version, in the one place the build and ``qkt version`` both read."""

__version__ = "0.1.0"
