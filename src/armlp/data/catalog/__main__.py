"""List the data sets that have a name."""

from armlp.data.catalog import table

print(table())
