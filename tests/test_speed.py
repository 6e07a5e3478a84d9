from types import SimpleNamespace

import pytest

from benchmarks.speed.profile import _kind

SCOPES = {
    "loop_multiply_fusion_3": "jit(step)/jvp(Net)/net/checkpoint/up_0/items_3/block_0/norm/mul",
    "input_reduce_fusion": "jit(step)/transpose(jvp(Net))/net/checkpoint/rematted_computation/down_1/items_2/norm/add",
    "cudnn_conv_7": "jit(step)/transpose(jvp(Net))/net/up_0/conv/conv_general_dilated",
}


@pytest.mark.parametrize(
    ("kernel", "operation", "kind"),
    [
        ("loop_multiply_fusion_3", "command_buffer_12", "block/norm"),
        ("input_reduce_fusion", "input_reduce_fusion", "backward items/norm"),
        ("sm90_xmma_dgrad_implicit_gemm_bf16", "cudnn-conv.7", "backward convolutions"),
        ("sm90_xmma_fprop_implicit_gemm_bf16", "command_buffer_1", "convolutions"),
        ("nvjet_sm90_tst_128x128", "command_buffer_1", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop", "command_buffer_1", "attention"),
        ("loop_convert_fusion_9", "command_buffer_1", "loop_convert_fusion_9"),
    ],
)
def test_a_kernel_is_told_by_its_name_or_by_the_operation_that_called_it(kernel, operation, kind):
    assert _kind(SimpleNamespace(name=kernel, stats=[("hlo_op", operation)]), SCOPES) == kind
