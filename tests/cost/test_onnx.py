"""Counting what somebody else's model costs: against fvcore, against closed forms, and what cannot be counted."""

from __future__ import annotations

import onnx.shape_inference
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from cmpnas.cost.audit import audit
from cmpnas.cost.module import count_module
from cmpnas.cost.onnx import count_onnx
from cmpnas.errors import DataError
from cmpnas.models import build_network
from cmpnas.space import load_space
from tests.conftest import to_onnx


@pytest.mark.parametrize(("name", "size"), [("tiny", 32), ("mobile_small", 28), ("resnet_small", 32)])
def test_an_exported_network_costs_what_fvcore_counts(name, size, tmp_path):
    space = load_space(name, size=size)
    network = build_network(space, space.extremes()[0]).eval()
    for parameter in network.parameters():  # the exporter stores equal ones once
        nn.init.normal_(parameter)
    found, expected = count_onnx(to_onnx(network, size, tmp_path / "net.onnx")), audit(network, size)
    channels = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert (found.macs, found.params) == (expected.macs, expected.params - channels)  # the exporter folded the norms


class Upsampler(nn.Module):
    """Every kind of convolution, and a linear layer that a product of matrices stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 12, 5, padding=2, groups=12), nn.Conv2d(12, 24, 1, groups=3),
            nn.ConvTranspose2d(24, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2, groups=4),
        )  # fmt: skip
        self.linear = nn.Linear(8, 5)

    def forward(self, images):
        maps = self.layers(images)
        return self.linear(maps.flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize("size", [16, 23])
def test_every_kind_of_convolution_at_any_size(size, tmp_path):
    network, path = Upsampler().eval(), tmp_path / "net.onnx"
    torch.onnx.export(
        network, (torch.zeros(1, 3, 16, 16),), str(path), dynamo=False, input_names=["x"],
        dynamic_axes={"x": {0: "b", 2: "h", 3: "w"}},
    )  # fmt: skip
    found, expected = count_onnx(path, size), audit(network, size)
    assert (found.macs, found.params) == (expected.macs, expected.params)
    assert count_module(network, torch.zeros(1, 3, size, size)) == expected.macs
    assert count_module(torch.jit.script(network), torch.zeros(1, 3, size, size)) == expected.macs


def graph(nodes, weights, outputs=("y",), inputs=(("x", ("b", 3, 16, 16)),), domains=()):
    """A model by hand; ``weights`` maps names to shapes, or to lists of whole numbers."""
    stored = []
    for name, value in weights.items():
        if isinstance(value, list):
            stored.append(helper.make_tensor(name, TensorProto.INT64, [len(value)], value))
        else:
            size = torch.Size(value).numel()
            stored.append(helper.make_tensor(name, TensorProto.FLOAT, value, [0.5] * size))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    opsets = [helper.make_opsetid(domain, 17 if domain == "" else 1) for domain in ("", *domains)]
    return helper.make_model(helper.make_graph(nodes, "by hand", values, ends, stored), opset_imports=opsets)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def test_attention_by_closed_form():
    """Sixteen patches of 4 x 4, three heads of four numbers, and a Gemm of either orientation."""
    heads = {"perm": [0, 2, 1, 3]}
    nodes = [
        node("Conv", "x patch", "p", strides=[4, 4]),  # (1, 12, 4, 4)
        node("Reshape", "p flat", "f"), node("Transpose", "f", "t", perm=[0, 2, 1]),  # (1, 16, 12)
        *(node("MatMul", f"t w{n}", f"{n}0") for n in "qkv"),
        *(node("Reshape", f"{n}0 split", f"{n}1") for n in "qkv"),
        node("Transpose", "q1", "q", **heads), node("Transpose", "v1", "v", **heads),
        node("Transpose", "k1", "k", perm=[0, 2, 3, 1]),
        node("MatMul", "q k", "s"), node("Softmax", "s", "a"), node("MatMul", "a v", "m"),  # (1, 3, 16, 4)
        node("ReduceMean", "m", "r", axes=[2], keepdims=0), node("Flatten", "r", "e"),  # (1, 12)
        node("Gemm", "e g", "e2", transB=1), node("Transpose", "e2", "c"), node("Gemm", "c h", "y", transA=1),
    ]  # fmt: skip
    weights = {"patch": (12, 3, 4, 4), "flat": [0, 12, 16], "split": [0, 16, 3, 4], "g": (7, 12), "h": (7, 9)}
    found = count_onnx(graph(nodes, weights | {f"w{n}": (12, 12) for n in "qkv"}))
    patches, projections, products = 16 * 12 * 48, 3 * 16 * 12 * 12, 2 * 3 * 16 * 16 * 4
    assert found.macs == patches + projections + products + 7 * 12 + 7 * 9
    assert found.params == 12 * 48 + 3 * 144 + 7 * 12 + 7 * 9


CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])
WEIGHTS = {"w": (4, 3, 3, 3), "v": (4, 2)}
PLAIN = 16 * 16 * 4 * 27


def test_only_what_the_outputs_need_is_counted():
    nodes = [CONV, node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y"), node("MatMul", "y v", "z")]
    assert count_onnx(graph(nodes, WEIGHTS, outputs=("y", "z"))).macs == PLAIN + 8
    one = count_onnx(graph(nodes, WEIGHTS, outputs=("y",)))
    assert (one.macs, one.params) == (PLAIN, 4 * 27)


def test_quantised_operators_count_as_what_they_stand_for():
    shapes = {"w8": ((4, 3, 3, 3), TensorProto.INT8), "zero": ((), TensorProto.UINT8), "v8": ((4, 5), TensorProto.INT8)}
    model = graph([
        node("QuantizeLinear", "x scale zero", "q"), node("ConvInteger", "q w8", "i"), node("Cast", "i", "f", to=1),
        node("GlobalAveragePool", "f", "p"), node("Flatten", "p", "e"), node("QuantizeLinear", "e scale zero", "r"),
        node("QLinearConv", "q scale zero w8 scale zw scale zero", "d"), node("MatMulInteger", "r v8", "m"),
        node("Cast", "m", "y", to=1), node("DequantizeLinear", "d scale zero", "z"),
    ], {"scale": ()}, outputs=("y", "z"))  # fmt: skip
    for name, (shape, kind) in (shapes | {"zw": ((), TensorProto.INT8)}).items():
        model.graph.initializer.append(helper.make_tensor(name, kind, shape, [1] * torch.Size(shape).numel()))
    assert count_onnx(model).macs == 2 * 14 * 14 * 4 * 27 + 20
    assert count_onnx(model).params == 4 * 27 + 20


def branch(*nodes):
    end = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    return helper.make_graph(list(nodes), "branch", [], end)


def test_branches_that_multiply_nothing_are_free():
    yes, no = branch(node("Relu", "c", "a")), branch(node("Identity", "c", "b"))
    model = graph([CONV, node("If", "t", "y", then_branch=yes, else_branch=no)], WEIGHTS)
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.BOOL, [], [True]))
    assert count_onnx(model).macs == PLAIN


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph([CONV, node("Einsum", "c", "y", equation="bchw->bc")], WEIGHTS), "Einsum in the ONNX model cannot be"),
        (graph([CONV, node("Attention", "c w", "y", domain="com.microsoft", num_heads=1)], WEIGHTS,
               domains=["com.microsoft"]), "com.microsoft.Attention in the ONNX model cannot be counted; state"),
        (graph([CONV, node("If", "c", "y", then_branch=branch(node("Conv", "c w", "a")),
                           else_branch=branch(node("Relu", "c", "b")))], WEIGHTS), "If in the ONNX model cannot be"),
        (graph([CONV, node("NonZero", "c", "n"), node("Cast", "n", "f", to=1), node("MatMul", "u f", "y")],
               WEIGHTS | {"u": (2, 4)}), "the shape of 'y' in the ONNX model is not known"),
        (graph([node("Flatten", "x", "y")], {}), "multiplies nothing that can be counted"),
        (graph([node("MatMul", "x v", "y")], WEIGHTS), "does not fit pictures of 16 px"),
        (graph([CONV], WEIGHTS, ("c",), [("x", ("b", 3, 16, 16)), ("n", ("b", 2))]), r"has 2 inputs \(x, n\); export"),
        (graph([CONV], WEIGHTS, ("c",), [("x", ("b", 16, 16, 3))]), r"input 'x' is \(\?, 16, 16, 3\); it must be"),
        (graph([CONV], WEIGHTS, ("c",), [("x", ("b", 3, 16, 18))]), r"input 'x' is \(\?, 3, 16, 18\); it must be"),
        (graph([CONV], WEIGHTS, ("c",), [("x", ("b", "c", "h", "w"))]), "takes pictures of any size; state the size"),
    ],
    ids=["einsum", "foreign", "branch", "shape", "nothing", "misfit", "inputs", "channels", "square", "size"],
)  # fmt: skip
def test_what_cannot_be_counted_is_an_error_never_nothing(model, message):
    with pytest.raises(DataError, match=message):
        count_onnx(model)


@pytest.mark.parametrize(("size", "message"), [(17, "takes pictures of 16 px, not 17"), (0, "0 px is not positive")])
def test_another_size_is_refused(size, message):
    with pytest.raises(DataError, match=message):
        count_onnx(graph([CONV], WEIGHTS, ("c",)), size)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09"])
def test_damaged_files_are_named(content, tmp_path):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"net\.onnx is damaged or no ONNX model"):
        count_onnx(tmp_path / "net.onnx")
    with pytest.raises(DataError, match=r"cannot read .*none\.onnx: No such file"):
        count_onnx(tmp_path / "none.onnx")


class Sequence(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images):
        found = self.layer(images[:, 0])
        return (found[0] if isinstance(found, tuple) else found)[:, -1]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Sequence(nn.LSTM(8, 8, batch_first=True)), "rnn"),
        (Sequence(nn.TransformerEncoderLayer(8, 2, batch_first=True)), "encoder_layer"),
        (nn.Flatten(), "multiplies nothing that can be counted"),
        (torch.jit.optimize_for_inference(torch.jit.script(nn.Conv2d(3, 4, 3).eval())), "mkldnn"),
    ],
    ids=["lstm", "transformer", "nothing", "packed"],
)
def test_what_torch_cannot_count_is_an_error(network, message):
    with pytest.raises(DataError, match=message):
        count_module(network.eval(), torch.zeros(1, 3, 8, 8))


def test_attention_in_torch_is_counted():
    class Attention(nn.Module):
        def forward(self, images):
            grown = nn.functional.interpolate(images, (8, 8), mode="bilinear")[:, 0]
            return nn.functional.scaled_dot_product_attention(grown, grown, grown).flatten(1)

    assert count_module(Attention(), torch.zeros(1, 3, 4, 4)) == 2 * 8 * 8 * 8


@pytest.mark.parametrize(
    ("name", "mflops", "params_m"),
    # Published, without the classifier of a thousand classes: 300 - 1.28, 569 - 1.02.
    [("mobilenet_v2_imagenet_a", 299, 2.2), ("mobilenet_v1_imagenet", 568, 3.2)],
)  # fmt: skip
def test_published_models(name, mflops, params_m, data_root):
    path = data_root / "pretrained" / f"{name}.onnx"
    if not path.exists():
        pytest.skip("real data: no pretrained models")
    found = count_onnx(path)
    assert found.mflops == pytest.approx(mflops, abs=1)
    assert found.params_m == pytest.approx(params_m, abs=0.03)


def test_a_counted_model_is_left_as_it_was():
    model = graph([CONV], WEIGHTS, ("c",), [("x", ("b", "c", "h", "w"))])
    before = model.SerializeToString()
    count_onnx(model, 16)
    assert model.SerializeToString() == before


def test_shapes_that_a_graph_stores_for_another_batch_do_not_count():
    nodes = [CONV, node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "f"), node("MatMul", "f v", "y")]
    model = graph(nodes, WEIGHTS, inputs=[("x", (8, 3, 16, 16))])
    model = onnx.shape_inference.infer_shapes(model)
    stored = {value.name: value.type.tensor_type.shape.dim[0].dim_value for value in model.graph.value_info}
    assert stored == {"c": 8, "p": 8, "f": 8}
    assert count_onnx(model).macs == PLAIN + 8
