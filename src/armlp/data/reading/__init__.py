"""Reading: tables of any library and layout into the flat store of a panel, a part at a time."""
