"""What the lab is made of, built once from package registries and kept under the hash of its inputs.

Nothing of a running lab is here.
"""
