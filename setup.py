"""The one thing that setup.cfg cannot say: which C extensions cffi builds."""

from setuptools import setup

setup(
    cffi_modules=[
        "xlators/glupy/bridge/build.py:ffibuilder",
        "xlators/glupy/testing/build_gfapi.py:ffibuilder",
    ]
)
