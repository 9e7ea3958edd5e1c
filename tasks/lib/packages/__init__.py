"""Building the platform's pieces from package registries: Go modules, PyPI, Debian (source `packages`)."""
