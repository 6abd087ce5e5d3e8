"""The message when a device has too little memory. The tests of the models show where it is used."""

from __future__ import annotations

import pytest

from errors import DeviceMemoryError
from system.device import Device, choose_device, computes_bfloat16, is_out_of_memory, out_of_memory_explained

CARD = Device("cuda", "NVIDIA L40S, 44 GiB", "float16", "bfloat16")
OF_CTRANSLATE2 = RuntimeError("CUDA failed with error out of memory")


def test_work_that_needs_too_much_is_explained_with_what_to_turn():
    said = pytest.raises(DeviceMemoryError)
    with said as caught, out_of_memory_explained("transcribing 16 windows at once", "stop other programs"):
        raise OF_CTRANSLATE2
    assert str(caught.value) == (
        "the device ran out of memory while transcribing 16 windows at once; stop other programs"
        " (CUDA failed with error out of memory)"
    )


def test_the_memory_of_the_host_counts_as_the_devices():
    said = pytest.raises(DeviceMemoryError, match="while scoring 3 texts at once; score fewer")
    with said, out_of_memory_explained("scoring 3 texts at once", "score fewer"):
        raise MemoryError


def test_another_error_of_the_library_stays_what_it_is():
    with pytest.raises(RuntimeError, match="an illegal instruction"), out_of_memory_explained("scoring", "x"):
        raise RuntimeError("an illegal instruction was encountered")


def test_a_model_that_does_not_fit_is_named_with_the_device():
    assert is_out_of_memory(OF_CTRANSLATE2)
    assert str(CARD.too_small("the speech model in /m", OF_CTRANSLATE2)) == (
        "NVIDIA L40S, 44 GiB has too little memory for the speech model in /m; stop other programs that use this "
        "memory, or use a device with more (CUDA failed with error out of memory)"
    )


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 9 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_library_that_lacks_memory_is_understood(said):
    assert is_out_of_memory(RuntimeError(said))


def test_a_cpu_computes_verdicts_in_float32_unless_a_person_chose_otherwise():
    assert choose_device("cpu").dtype == "float32"
    assert choose_device("cpu", "float32").dtype == "float32"
    assert choose_device("cpu", "bfloat16").dtype == "bfloat16"


def test_a_cpu_says_whether_it_computes_bfloat16():
    assert computes_bfloat16("flags : fpu avx512_vnni avx512_bf16 vpclmulqdq")
    assert computes_bfloat16("flags : amx_tile amx_bf16 amx_int8")
    assert computes_bfloat16("Features : fp asimd i8mm bf16 dgh")
    assert not computes_bfloat16("flags : fpu avx2 avx512f")
