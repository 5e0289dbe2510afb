"""Projection of 3D Gaussians into B cameras and its gradient, compiled for the CPU.

Inside everything is float64: a needle's 2D covariance is nearly singular and float32 would lose its thin side,
while this stage costs little. A projected ellipse leaves here not as a conic but as the factors (a, b, c) of

    d' C^-1 d = (a dx + b dy)^2 + (c dy)^2,

which keep float32 accurate in the compositor, where a conic would subtract large numbers.

Source: EWA splatting as in gsplat's `_torch_impl._fully_fused_projection` (oracle of the tests).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headstudio.render import BLUR_PX2, JACOBIAN_MARGIN, MIN_ALPHA, NEAR_PLANE
from headstudio.render.jit import inlined, kernel

_LARGEST_RADIUS = 1e9  # pixels; keeps radii and extents convertible to integers


@inlined
def _rotation(w: float, x: float, y: float, z: float) -> Any:
    """Rows of the rotation of a unit quaternion."""
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


@inlined
def _unit_quaternion(quat: Any) -> Any:
    """(w, x, y, z) normalised, and the norm (at least 1e-12, as torch's normalize)."""
    w, x, y, z = float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])
    norm = max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return w / norm, x / norm, y / norm, z / norm, norm


@inlined
def _camera_point(mean: Any, view: Any) -> Any:
    m0, m1, m2 = float(mean[0]), float(mean[1]), float(mean[2])
    return (
        view[0, 0] * m0 + view[0, 1] * m1 + view[0, 2] * m2 + view[0, 3],
        view[1, 0] * m0 + view[1, 1] * m1 + view[1, 2] * m2 + view[1, 3],
        view[2, 0] * m0 + view[2, 1] * m1 + view[2, 2] * m2 + view[2, 3],
    )


@inlined
def _jacobian_limits(intrinsic: Any, width: int, height: int) -> Any:
    """The range of x/z and of y/z that may enter the Jacobian: (x low, x high, y low, y high)."""
    fx, fy, cx, cy = intrinsic[0, 0], intrinsic[1, 1], intrinsic[0, 2], intrinsic[1, 2]
    margin_x, margin_y = JACOBIAN_MARGIN * 0.5 * width / fx, JACOBIAN_MARGIN * 0.5 * height / fy
    return -cx / fx - margin_x, (width - cx) / fx + margin_x, -cy / fy - margin_y, (height - cy) / fy + margin_y


@inlined
def _ellipse_axes(point: Any, view: Any, intrinsic: Any, limits: Any, rotation: Any, scale: Any) -> Any:
    """The rows T0, T1 of J W R S (their products are the 2D covariance), the four entries of J, and W R S."""
    x, y, z = point
    tx, ty = min(max(x / z, limits[0]), limits[1]) * z, min(max(y / z, limits[2]), limits[3]) * z
    fx, fy = intrinsic[0, 0], intrinsic[1, 1]
    j00, j02, j11, j12 = fx / z, -fx * tx / (z * z), fy / z, -fy * ty / (z * z)
    s0, s1, s2 = float(scale[0]), float(scale[1]), float(scale[2])
    r0, r1, r2 = rotation
    u0 = (
        (view[0, 0] * r0[0] + view[0, 1] * r1[0] + view[0, 2] * r2[0]) * s0,
        (view[0, 0] * r0[1] + view[0, 1] * r1[1] + view[0, 2] * r2[1]) * s1,
        (view[0, 0] * r0[2] + view[0, 1] * r1[2] + view[0, 2] * r2[2]) * s2,
    )
    u1 = (
        (view[1, 0] * r0[0] + view[1, 1] * r1[0] + view[1, 2] * r2[0]) * s0,
        (view[1, 0] * r0[1] + view[1, 1] * r1[1] + view[1, 2] * r2[1]) * s1,
        (view[1, 0] * r0[2] + view[1, 1] * r1[2] + view[1, 2] * r2[2]) * s2,
    )
    u2 = (
        (view[2, 0] * r0[0] + view[2, 1] * r1[0] + view[2, 2] * r2[0]) * s0,
        (view[2, 0] * r0[1] + view[2, 1] * r1[1] + view[2, 2] * r2[1]) * s1,
        (view[2, 0] * r0[2] + view[2, 1] * r1[2] + view[2, 2] * r2[2]) * s2,
    )
    t0 = (j00 * u0[0] + j02 * u2[0], j00 * u0[1] + j02 * u2[1], j00 * u0[2] + j02 * u2[2])
    t1 = (j11 * u1[0] + j12 * u2[0], j11 * u1[1] + j12 * u2[1], j11 * u1[2] + j12 * u2[2])
    return t0, t1, (j00, j02, j11, j12), (u0, u1, u2)


@inlined
def _covariance(t0: Any, t1: Any) -> Any:
    """Variances and covariance in pixels squared, and the determinant."""
    xx = t0[0] * t0[0] + t0[1] * t0[1] + t0[2] * t0[2] + BLUR_PX2
    xy = t0[0] * t1[0] + t0[1] * t1[1] + t0[2] * t1[2]
    yy = t1[0] * t1[0] + t1[1] * t1[1] + t1[2] * t1[2] + BLUR_PX2
    return xx, xy, yy, xx * yy - xy * xy


