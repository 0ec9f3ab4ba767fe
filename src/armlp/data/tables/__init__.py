"""Tables: read into a panel, and written back."""
