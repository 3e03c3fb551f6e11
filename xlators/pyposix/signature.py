"""What bit-rot detection keeps of a file, in one answer (``trusted.glusterfs.get-signature``).

features/bit-rot-stub above judges it; what is missing is left out.
"""

from __future__ import annotations

from glupy import keys
from glupy.views import Dict
from pyposix import xattrs
from pyposix.xattrs import Target


def of(target: Target) -> Dict:
    """Return a file's version and signature as they are stored, and the signature's length."""
    found = Dict()
    size = 0
    for key in keys.BITROT_VERSION, keys.BITROT_SIGNATURE:
        value = xattrs.find(target, key)
        if value is not None:
            found[key] = value
            if key == keys.BITROT_SIGNATURE:
                size = len(value)
    found.set_uint(keys.BITROT_SIZE, size)
    return found
