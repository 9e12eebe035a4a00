"""What is read of the graphs that OpenVINO and ONNX Runtime ran: kernels, types of weights, what was computed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from tests.methods.runner_module import runner_module


def value(kind: str, shape: tuple[int, ...], layer: str) -> SimpleNamespace:
    """An input of a node, as OpenVINO's runtime model has it."""
    return SimpleNamespace(
        get_node=lambda: SimpleNamespace(get_rt_info=lambda: {"layerType": layer}),
        get_element_type=lambda: SimpleNamespace(get_type_name=lambda: kind),
        get_partial_shape=lambda: SimpleNamespace(to_shape=lambda: shape),
    )


def node(info: Mapping[str, str], *inputs: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(get_rt_info=lambda: info, input_value=lambda place: inputs[place])


def compiled(*nodes: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(get_runtime_model=lambda: SimpleNamespace(get_ordered_ops=lambda: list(nodes)))


def product(kernel: str, weights: str, math: str, shape: tuple[int, ...] = (64, 32)) -> SimpleNamespace:
    info = {"layerType": "FullyConnected", "primitiveType": kernel, "runtimePrecision": weights}
    return node(info, value(math, (1, 1, 32), "RMS"), value("f16", shape, "Const"))


def attention(kernel: str, cache: str) -> SimpleNamespace:
    info = {"layerType": "ScaledDotProductAttention", "primitiveType": kernel, "kv_cache_precision": cache}
    return node(info)


def test_openvinos_kernels_and_types_are_those_of_its_runtime_model() -> None:
    between = node(
        {"layerType": "MatMul", "primitiveType": "jit_f32"}, value("f32", (1,), "RMS"), value("f32", (1,), "RMS")
    )
    ran = runner_module("kasoku_openvino_graph").Ran(
        compiled(
            product("brgemm_avx512_bf16", "u8", "bf16"),
            product("brgemm_avx512_bf16", "u4", "bf16", (128, 32)),
            product("jit_f32", "f32", "f32", (4, 4)),
            between,
            attention("avx512_bf16", "bf16"),
            attention("undef_bf16", "bf16"),
        )
    )

    assert ran.product_kernels == {"FullyConnected brgemm_avx512_bf16": 2, "FullyConnected jit_f32": 1}
    assert ran.attention_kernels == {"ScaledDotProductAttention avx512_bf16": 1, "ScaledDotProductAttention": 1}
    assert ran.weight_bytes == {"u8": 64 * 32, "u4": 128 * 32 // 2, "f32": 4 * 4 * 4}
    assert ran.weight_types[-1] == "f32"
    assert ran.dtype == "bfloat16"
    assert ran.kv_types == ["bf16"]


def test_a_model_that_has_not_run_shows_no_kernel_and_none_without_products_a_type() -> None:
    graph = runner_module("kasoku_openvino_graph")

    assert graph.Ran(compiled(attention("undef_bf16", "bf16"))).attention_kernels == {"ScaledDotProductAttention": 1}
    assert graph.Ran(compiled()).dtype is None


def test_onnx_runtimes_profile_says_what_ran_where_and_on_what(tmp_path: Path) -> None:
    def event(op: str, *kinds: str) -> dict[str, object]:
        shapes = [{kind: [1, 4]} for kind in kinds]
        said = {"op_name": op, "provider": "CPUExecutionProvider", "input_type_shape": shapes}
        return {"cat": "Node", "args": said}

    session = {"cat": "Session", "args": {}}
    events = [session, event("MatMulNBits", "float", "uint8"), event("MatMulNBits", "float"), event("Gather", "int64")]
    (tmp_path / "profile_1.json").write_text(json.dumps(events))
    profile = runner_module("kasoku_onnx_graph").Profile(tmp_path)

    assert profile.calls == {"MatMulNBits": 2, "Gather": 1}
    assert profile.providers == ["CPUExecutionProvider"]
    assert profile.product_types == {"float": 2}
