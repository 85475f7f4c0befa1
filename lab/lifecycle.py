"""Up and down: one lab per machine, healed or rebuilt by the next `up`, gone without a trace after `down`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from lab import faults, layout
from lab.build.cache import PACKAGE, Artifact, lab_digest
from lab.build.images import image_store, images
from lab.build.materials import artifacts
from lab.machine import cgroups, host, network
from lab.machine.processes import CommandFailedError
from lab.parts import Part, parts

LOCK = layout.CACHE / "lock"
RECORD = layout.STATE / "lab.json"
SYSCTLS = layout.STATE / "sysctls.json"
MOUNT_POINTS = layout.STATE / "mount-points.json"


class LabError(Exception):
    """The lab could not be brought up; the text says what was expected, what was seen, where to look."""


def say(text: str) -> None:
    """One line for whoever watches, at once."""
    print(text, flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other commands that change the lab waiting until this one is done."""
    layout.CACHE.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is changing the lab: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def boot_id() -> str:
    """Different after every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def record() -> dict[str, str]:
    """What the lab on this machine was built from, and in which boot; empty if there is none."""
    try:
        known: dict[str, str] = json.loads(RECORD.read_text())
    except FileNotFoundError:
        return {}
    return known


def up(checkout: Path) -> None:
    """Bring the lab up, or heal it, or replace one that was built from something else."""
    started = time.monotonic()
    with alone():
        wanted = {"digest": lab_digest(), "boot": boot_id()}
        host.check(cache_is_complete=image_store().built)
        build()
        if record() and record() != wanted:
            say(f"the lab on this machine {_difference(wanted)}: replacing it")
            _take_down()
        for name in faults.active():
            say(f"healing the fault {name}")
            faults.heal(name)
        _prepare(wanted)
        changed = _raise_parts()
        link = checkout / ".lab"
        link.unlink(missing_ok=True)
        link.symlink_to(layout.USER)
    seconds = time.monotonic() - started
    say(f"the lab is up ({seconds:.1f} s)" if changed else f"the lab was up already ({seconds:.1f} s)")


def _difference(wanted: dict[str, str]) -> str:
    if record()["boot"] != wanted["boot"]:
        return "was lost when the machine went down"
    return "was built from other sources"


def _prepare(wanted: dict[str, str]) -> None:
    """Make the lab's directory; an incomplete one has no record and is made anew."""
    if record():
        return
    _take_down()
    shutil.rmtree(layout.LOGS, ignore_errors=True)
    for directory in (layout.STATE, layout.LOGS, layout.FAULTS_DIR, layout.USER):
        directory.mkdir(parents=True, exist_ok=True)
    (layout.USER / "logs").symlink_to(layout.LOGS)
    host.make_mount_points(MOUNT_POINTS)
    host.save_sysctls(SYSCTLS)
    shutil.copytree(PACKAGE, layout.SOURCE / "lab", ignore=shutil.ignore_patterns("__pycache__", "versions"))
    RECORD.write_text(json.dumps(wanted))


def build() -> None:
    """Install and build everything that is missing, saying which step runs, how long it took and what is next."""
    if installed := host.install_packages():
        say(f"installed from Debian: {', '.join(installed)}")
    host.check_nftables()
    steps: list[Artifact] = [*artifacts().values(), *images().values(), image_store()]
    missing = [step for step in steps if not step.built]
    minutes = sum(step.minutes for step in missing)
    if not missing:
        return
    say(f"{len(steps) - len(missing)} of {len(steps)} artifacts are in {layout.CACHE}")
    say(f"building {len(missing)}: about {minutes:.0f} min on 2 cores")
    for number, step in enumerate(missing, start=1):
        following = f", next: {missing[number].name}" if number < len(missing) else ""
        say(f"[{number:2}/{len(missing)}] {step.name}: about {step.minutes:g} min{following}")
        before = time.monotonic()
        step.build()
        say(f"        {step.name}: {time.monotonic() - before:.0f} s")


def _raise_parts() -> bool:
    """Start every part that is not ready, each as soon as what it needs is; whether any was started."""
    everything = {part.name: part for part in parts()}
    order = TopologicalSorter({part.name: part.needs for part in everything.values()})
    order.prepare()
    changed = False
    given_up = threading.Event()
    with ThreadPoolExecutor(max_workers=len(everything)) as pool:
        running: dict[Future[float | None], str] = {}
        try:
            while order.is_active():
                running |= {pool.submit(_raise, everything[name], given_up): name for name in order.get_ready()}
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    if (seconds := future.result()) is not None:
                        changed = True
                        say(f"  {name:<24}{seconds:6.1f} s")
                    order.done(name)
        finally:
            given_up.set()
    return changed


def _raise(part: Part, given_up: threading.Event) -> float | None:
    """Seconds until the part was ready, or None if it was so already. Ends early when another part has failed."""
    if _is_ready(part):
        return None
    started = time.monotonic()
    part.start()
    pause = 0.1
    while not _is_ready(part) and not given_up.wait(pause):
        if time.monotonic() - started > part.within:
            seen = _last_error.get(part.name, "not ready")
            raise LabError(
                f"expected: {part.name} ready within {part.within:.0f} s; seen: {seen}; look next: `python -m lab logs`"
            )
        # What is not ready at once is waiting for others; asking them all the time would only slow them down.
        pause = min(pause * 1.5, 1.5)
    return time.monotonic() - started


_last_error: dict[str, str] = {}


def _is_ready(part: Part) -> bool:
    """Whether the part is ready; a question that cannot be asked yet is answered by no."""
    try:
        return part.ready()
    except CommandFailedError as error:
        _last_error[part.name] = str(error)
        return False


def down() -> None:
    """Take the lab down, whatever state it is in. Its logs stay until the next one starts."""
    started = time.monotonic()
    with alone():
        _take_down()
    say(f"the lab is down ({time.monotonic() - started:.1f} s); its logs are in {layout.LOGS}")


def _take_down() -> None:
    """End every process of the lab, then remove what they used. Needs nothing of the lab to be intact."""
    cgroups.kill_all()
    network.stop()
    cgroups.remove()
    host.restore_sysctls(SYSCTLS)
    host.remove_mount_points(MOUNT_POINTS)
    if not layout.STATE.exists():
        return
    for path in layout.STATE.iterdir():
        if path != layout.LOGS:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def status() -> dict[str, bool]:
    """Every part and whether it is ready."""
    everything = list(parts())
    with ThreadPoolExecutor(max_workers=len(everything)) as pool:
        return dict(zip((part.name for part in everything), pool.map(_is_ready, everything), strict=True))