@kernel
def project_forward(
    start: int, end: int, means: Any, quats: Any, scales: Any, opacities: Any, views: Any, intrinsics: Any,
    width: int, height: int, means2d: Any, factors: Any, depths: Any, extents: Any, radii: Any,
) -> None:  # fmt: skip
    """For the Gaussians start to end fill means2d (B, N, 2), factors (B, N, 3), depths (B, N), extents (B, N, 2)
    and radii (B, N).

    `extents` are the exact half sizes in pixels of the box outside which alpha is below the threshold. All
    outputs are zero for a Gaussian that a camera does not see. `views` and `intrinsics` are float64.
    """
    cameras, poses = views.shape[0], means.shape[0]
    for n in range(start, end):
        opacity = float(opacities[n])
        reach = math.sqrt(2.0 * math.log(opacity / MIN_ALPHA)) if opacity >= MIN_ALPHA else -1.0
        for b in range(cameras):
            p = b if poses > 1 else 0
            means2d[b, n, 0] = means2d[b, n, 1] = depths[b, n] = extents[b, n, 0] = extents[b, n, 1] = 0.0
            factors[b, n, 0] = factors[b, n, 1] = factors[b, n, 2] = 0.0
            radii[b, n] = 0
            view, intrinsic = views[b], intrinsics[b]
            point = _camera_point(means[p, n], view)
            if reach < 0.0 or not point[2] >= NEAR_PLANE:
                continue
            w, x, y, z, _ = _unit_quaternion(quats[p, n])
            limits = _jacobian_limits(intrinsic, width, height)
            t0, t1, _, _ = _ellipse_axes(point, view, intrinsic, limits, _rotation(w, x, y, z), scales[p, n])
            xx, xy, yy, det = _covariance(t0, t1)
            if not (det > 0.0 and det < math.inf):
                continue
            u = intrinsic[0, 0] * point[0] / point[2] + intrinsic[0, 2]
            v = intrinsic[1, 1] * point[1] / point[2] + intrinsic[1, 2]
            extent_x, extent_y = reach * math.sqrt(xx), reach * math.sqrt(yy)
            radius_x, radius_y = math.ceil(extent_x), math.ceil(extent_y)
            if not (u + radius_x > 0 and u - radius_x < width and v + radius_y > 0 and v - radius_y < height):
                continue
            a = math.sqrt(yy / det)
            means2d[b, n, 0], means2d[b, n, 1], depths[b, n] = u, v, point[2]
            factors[b, n, 0], factors[b, n, 1], factors[b, n, 2] = a, -a * xy / yy, 1.0 / math.sqrt(yy)
            extents[b, n, 0], extents[b, n, 1] = min(extent_x, _LARGEST_RADIUS), min(extent_y, _LARGEST_RADIUS)
            radii[b, n] = int(min(max(radius_x, radius_y), _LARGEST_RADIUS))


@inlined
def _factor_gradient(xx: float, xy: float, yy: float, det: float, grad: Any) -> Any:
    """From the gradient of (a, b, c) to that of the covariance entries (xx, xy, yy)."""
    a = math.sqrt(yy / det)
    b, c = -a * xy / yy, 1.0 / math.sqrt(yy)
    grad_a, grad_b, grad_c = float(grad[0]), float(grad[1]), float(grad[2])
    by_det = -0.5 * (grad_a * a + grad_b * b) / det
    grad_xx = by_det * yy
    grad_xy = -2.0 * by_det * xy - grad_b * a / yy
    grad_yy = by_det * xx + 0.5 * (grad_a * a - grad_b * b - grad_c * c) / yy
    return grad_xx, grad_xy, grad_yy


