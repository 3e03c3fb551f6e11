"""For anyone who tests a translator.

- `glupy.testing.gfapi`: a libgfapi client that shows errno, and the attributes before and after
- `glupy.testing.processes`: brick and mount processes that clean up after themselves
- `glupy.testing.volumes`: a glusterd, and volumes that gluster makes
- `glupy.testing.guest`: a command in a virtual machine with another kernel
- `glupy.testing.logs`, `glupy.testing.statedump`: what those processes leave behind, read
- `glupy.testing.machine`: the Hypothesis state machine for the fops on a file's data
- `glupy.testing.stock`: what stock GlusterFS does otherwise in one version than in another
- `glupy.testing.winding`: a translator that only winds
- `glupy.testing.pytest_plugin`: all of it as fixtures
"""
