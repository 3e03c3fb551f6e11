"""The bridge against two ends in C that know nothing of it.

`near` winds a fop to a Python translator and sees its answer, `far` stands in for that translator's
child (`ends.c`, `ends.py`). Both write what they give and what they get as text; what one end gave
is what the other end must get.
"""