@inlined
def _camera_gradient(
    point: Any, view: Any, intrinsic: Any, limits: Any, rotation: Any, scale: Any,
    grad_mean2d: Any, grad_factors: Any, grad_depth: float, grad_mean: Any, grad_axes: Any,
) -> None:  # fmt: skip
    """Add one camera's part to the gradient of the mean (3,) and of the matrix R S (3, 3)."""
    x, y, z = point
    t0, t1, (j00, j02, j11, j12), (u0, u1, u2) = _ellipse_axes(point, view, intrinsic, limits, rotation, scale)
    xx, xy, yy, det = _covariance(t0, t1)
    g_xx, g_xy, g_yy = _factor_gradient(xx, xy, yy, det, grad_factors)
    fx, fy = intrinsic[0, 0], intrinsic[1, 1]
    g_j00 = g_j02 = g_j11 = g_j12 = 0.0
    for k in range(3):
        g_t0, g_t1 = 2.0 * g_xx * t0[k] + g_xy * t1[k], 2.0 * g_yy * t1[k] + g_xy * t0[k]
        g_j00 += g_t0 * u0[k]
        g_j02 += g_t0 * u2[k]
        g_j11 += g_t1 * u1[k]
        g_j12 += g_t1 * u2[k]
        g_u0, g_u1, g_u2 = j00 * g_t0, j11 * g_t1, j02 * g_t0 + j12 * g_t1
        for i in range(3):
            grad_axes[i, k] += view[0, i] * g_u0 + view[1, i] * g_u1 + view[2, i] * g_u2
    grad_u, grad_v = float(grad_mean2d[0]), float(grad_mean2d[1])
    g_x, g_y = fx / z * grad_u, fy / z * grad_v
    g_z = float(grad_depth) - (fx * x * grad_u + fy * y * grad_v + fx * g_j00 + fy * g_j11) / (z * z)
    # J's third column uses x/z clamped to the limits; where it is clamped, x has no say and z has.
    g_ratio_x, g_ratio_y = -fx / z * g_j02, -fy / z * g_j12
    ratio_x, ratio_y = min(max(x / z, limits[0]), limits[1]), min(max(y / z, limits[2]), limits[3])
    g_z -= (g_ratio_x * ratio_x + g_ratio_y * ratio_y) / z
    if limits[0] <= x / z <= limits[1]:
        g_x += g_ratio_x / z
        g_z -= g_ratio_x * x / (z * z)
    if limits[2] <= y / z <= limits[3]:
        g_y += g_ratio_y / z
        g_z -= g_ratio_y * y / (z * z)
    for i in range(3):
        grad_mean[i] += view[0, i] * g_x + view[1, i] * g_y + view[2, i] * g_z


@inlined
def _store_rotation_scale(quat: Any, scale: Any, grad_axes: Any, grad_quat: Any, grad_scale: Any) -> None:
    """From the gradient of R S to that of the raw quaternion and of the scales."""
    w, x, y, z, norm = _unit_quaternion(quat)
    rotation = _rotation(w, x, y, z)
    for k in range(3):
        grad_scale[k] = (
            grad_axes[0, k] * rotation[0][k] + grad_axes[1, k] * rotation[1][k] + grad_axes[2, k] * rotation[2][k]
        )
    s0, s1, s2 = float(scale[0]), float(scale[1]), float(scale[2])
    g00, g01, g02 = grad_axes[0, 0] * s0, grad_axes[0, 1] * s1, grad_axes[0, 2] * s2
    g10, g11, g12 = grad_axes[1, 0] * s0, grad_axes[1, 1] * s1, grad_axes[1, 2] * s2
    g20, g21, g22 = grad_axes[2, 0] * s0, grad_axes[2, 1] * s1, grad_axes[2, 2] * s2
    g_w = 2.0 * (x * (g21 - g12) + y * (g02 - g20) + z * (g10 - g01))
    g_x = 2.0 * (-2.0 * x * (g11 + g22) + y * (g01 + g10) + z * (g02 + g20) + w * (g21 - g12))
    g_y = 2.0 * (x * (g01 + g10) - 2.0 * y * (g00 + g22) + z * (g12 + g21) + w * (g02 - g20))
    g_z = 2.0 * (x * (g02 + g20) + y * (g12 + g21) - 2.0 * z * (g00 + g11) + w * (g10 - g01))
    along = g_w * w + g_x * x + g_y * y + g_z * z
    grad_quat[0], grad_quat[1] = (g_w - w * along) / norm, (g_x - x * along) / norm
    grad_quat[2], grad_quat[3] = (g_y - y * along) / norm, (g_z - z * along) / norm


@kernel
def project_backward(
    start: int, end: int, means: Any, quats: Any, scales: Any, views: Any, intrinsics: Any, width: int, height: int,
    radii: Any, grad_means2d: Any, grad_factors: Any, grad_depths: Any,
    grad_means: Any, grad_quats: Any, grad_scales: Any,
) -> None:  # fmt: skip
    """Fill grad_means (P, N, 3), grad_quats (P, N, 4) and grad_scales (P, N, 3) for the Gaussians start to end.

    Each Gaussian is one thread's, which adds the cameras in their order.
    """
    cameras, poses = views.shape[0], means.shape[0]
    grad_mean, grad_axes = np.empty(3), np.empty((3, 3))
    for n in range(start, end):
        for p in range(poses):
            for i in range(3):
                grad_mean[i] = grad_axes[i, 0] = grad_axes[i, 1] = grad_axes[i, 2] = 0.0
            w, x, y, z, _ = _unit_quaternion(quats[p, n])
            rotation = _rotation(w, x, y, z)
            for b in range(p if poses > 1 else 0, p + 1 if poses > 1 else cameras):
                if radii[b, n] > 0:
                    _camera_gradient(
                        _camera_point(means[p, n], views[b]), views[b], intrinsics[b],
                        _jacobian_limits(intrinsics[b], width, height), rotation, scales[p, n],
                        grad_means2d[b, n], grad_factors[b, n], grad_depths[b, n], grad_mean, grad_axes,
                    )  # fmt: skip
            grad_means[p, n, 0], grad_means[p, n, 1], grad_means[p, n, 2] = grad_mean[0], grad_mean[1], grad_mean[2]
            _store_rotation_scale(quats[p, n], scales[p, n], grad_axes, grad_quats[p, n], grad_scales[p, n])
