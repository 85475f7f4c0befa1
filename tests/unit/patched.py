"""Recorded objects, and copies of them with one field changed."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import cast

from fixtures.environment.loading import ROOT
from fixtures.objects.manifest import Body, Manifest
from fixtures.reference.reference import Reference, render

RECORDED = Path(__file__).parent / "recorded"
OVERLAYS = ROOT / "manifests" / "overlays"
ABSENT = object()
"""Given as a value: the field is removed."""


@functools.cache
def recorded_reference() -> Reference:
    """The lab's reference, as kubectl rendered it."""
    return Reference("manifests/overlays/local", render(RECORDED / "reference" / "local.yaml").manifests)


@functools.cache
def rendered(overlay: str) -> Reference:
    """One of this repository's overlays as it is now."""
    return render(OVERLAYS / overlay)


def recorded_live() -> dict[str, Body]:
    """The lab's live objects by kind, namespace and name, as messages show them."""
    return {str(manifest): manifest.body for manifest in _live().manifests}


@functools.cache
def _live() -> Reference:
    return render(RECORDED / "live" / "local.yaml")


def patched(body: Body, pointer: str, value: object) -> Body:
    """A copy with another value at a JSON pointer, `/spec/ports/0/port`; `-` appends to a list."""
    changed = copy.deepcopy(body)
    # RFC 6901: a slash within a key is written ~1.
    *path, last = [step.replace("~1", "/") for step in pointer.split("/")[1:]]
    inner: object = changed
    for step in path:
        inner = inner[int(step)] if isinstance(inner, list) else cast("dict[str, object]", inner)[step]
    if isinstance(inner, list):
        inner[slice(len(inner), None) if last == "-" else slice(int(last), int(last) + 1)] = (
            [] if value is ABSENT else [value]
        )
    elif value is ABSENT:
        del cast("dict[str, object]", inner)[last]
    else:
        cast("dict[str, object]", inner)[last] = value
    return changed


def with_patch(reference: Reference, kind: str, pointer: str, value: object) -> Reference:
    """The reference with one field changed of its only object of a kind; pointer ``""`` removes the object."""
    target = reference.the(kind)
    manifests = [
        Manifest(patched(each.body, pointer, value)) if each is target and pointer else each
        for each in reference.manifests
        if pointer or each is not target
    ]
    return Reference(reference.source, tuple(manifests))


def with_object(reference: Reference, text: str) -> Reference:
    """The reference with one more object, given as JSON."""
    return Reference(reference.source, (*reference.manifests, Manifest(json.loads(text))))
