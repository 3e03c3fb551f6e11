"""For anyone who tests a translator.

- `glupy.testing.gfapi`: a libgfapi client that shows errno, and the attributes before and after
- `glupy.testing.processes`: brick and mount processes that clean up after themselves
- `glupy.testing.volumes`: a glusterd, and volumes that gluster makes
- `glupy.testing.volfile_server`: what glusterd does for clients that want no volfile of their own
- `glupy.testing.qemu`: disk images in volumes, by QEMU's tools
- `glupy.testing.guest`: a command in a virtual machine with another kernel
- `glupy.testing.logs`, `glupy.testing.statedump`: what those processes leave behind, read
- `glupy.testing.fuzz`: sequences of fops on any graph, a model of what is right, what differs
- `glupy.testing.strategies`: Hypothesis strategies for offsets, lengths, flags and names
- `glupy.testing.failing`: a translator that fails the fops that it is told to
- `glupy.testing.stock`: what stock GlusterFS does otherwise in one version than in another
- `glupy.testing.bare`: translators that only pass on, or wind
- `glupy.testing.pytest_plugin`: all of it as fixtures
"""
