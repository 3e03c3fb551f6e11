"""How the extension ``glupy._bridge`` is made: C that is written, and C that is generated."""
