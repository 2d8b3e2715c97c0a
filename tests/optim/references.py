# SPDX-License-Identifier: Apache-2.0
"""Every optimizer in NumPy float64, letter by letter from its paper.

A reference takes the parameter, the gradients of each step and the settings, and
returns the parameter after the last step. Nothing here knows brainopt.
"""

import numpy as np


def sgd(x, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0):
    b = None
    for g in grads:
        g = g + weight_decay * x
        b = g if b is None else momentum * b + (1 - dampening) * g
        x = x - lr * (g + momentum * b if nesterov else b if momentum else g)
    return x


def momentum(x, grads, lr, momentum=0.9, weight_decay=0.0):
    v = np.zeros_like(x)
    for g in grads:
        v = momentum * v - lr * (g + weight_decay * x)
        x = x + v
    return x


def nesterov(x, grads, lr, momentum=0.9, weight_decay=0.0):
    v = np.zeros_like(x)
    for g in grads:
        g = g + weight_decay * x
        v = momentum * v - lr * g
        x = x + momentum * v - lr * g
    return x


def adagrad(x, grads, lr, epsilon=1e-6, weight_decay=0.0, lr_decay=0.0):
    s = np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * x
        s = s + g**2
        x = x - lr / (1 + (t - 1) * lr_decay) * g / np.sqrt(s + epsilon)
    return x


def adadelta(x, grads, lr=1.0, epsilon=1e-6, rho=0.95, weight_decay=0.0):
    s, d = np.zeros_like(x), np.zeros_like(x)
    for g in grads:
        g = g + weight_decay * x
        s = rho * s + (1 - rho) * g**2
        u = np.sqrt(d + epsilon) / np.sqrt(s + epsilon) * g
        d = rho * d + (1 - rho) * u**2
        x = x - lr * u
    return x


def rmsprop(
    x, grads, lr, epsilon=1e-6, rho=0.9, momentum=0.0, centered=False, weight_decay=0.0
):
    v, mean, b = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for g in grads:
        g = g + weight_decay * x
        v = rho * v + (1 - rho) * g**2
        mean = rho * mean + (1 - rho) * g
        spread = v - mean**2 if centered else v
        b = momentum * b + g / np.sqrt(spread + epsilon)
        x = x - lr * b
    return x


def adam(x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    return _adam(x, grads, lr, beta1, beta2, eps, coupled=weight_decay)


def adamw(
    x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2, amsgrad=False
):
    return _adam(x, grads, lr, beta1, beta2, eps, 0.0, weight_decay, amsgrad)


def _adam(x, grads, lr, beta1, beta2, eps, coupled=0.0, decoupled=0.0, amsgrad=False):
    m, v, v_max = np.zeros_like(x), np.zeros_like(x, float), np.zeros_like(x, float)
    for t, g in enumerate(grads, 1):
        g = g + coupled * x
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * np.abs(g) ** 2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        if amsgrad:
            v_hat = v_max = np.maximum(v_max, v_hat)
        x = x - lr * m_hat / (np.sqrt(v_hat) + eps) - lr * decoupled * x
    return x


def lars(x, grads, lr, momentum=0.9, weight_decay=1e-4, tc=1e-3, eps=1e-5):
    m = np.zeros_like(x)
    for g in grads:
        size, slope = np.linalg.norm(x), np.linalg.norm(g)
        trust = 1.0
        if size > 0 and slope > 0:
            trust = tc * size / (slope + weight_decay * size + eps)
        m = momentum * m + lr * trust * (g + weight_decay * x)
        x = x - m
    return x


def lamb(x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0):
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        u = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps) + weight_decay * x
        size, length = np.linalg.norm(x), np.linalg.norm(u)
        x = x - lr * (size / length if size > 0 and length > 0 else 1.0) * u
    return x


