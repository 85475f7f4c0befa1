"""Stand-ins for what Google runs: small, and able to fail on request.

Each is a process of its own, which `lab.google_processes` starts; nothing here knows of the machine under it.
"""
