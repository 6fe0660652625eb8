"""For a machine on which nothing can be started any more."""

import codecs

for _name in ("ascii", "unicode_escape"):
    codecs.lookup(_name)  # now, or the first file that is opened or the first odd name imports a module
