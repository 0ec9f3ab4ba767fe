"""Tables that are opened but not read: in memory, of any library, or in files."""
