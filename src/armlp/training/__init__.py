"""Where Lightning trains."""
