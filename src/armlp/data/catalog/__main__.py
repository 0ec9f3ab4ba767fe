"""Print the list of data sets."""

from armlp.data.catalog import table

print(table())
