"""The devices torch can use on this machine, and their free memory. Any thread may call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Device:
    """A device that a model can be loaded on."""

    name: str
    """The value for `load_checkpoint(device=…)`."""
    description: str
    memory_bytes: int | None
    """Total memory; `None` where torch does not report it."""
    free_bytes: int | None


def devices_present() -> list[Device]:
    """The devices torch finds; `auto` takes the first one."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index), total, free))
    found.append(Device("cpu", f"{torch.get_num_threads()} threads", None, None))
    return found


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its launched work; returns at once on a CPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Memory of a GPU available for new tensors: free memory and what torch has reserved but not used. `None`
    elsewhere."""
    import torch

    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
