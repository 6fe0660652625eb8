"""For a machine on which nothing can be started any more."""
