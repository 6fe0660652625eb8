"""Values and pure logic: key, record, tree, verdict. Knows nothing else of the package."""
