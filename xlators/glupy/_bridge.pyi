# The cffi extension. Its functions are checked by the C compiler, and in Python by cffi at the call:
# stating their types here once more would be a second truth.
from typing import Any

import cffi

ffi: cffi.FFI
lib: Any
