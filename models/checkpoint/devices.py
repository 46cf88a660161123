"""What torch can run on here. Any thread may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Device:
    """One device a model can be put on."""

    name: str
    """As `load_checkpoint(device=…)` takes it."""
    description: str
    memory_bytes: int | None
    """In all; None where torch does not tell."""
    free_bytes: int | None


def devices_present() -> list[Device]:
    """The devices torch finds, the one that `auto` takes first."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index), total, free))
    found.append(Device("cpu", f"{torch.get_num_threads()} threads", None, None))
    return found


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what was launched on it; processors have done it already."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Memory of a GPU that new tensors can have: what nobody holds, and what torch holds unused. None elsewhere."""
    import torch

    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
