"""Stand-ins for what Google runs: small, and able to fail on request."""
