"""What `invoke` finds first; the commands themselves are in the tasks/ package."""

import sys

# Invoke loads this file under the name "tasks", which would hide the package of
# that name. Step aside, so that the import below finds tasks/__init__.py.
sys.modules.pop(__name__, None)

from tasks import ns  # noqa: E402, F401
