"""Sixteen float32 lanes as one value inside numba code.

numba leaves vectorising to LLVM, which gives up on the renderer's inner loops (conditional stores, several
planes): plain loops ran eight to fifteen times slower than these. So the row of sixteen pixels is a type of
its own, lowered to LLVM's `<16 x float>`, which LLVM splits into whatever registers the machine has. Written
out like this the order of every sum is ours too, so results repeat bit for bit.

In compiled code: `load`, `store`, `splat`, `ramp`, `select`, `smaller`, `lane_sum`, `any_lane`,
the operators `+ - * /` between lanes (or lanes and a float32), `>=`, `>` and `&` of masks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin, models, register_model

WIDTH = 16
intrinsic: Any = _intrinsic  # what it decorates is called without its first argument, which no type checker knows
_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)
# A multiply and an add may fuse where the machine can; nothing may be reordered.
_FLAGS = ("contract",)


class LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{WIDTH}")


class MaskType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"bool1x{WIDTH}")


LANES = LanesType()
MASK = MaskType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _BITS)


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


def _operator(symbol: Callable[..., Any], emit: Callable[[Any, Any, Any], Any], result: types.Type) -> None:
    """Teach numba `symbol` between lanes and lanes, lanes and float32, float32 and lanes."""
    pairs = ((LANES, LANES), (LANES, types.float32), (types.float32, LANES))

    class _Template(ConcreteTemplate):
        cases: ClassVar = [signature(result, *pair) for pair in pairs]

    infer_global(symbol)(_Template)
    for pair in pairs:

        def lower(context: Any, builder: Any, sig: Any, args: Any, pair: tuple[types.Type, types.Type] = pair) -> Any:
            left, right = (
                value if kind is LANES else _splat(builder, value) for kind, value in zip(pair, args, strict=True)
            )
            return emit(builder, left, right)

        lower_builtin(symbol, *pair)(lower)


_operator(operator.add, lambda b, x, y: b.fadd(x, y, flags=_FLAGS), LANES)
_operator(operator.sub, lambda b, x, y: b.fsub(x, y, flags=_FLAGS), LANES)
_operator(operator.mul, lambda b, x, y: b.fmul(x, y, flags=_FLAGS), LANES)
_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y, flags=_FLAGS), LANES)
_operator(operator.ge, lambda b, x, y: b.fcmp_ordered(">=", x, y), MASK)
_operator(operator.gt, lambda b, x, y: b.fcmp_ordered(">", x, y), MASK)


@infer_global(operator.and_)
class _MaskAnd(ConcreteTemplate):
    cases: ClassVar = [signature(MASK, MASK, MASK)]


@lower_builtin(operator.and_, MASK, MASK)
def _lower_mask_and(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.and_(*args)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _is_flat_float32(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 1 and kind.layout == "C" and kind.dtype == types.float32


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Sixteen consecutive values of a flat float32 array; nothing checks the bounds."""
    if not _is_flat_float32(array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, sig.args[0], args[0], args[1]), align=4)

    return LANES(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen consecutive values into a flat float32 array; nothing checks the bounds."""
    if not _is_flat_float32(array) or value is not LANES:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, sig.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, LANES), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, row: Any) -> Any:
    """Ask for the first 64 bytes of a row of a C-ordered 2D array to be fetched into the cache."""
    if not (isinstance(array, types.Array) and array.ndim == 2 and array.layout == "C"):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source = context.make_array(sig.args[0])(context, builder, args[0])
        step = builder.extract_value(source.strides, 0)
        byte = ir.IntType(8).as_pointer()
        address = builder.gep(builder.bitcast(source.data, byte), [builder.mul(step, args[1])])
        kind = ir.FunctionType(ir.VoidType(), [byte] + [ir.IntType(32)] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(ir.IntType(32), flag) for flag in (0, 3, 1))
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@intrinsic
def splat(typingctx: Any, scalar: Any) -> Any:
    """The same float32 in every lane."""
    return LANES(types.float32), lambda context, builder, sig, args: _splat(builder, args[0])


@intrinsic
def ramp(typingctx: Any) -> Any:
    """0, 1, ... 15."""
    constant = ir.Constant(_VECTOR, [float(lane) for lane in range(WIDTH)])
    return LANES(), lambda context, builder, sig, args: constant


@intrinsic
def select(typingctx: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Lane by lane `yes` where the mask holds, else `no`."""
    return LANES(MASK, LANES, LANES), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def smaller(typingctx: Any, left: Any, right: Any) -> Any:
    """Lane by lane minimum; `left` where either is NaN."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[1], args[0]), args[1], args[0])

    return LANES(LANES, LANES), codegen


@intrinsic
def lane_sum(typingctx: Any, value: Any) -> Any:
    """The sum of all lanes, halves added pairwise: always in the same order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        total, half = args[0], WIDTH // 2
        while half:
            picks = ir.VectorType(ir.IntType(32), half)
            low = builder.shuffle_vector(total, total, ir.Constant(picks, list(range(half))))
            high = builder.shuffle_vector(total, total, ir.Constant(picks, list(range(half, 2 * half))))
            total, half = builder.fadd(low, high), half // 2
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.float32(LANES), codegen


@intrinsic
def any_lane(typingctx: Any, mask: Any) -> Any:
    """Whether the mask holds in any lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(MASK), codegen
