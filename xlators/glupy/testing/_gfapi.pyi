# The compiled extension: glupy.testing.gfapi is the typed side of it.
from typing import Any

ffi: Any
lib: Any
