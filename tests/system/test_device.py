"""The message when a device has too little memory. The tests of the models show where it is used."""

from __future__ import annotations

import pytest

from errors import DeviceMemoryError
from system.device import Device, is_out_of_memory, out_of_memory_explained

CARD = Device("cuda", "NVIDIA L40S, 44 GiB", "float16", "bfloat16")
OF_CTRANSLATE2 = RuntimeError("CUDA failed with error out of memory")


def test_work_that_needs_too_much_is_explained_with_what_to_turn():
    with pytest.raises(DeviceMemoryError) as caught, out_of_memory_explained("transcribing 16 windows at once"):
        raise OF_CTRANSLATE2
    assert str(caught.value) == (
        "the device ran out of memory while transcribing 16 windows at once; reduce BATCH_SIZE"
        " (CUDA failed with error out of memory)"
    )


def test_the_memory_of_the_host_counts_as_the_devices():
    said = pytest.raises(DeviceMemoryError, match="while scoring 3 texts at once; score fewer")
    with said, out_of_memory_explained("scoring 3 texts at once", "score fewer"):
        raise MemoryError


def test_another_error_of_the_library_stays_what_it_is():
    with pytest.raises(RuntimeError, match="an illegal instruction"), out_of_memory_explained("scoring"):
        raise RuntimeError("an illegal instruction was encountered")


def test_a_model_that_does_not_fit_is_named_with_the_device():
    assert is_out_of_memory(OF_CTRANSLATE2)
    assert str(CARD.too_small("the speech model in /m", OF_CTRANSLATE2)) == (
        "NVIDIA L40S, 44 GiB has too little memory for the speech model in /m; stop other programs that use this "
        "memory, or use a device with more (CUDA failed with error out of memory)"
    )