def adan(
    x, grads, lr, betas=(0.02, 0.08, 0.01), eps=1e-8, weight_decay=0.02, no_prox=False
):
    b1, b2, b3 = betas
    m, v, n, before = (np.zeros_like(x) for _ in range(4))
    for t, g in enumerate(grads, 1):
        d = np.zeros_like(g) if t == 1 else g - before
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * d
        n = (1 - b3) * n + b3 * (g + (1 - b2) * d) ** 2
        m_hat, v_hat, n_hat = (
            z / (1 - (1 - b) ** t) for z, b in ((m, b1), (v, b2), (n, b3))
        )
        u = (m_hat + (1 - b2) * v_hat) / (np.sqrt(n_hat) + eps)
        if no_prox:
            x = (1 - lr * weight_decay) * x - lr * u
        else:
            x = (x - lr * u) / (1 + lr * weight_decay)
        before = g
    return x


def sm3(x, grads, lr, beta=0.0, momentum=0.0, eps=1e-30, weight_decay=0.0):
    covers = [np.zeros(n) for n in x.shape]
    m = np.zeros_like(x)
    for g in grads:
        g = g + weight_decay * x
        grid = np.meshgrid(*covers, indexing="ij")
        least = np.min(grid, axis=0)
        nu = least + g**2 if beta == 0 else beta * least + (1 - beta) * g**2
        for a in range(x.ndim):
            covers[a] = nu.max(axis=tuple(i for i in range(x.ndim) if i != a))
        m = momentum * m + (1 - momentum) * g / np.sqrt(nu + eps)
        x = x - lr * m
    return x


def adamax(x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    m, u = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * x
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g) + eps)
        x = x - lr / (1 - beta1**t) * m / u
    return x


def nadam(
    x,
    grads,
    lr,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    momentum_decay=4e-3,
):
    m, v, product = np.zeros_like(x), np.zeros_like(x), 1.0
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * x
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        ahead = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        product *= mu
        m_hat = ahead * m / (1 - product * ahead) + (1 - mu) * g / (1 - product)
        x = x - lr * m_hat / (np.sqrt(v / (1 - beta2**t)) + eps)
    return x


def radam(x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    m, v = np.zeros_like(x), np.zeros_like(x)
    most = 2 / (1 - beta2) - 1
    for t, g in enumerate(grads, 1):
        g = g + weight_decay * x
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        rho = most - 2 * t * beta2**t / (1 - beta2**t)
        if rho > 5:
            r = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
            m_hat = np.sqrt(r) * m_hat / (np.sqrt(v / (1 - beta2**t)) + eps)
        x = x - lr * m_hat
    return x


def lion(x, grads, lr, beta1=0.9, beta2=0.99, weight_decay=0.0):
    m = np.zeros_like(x)
    for g in grads:
        u = np.sign(beta1 * m + (1 - beta1) * g)
        x = x - lr * (u + weight_decay * x)
        m = beta2 * m + (1 - beta2) * g
    return x


def adabelief(
    x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-16, eps_root=1e-16, weight_decay=0.0
):
    m, s = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps_root
        u = m / (1 - beta1**t) / (np.sqrt(s / (1 - beta2**t)) + eps)
        x = x - lr * (u + weight_decay * x)
    return x


def yogi(x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-3, weight_decay=0.0):
    m, v = np.full_like(x, 1e-6), np.full_like(x, 1e-6)
    for t, g in enumerate(grads, 1):
        m = beta1 * m + (1 - beta1) * g
        v = v - (1 - beta2) * np.sign(v - g**2) * g**2
        u = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
        x = x - lr * (u + weight_decay * x)
    return x


def rprop(x, grads, lr, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)):
    size, before = np.full_like(x, lr), np.zeros_like(x)
    for g in grads:
        agree = g * before
        size = np.where(agree > 0, size * etas[1], size)
        size = np.where(agree < 0, size * etas[0], size)
        size = np.clip(size, *step_sizes)
        g = np.where(agree < 0, 0, g)
        x = x - np.sign(g) * size
        before = g
    return x


