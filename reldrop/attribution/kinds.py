"""Which rule propagates relevance through which operation of a network. Whatever is not listed here has none."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from reldrop.utils.point_ops import align, ball_query, farthest_points, gather_points

# The kinds:
#   linear      a sum of inputs, weighted by parameters; batch norm behind it is merged into it
#   batch_norm  a fixed affine map in evaluation mode
#   norm_max    batch norm, then ReLU, then a maximum over points
#   relu, add   as they say
#   average     a sum of inputs, weighted by constants
#   select      some of the inputs, each passed on as it is (max pooling, indexing, joining)
#   reshape     all of the inputs, in another shape
#   pass        nothing in evaluation mode
#   layer_norm  centring, and a division by a standard deviation that is taken as given
#   gelu        a product of the input with a factor that depends on it, which is taken as given
#   attention   softmax(q k') v, see rules.attention
#   scale       a product with parameters, channel by channel
#   choice      a decision made from the inputs (indices, matrices), or a constant, taken as given; so is whatever is made
#               of such values alone
#   gate        a product of the first input with the others, which are taken as given: all relevance goes to the
#               first (as to the signal of a gate, Arras et al. 2017)

# Exact types, not subclasses: a subclass may compute something else.
LAYERS = {
    nn.Conv2d: "linear",
    nn.Linear: "linear",
    nn.BatchNorm2d: "batch_norm",
    nn.BatchNorm1d: "batch_norm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "select",
    nn.AvgPool2d: "average",
    nn.AdaptiveAvgPool2d: "average",
    nn.Flatten: "reshape",
    nn.Identity: "pass",
    nn.Dropout: "pass",
    nn.Dropout2d: "pass",
    nn.LayerNorm: "layer_norm",
    nn.GELU: "gelu",
}
# By name, so that their libraries need not be imported here.
NAMED_LAYERS = {
    "timm.layers": {
        "DropPath": "pass",
        "DropBlock2d": "pass",
        "FastAdaptiveAvgPool": "average",
        "BlurPool2d": "average",
        "LayerNorm": "layer_norm",
        "GELU": "gelu",
        "LayerScale": "scale",
        "PatchDropout": "pass",
    },
    "timm.models.vision_transformer": {"LayerScale": "scale"},
    "reldrop.backbones": {
        "PointNorm": "batch_norm",
        "GroupedLinear": "linear",
        "NormMax": "norm_max",
        "TransformNet": "choice",
    },
}
FUNCTIONS: dict[Any, str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    F.relu: "relu",
    torch.relu: "relu",
    F.max_pool2d: "select",
    F.avg_pool2d: "average",
    F.adaptive_avg_pool2d: "average",
    torch.flatten: "reshape",
    torch.cat: "select",
    operator.getitem: "select",
    getattr: "choice",  # of shapes
    F.dropout: "pass",
    F.gelu: "gelu",
    F.scaled_dot_product_attention: "attention",
    farthest_points: "choice",
    ball_query: "choice",
    gather_points: "select",
    align: "gate",
}
METHODS = {
    "add": "add",
    "add_": "add",
    "relu": "relu",
    "relu_": "relu",
    "mean": "average",
    "size": "choice",
    **dict.fromkeys(("flatten", "reshape", "view", "permute", "transpose", "unbind", "contiguous"), "reshape"),
}
# Not to be traced into: they look at shapes, or decide.
OPAQUE_FUNCTIONS = (farthest_points, ball_query, gather_points, align)


def layer_kind(module: nn.Module) -> str | None:
    """Return the kind of a module that is one operation; None for any other."""
    layer = type(module)
    for library, kinds in NAMED_LAYERS.items():
        if layer.__module__.startswith(library):
            return kinds.get(layer.__name__)
    return LAYERS.get(layer)


def node_kind(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """Return the kind of a traced operation; None for one without a rule."""
    if node.op == "call_module":
        return layer_kind(modules[node.target])
    if node.op == "get_attr":
        return "choice"  # a parameter that is no layer's: a class token, an embedding of positions
    return {"call_function": FUNCTIONS, "call_method": METHODS}.get(node.op, {}).get(node.target)