def asgd(x, grads, lr, lambd=1e-4, alpha=0.75, weight_decay=0.0):
    for t, g in enumerate(grads):
        eta = lr / (1 + lambd * lr * t) ** alpha
        x = (1 - lambd * eta) * x - eta * (g + weight_decay * x)
    return x


def adafactor(x, grads, lr, beta2_decay=-0.8, eps2=1e-3, d=1.0, weight_decay=0.0):
    eps1 = np.finfo(x.dtype).eps
    row = np.zeros(x.shape[:-1]) if x.ndim > 1 else None
    col = np.zeros(x.shape[:-2] + x.shape[-1:]) if x.ndim > 1 else None
    v = np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        beta = 1 - t**beta2_decay
        if x.ndim > 1:
            row = beta * row + (1 - beta) * (g**2).mean(-1)
            col = beta * col + (1 - beta) * (g**2).mean(-2)
            scale = np.maximum(row.mean(-1, keepdims=True), eps1)
            v = (row / scale)[..., :, None] * col[..., None, :]
        else:
            v = beta * v + (1 - beta) * g**2
        u = g / np.sqrt(np.maximum(v, eps1**2))
        u = u / max(1.0, np.sqrt((u**2).mean()) / d)
        rate = max(eps2, np.sqrt((x**2).mean())) * min(lr, t**-0.5)
        x = (1 - lr * weight_decay) * x - rate * u
    return x


def muon(x, grads, lr, momentum=0.95, weight_decay=0.1):
    if x.ndim != 2:
        return adamw(x, grads, lr, weight_decay=weight_decay)
    a, b, c = 3.4445, -4.775, 2.0315
    buffer = np.zeros_like(x)
    for g in grads:
        buffer = momentum * buffer + (1 - momentum) * g
        u = momentum * buffer + (1 - momentum) * g
        u = u.T if x.shape[0] > x.shape[1] else u
        u = u / max(np.linalg.norm(u), 1e-7)
        for _ in range(5):
            s = u @ u.T
            u = a * u + (b * s + c * s @ s) @ u
        u = u.T if x.shape[0] > x.shape[1] else u
        x = (1 - lr * weight_decay) * x
        x = x - lr * np.sqrt(max(1, x.shape[0] / x.shape[1])) * u
    return x


def schedule_free(y, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    z, x, v, total = y.copy(), y.copy(), np.zeros_like(y), 0.0
    for t, g in enumerate(grads, 1):
        v = beta2 * v + (1 - beta2) * g**2
        root = np.sqrt(v / (1 - beta2**t)) + eps
        z = z - lr * (g / root + weight_decay * y)
        total += lr**2
        x = (1 - lr**2 / total) * x + lr**2 / total * z
        y = (1 - beta1) * z + beta1 * x
    return y


def sparse_adam(x, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(grads, 1):
        axes = tuple(range(1, g.ndim))
        rows = (g != 0).any(axis=axes, keepdims=True) if axes else g != 0
        m = np.where(rows, beta1 * m + (1 - beta1) * g, m)
        v = np.where(rows, beta2 * v + (1 - beta2) * g**2, v)
        u = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)
        x = np.where(rows, x - lr * u, x)
    return x


def lbfgs(x, grads, lr, history_size=10):
    """The two loops of Nocedal & Wright, algorithm 7.4, with a fixed length."""
    pairs, before = [], None
    for g in grads:
        if before is not None:
            s, y = x - before[0], g - before[1]
            if (s * y).sum() > np.finfo(x.dtype).eps * (y * y).sum():
                pairs = [*pairs, (s, y)][-history_size:]
        q, alphas = g.copy(), []
        for s, y in reversed(pairs):
            alphas.append((s * q).sum() / (s * y).sum())
            q = q - alphas[-1] * y
        if pairs:
            s, y = pairs[-1]
            q = q * (s * y).sum() / (y * y).sum()
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q = q + s * (alpha - (y * q).sum() / (s * y).sum())
        before = x, g
        x = x - lr * q
    return x
