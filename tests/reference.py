"""Definition in NumPy, float64, of every kernel of infall.

The engine is held against these functions. They share no code with it and put clarity before
speed. Shapes in comments: N rows or vectors, k columns, n rows of a layer, m selected rows,
L layers.
"""

import mpmath
import numpy as np

# Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD_BITS = np.uint64(32)

# What counters are for: what is or-ed into the upper word of the position, the first value of the
# third counter word, and the number of its values.
PURPOSES = {
    "rows of layers": (0, 0, 2**30),
    "deciding columns": (0, 2 * 2**30, 2**30),
    "order statistics": (0, 3 * 2**30, 1),
    "drawn rows": (0, 3 * 2**30 + 1, 1),
    "frame signs": (0, 3 * 2**30 + 2, 1),
    "hyperplanes": (2**31, 0, 2**30),
    "haar frames": (2**31, 2**30, 2**30),
    "noise": (2**31, 2 * 2**30, 2**30),
}

_CHUNK = 2**18  # counters, or rows times columns, worked on at a time


def philox4x32_10(counter, key):
    """Random words of counters (..., 4) and keys (..., 2), both uint32: (..., 4) uint32."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, dtype=np.uint64), -1, 0)
    m0, m1 = (np.uint64(multiplier) for multiplier in _MULTIPLIERS)
    for _ in range(_ROUNDS):
        product0, product1 = m0 * c0, m1 * c2  # 32 x 32 -> 64 bits, exact
        c0, c1, c2, c3 = (
            (product1 >> _WORD_BITS) ^ c1 ^ k0,
            product1 & _LOW_WORD,
            (product0 >> _WORD_BITS) ^ c3 ^ k1,
            product0 & _LOW_WORD,
        )
        k0 = (k0 + np.uint64(_WEYL[0])) & _LOW_WORD
        k1 = (k1 + np.uint64(_WEYL[1])) & _LOW_WORD
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def counters(purpose, positions, blocks, layer):
    """Counters (position low, position high, first block + block, layer): (..., 4) uint64."""
    position_bits, first_block, num_blocks = PURPOSES[purpose]
    blocks = np.asarray(blocks)
    assert np.all((blocks >= 0) & (blocks < num_blocks))
    positions = np.asarray(positions).astype(np.uint64)
    counter = np.broadcast_arrays(
        positions & _LOW_WORD,
        positions >> _WORD_BITS | np.uint64(position_bits),
        blocks.astype(np.uint64) + np.uint64(first_block),
        np.uint64(layer),
    )
    return np.stack(counter, axis=-1)


def stream_words(purpose, positions, blocks, seed, layer):
    """Random words of a purpose at these positions and blocks: (..., 4) uint32."""
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint64)
    return philox4x32_10(counters(purpose, positions, blocks, layer), key)


def gaussian_words(indices, dim, seed, layer, purpose="rows of layers", chunk_size=_CHUNK):
    """Word c % 4 of column block c // 4 for rows `indices` (N,) and columns c < dim: (N, dim)."""
    indices = np.asarray(indices)
    num_blocks = -(-dim // 4)
    words = np.empty((len(indices), 4 * num_blocks), dtype=np.uint32)
    step = max(1, chunk_size // num_blocks)
    for first in range(0, len(indices), step):
        rows = indices[first : first + step, np.newaxis]  # (N, 1)
        block_words = stream_words(
            purpose, rows, np.arange(num_blocks), seed, layer
        )  # (N, blocks, 4)
        words[first : first + step] = block_words.reshape(len(rows), -1)
    return words[:, :dim]


def doubled_uniform(radius_words):
    """U = fma(float32(w), (1 - 2^-24) 2^-31, 2^-32) of uint32 words, exact float32 values."""
    # The product has 48 bits and the sum no more: both are exact in float64, so the one rounding
    # is that of the fused operation.
    factor = (1.0 - 2.0**-24) * 2.0**-31
    return (radius_words.astype(np.float32).astype(np.float64) * factor + 2.0**-32).astype(
        np.float32
    )


def octant_angle(angle_words):
    """d = float32(int32(v << 2)) * float32(pi 2^-33) of uint32 words, exact float32 values."""
    signed = (angle_words << np.uint32(2)).view(np.int32)  # modulo 2^32
    return signed.astype(np.float32) * np.float32(np.pi * 2.0**-33)


def _direction(angle_words, d):
    """Point (a, b) of the unit circle: octant angle d in float64, octant from bits 30 and 31."""
    swap = (angle_words >> np.uint32(30)) & np.uint32(1) == 1
    sign = np.where(angle_words >> np.uint32(31) == 1, -1.0, 1.0)
    a, b = np.cos(d), np.sin(d)
    return sign * np.where(swap, b, a), sign * np.where(swap, a, b)


def normals_from_words(words):
    """Standard normals of words (..., 2 p), radius and angle words in turn: float32, same shape."""
    radius_words, angle_words = words[..., 0::2], words[..., 1::2]
    u = doubled_uniform(radius_words).astype(np.float64)
    # Halving first is exact, and log1p of the distance to 1 keeps the smallest radii right.
    log_u = np.where(u < 1.0, np.log(u / 2.0), np.log1p((u - 2.0) / 2.0))
    r = np.sqrt(-2.0 * log_u)
    a, b = _direction(angle_words, octant_angle(angle_words).astype(np.float64))
    return np.stack([r * a, r * b], axis=-1).reshape(words.shape).astype(np.float32)


def gaussian_rows(indices, dim, seed, layer, purpose="rows of layers", chunk_size=_CHUNK):
    """Rows `indices` (N,) of a Gaussian matrix, by default a layer: (N, dim) float32."""
    indices = np.asarray(indices)
    padded = dim + dim % 2  # an odd last column needs both words of its pair
    rows = np.empty((len(indices), padded), dtype=np.float32)
    step = max(1, chunk_size // padded)
    for first in range(0, len(indices), step):
        part = indices[first : first + step]
        words = gaussian_words(part, padded, seed, layer, purpose, chunk_size)
        rows[first : first + step] = normals_from_words(words)
    return rows[:, :dim]


def _exponential(high_words, low_words):
    """-ln((high 2^32 + low + 1/2) 2^-64), a standard exponential, in float64."""
    integers = (high_words.astype(np.uint64) << _WORD_BITS) | low_words.astype(np.uint64)
    uniform, rest = (
        (word.astype(np.float64) + 0.5) * 2.0**-64 for word in (integers, np.invert(integers))
    )
    return np.where(uniform < 0.5, -np.log(uniform), -np.log1p(-rest))


def deciding_column(rows, column, seed, layer, chunk_size=_CHUNK):
    """Deciding column `column` of the rotated sampler at `rows` (N,): (N,) float64."""
    rows = np.asarray(rows)
    entries = np.empty(len(rows))
    for first in range(0, len(rows), chunk_size):
        chunk = rows[first : first + chunk_size]
        words = stream_words("deciding columns", chunk // 2, column, seed, layer)  # (N, 4)
        r = np.sqrt(2.0 * _exponential(words[:, 0], words[:, 2]))
        angle_words = np.ascontiguousarray(words[:, 1])
        signed = (angle_words << np.uint32(2)).view(np.int32)
        a, b = _direction(angle_words, signed.astype(np.float64) * (np.pi * 2.0**-33))
        entries[first : first + chunk_size] = r * np.where(chunk % 2 == 0, a, b)
    return entries


def exponentials(m, seed, layer):
    """Exponentials E_0 .. E_{m-1} behind the order statistics: (m,) float64."""
    words = stream_words("order statistics", np.arange(m), 0, seed, layer)  # (m, 4)
    return _exponential(words[:, 0], words[:, 1])


def order_statistic_signs(m, seed, layer):
    """Signs of the m order statistics, -1 where bit 0 of the third word is set: (m,) float64."""
    words = stream_words("order statistics", np.arange(m), 0, seed, layer)  # (m, 4)
    return np.where(words[:, 2] & np.uint32(1) == 1, -1.0, 1.0)


def drawn_rows(m, width, seed, layer):
    """Distinct uniform rows of range(width), as the order statistics draw them: m integers."""
    rows, position = [], 0
    while len(rows) < m:
        words = stream_words("drawn rows", position, 0, seed, layer).tolist()
        number = sum(word << shift for word, shift in zip(words, (96, 64, 32, 0), strict=True))
        row = width * number >> 128
        position += 1
        if row not in rows:
            rows.append(row)
    return rows


def folded_normal_quantile(s):
    """Root t of P(|N(0, 1)| < t) = exp(-s), to 30 digits."""
    with mpmath.workdps(40):
        s = mpmath.mpf(s)
        tail = -mpmath.expm1(-s)
        t = mpmath.sqrt(-2 * mpmath.log(tail)) if tail < 0.5 else mpmath.exp(-s)
        # Newton's method on the logarithm of whichever side is small.
        for _ in range(100):
            density = mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-t * t / 2)
            if tail < 0.5:
                side = mpmath.erfc(t / mpmath.sqrt(2))
                step = mpmath.log(side / tail) * side / density
            else:
                side = mpmath.erf(t / mpmath.sqrt(2))
                step = -(mpmath.log(side) + s) * side / density
            t += step
            if abs(step) < t * mpmath.mpf(10) ** -32:
                return t
    raise ArithmeticError(f"no quantile for s = {s}")


def largest_folded_normals(spacings, width):
    """The largest of `width` iid |N(0, 1)| from independent Exp(1) spacings: (m,) to 30 digits."""
    with mpmath.workdps(40):
        total, quantiles = mpmath.mpf(0), []
        for j, spacing in enumerate(spacings):
            total += mpmath.mpf(float(spacing)) / (width - j)
            quantiles.append(folded_normal_quantile(total))
        return quantiles


def select_rows_literal(weights, w, num_rows, score="absolute", chunk_size=_CHUNK):
    """Indices (m,) int64 and projections (m,) float64 of the best rows of weights (n, k).

    Best first: score descending, then row ascending.
    """
    w = np.asarray(w, dtype=np.float64)  # (k,)
    projections = np.empty(len(weights))
    step = max(1, chunk_size // len(w))
    for first in range(0, len(weights), step):
        projections[first : first + step] = weights[first : first + step].astype(np.float64) @ w
    scores = {"absolute": np.abs(projections), "signed": projections}[score]
    # A stable sort of the negated scores leaves ties in row order.
    indices = np.argsort(-scores, kind="stable")[:num_rows].astype(np.int64)
    return indices, projections[indices]


def max_likelihood_literal(w, width, depth, rng):
    """MaxLikelihood network of NumPy's own random layers, the selected rows in index order.

    Input w (k,). Returns layers (L, k, k), unit outputs (L, k), and log_norms (L,), the
    logarithms of the output lengths for unit inputs; all float64.
    """
    current = np.asarray(w, dtype=np.float64)
    current = current / np.linalg.norm(current)
    k = len(current)
    layers, outputs, log_norms = np.empty((depth, k, k)), np.empty((depth, k)), np.empty(depth)
    for layer in range(depth):
        weights = rng.standard_normal((width, k))  # (n, k)
        indices, _ = select_rows_literal(weights, current, k)
        layers[layer] = weights[np.sort(indices)]
        output = layers[layer] @ current
        log_norms[layer] = np.log(np.linalg.norm(output))
        current = output / np.linalg.norm(output)
        outputs[layer] = current
    return layers, outputs, log_norms


def transform_literal(layers, x):
    """Unit vectors of x (..., k) after every one of the layers (L, k, k): (L, ..., k)."""
    outputs = []
    for weights in layers:
        x = x @ weights.T.astype(np.float64)
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        outputs.append(x)
    return np.stack(outputs)


def angle_over_pi(x, y):
    """Angle between vectors (..., k), over pi, in [0, 1]: (...) float64."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    a = x / np.linalg.norm(x, axis=-1, keepdims=True)
    b = y / np.linalg.norm(y, axis=-1, keepdims=True)
    difference = np.linalg.norm(a - b, axis=-1)
    return 2.0 * np.arctan2(difference, np.linalg.norm(a + b, axis=-1)) / np.pi


def hyperplane_codes(x, planes):
    """Bits [v . x >= 0] of x (..., k) for planes v (bits, k), packed, lowest bit first: uint8."""
    projections = np.asarray(x, dtype=np.float64) @ np.asarray(planes, dtype=np.float64).T
    return np.packbits(projections >= 0.0, axis=-1, bitorder="little")  # (..., ceil(bits / 8))


def hamming_distances(a, b):
    """Differing bits of packed codes a (N, bytes) and b (M, bytes): (N, M) int64."""
    return np.bitwise_count(a[:, np.newaxis] ^ b[np.newaxis]).sum(axis=-1, dtype=np.int64)


def class_moments(features, labels, num_classes):
    """Counts, means, variances and the within covariance in two float64 passes, one per class.

    Means are refined once by the mean of what they leave.
    """
    features = np.asarray(features).astype(np.float64)
    counts = np.bincount(labels, minlength=num_classes)
    means = np.full((num_classes, features.shape[1]), np.nan)
    variances = np.full(num_classes, np.nan)
    within = np.zeros((features.shape[1], features.shape[1]))
    for c in np.flatnonzero(counts):
        samples = features[labels == c]
        means[c] = samples.mean(axis=0)
        means[c] += (samples - means[c]).mean(axis=0)
        deviations = samples - means[c]
        variances[c] = (deviations**2).sum(axis=1).mean()
        within += deviations.T @ deviations
    return counts, means, variances, within / len(features)


# Classes: K class means (K, d), d features --------------------------------------------------------


def square_distances(means):
    """Squared distances of all pairs of means (K, d), summed over the columns: (K, K)."""
    return np.stack([((mean - means) ** 2).sum(axis=1) for mean in means])


def cdnv_matrix(means, variances):
    """(Var_c + Var_c') / (2 |m_c - m_c'|^2), inf if coincident, 0 on the diagonal: (K, K)."""
    distances = square_distances(means)
    with np.errstate(divide="ignore", invalid="ignore"):
        cdnv = (variances[:, np.newaxis] + variances) / (2.0 * distances)
    cdnv[distances == 0.0] = np.inf
    np.fill_diagonal(cdnv, 0.0)
    return cdnv


def cosine_excess_matrix(means):
    """cos(m_c, m_c') + 1 / (K - 1): (K, K); the unit vector of a zero mean is zero."""
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    units = means / np.where(norms > 0.0, norms, 1.0)
    return units @ units.T + 1.0 / (len(means) - 1)


def gram_excess_matrix(means):
    """m_c . m_c' + sum |m|^2 / (K (K - 1)): (K, K)."""
    count = len(means)
    return means @ means.T + (means**2).sum() / (count * (count - 1))


def over_later_partners(matrix):
    """Sum, sum of squares, max, its first column, and min of each row of (K, K) right of column c.

    Of nothing they are 0, 0, -inf, -1 and inf. Each (K,).
    """
    later = [row[c + 1 :] for c, row in enumerate(matrix)]
    return (
        np.array([row.sum() for row in later]),
        np.array([(row**2).sum() for row in later]),
        np.array([row.max(initial=-np.inf) for row in later]),
        np.array([c + 1 + row.argmax() if row.size else -1 for c, row in enumerate(later)]),
        np.array([row.min(initial=np.inf) for row in later]),
    )


def nearest_means(features, means):
    """Class of the least distance to features (N, d), the lowest one on ties: (N,) int64."""
    h = np.asarray(features, dtype=np.longdouble)
    return np.array([((row - means) ** 2).sum(axis=1).argmin() for row in h], dtype=np.int64)


def largest_outputs(features, classifier, bias):
    """Class of the largest h . a + b for features (N, d), the lowest on ties: (N,) int64."""
    h, a = (np.asarray(x, dtype=np.longdouble) for x in (features, classifier))
    return np.array([((a * row).sum(axis=1) + bias).argmax() for row in h], dtype=np.int64)


# Collapse: features (N, d), labels (N,), K classes, means (K, d), classifier A (K, d) -------------


def within_and_between(features, labels, weighting="samples", global_mean="classes"):
    """Sigma_W and Sigma_B (d, d), centred means (K, d) of the classes that have samples."""
    features = np.asarray(features).astype(np.float64)
    counts, means, _, within = class_moments(features, labels, int(labels.max()) + 1)
    seen = np.flatnonzero(counts)
    if weighting == "classes":
        within = np.zeros_like(within)
        for c in seen:
            deviations = features[labels == c] - means[c]
            within += deviations.T @ deviations / (len(deviations) * len(seen))
    # Subtracting one of the means first keeps the offset out of the sums.
    moved = means[seen] - means[seen[0]]
    weights = {"classes": np.ones(len(seen)), "samples": counts[seen]}[global_mean]
    centred = moved - weights @ moved / weights.sum()
    return within, centred.T @ centred / len(seen), centred


def nc1(within, between, rank, num_classes):
    """tr(Sigma_W Sigma_B^+) / K with a pseudo-inverse of a given rank."""
    eigenvalues, vectors = np.linalg.eigh(between)
    eigenvalues, vectors = eigenvalues[-rank:], vectors[:, -rank:]
    return np.trace(within @ (vectors / eigenvalues) @ vectors.T) / num_classes


def simplex_matrix(num_classes):
    """(I - 11^T / K) / sqrt(K - 1): (K, K), of Frobenius norm one."""
    return (np.eye(num_classes) - 1.0 / num_classes) / np.sqrt(num_classes - 1)


def simplex_distance(gram):
    """|| G / ||G||_F - (I - 11^T / K) / sqrt(K - 1) ||_F of a matrix (K, K)."""
    return np.linalg.norm(gram / np.linalg.norm(gram) - simplex_matrix(len(gram)))


def unit_rows(vectors):
    """Rows (K, d) scaled to length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def off_diagonal(matrix):
    """Entries (K (K - 1),) of a matrix (K, K) beside its diagonal."""
    return matrix[~np.eye(len(matrix), dtype=bool)]


def frame_signs(count, round_number, seed):
    """Signs of the coordinates of a Hadamard frame: (count,) of 1.0 and -1.0."""
    blocks = np.arange(-(-count // 128))
    words = stream_words("frame signs", blocks, 0, seed, round_number)  # (blocks, 4)
    bits = words.ravel()[:, np.newaxis] >> np.arange(32, dtype=np.uint32) & 1
    return 1.0 - 2.0 * bits.ravel()[:count]


def walsh_hadamard_levels(x):
    """Walsh-Hadamard transform of x (..., 2^m), not normalised, strides ascending, in x's dtype."""
    length = x.shape[-1]
    stride = 1
    while stride < length:
        pairs = x.reshape(*x.shape[:-1], -1, 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([low + high, low - high], axis=-2).reshape(x.shape)
        stride *= 2
    return x


def _hadamard_rotation(dim, seed):
    """Orthonormal Q of a Hadamard frame: (dim, dim)."""
    window = 1 << (dim.bit_length() - 1)
    walsh = walsh_hadamard_levels(np.eye(window)) / np.sqrt(window)
    first = np.eye(dim)
    first[:window, :window] = walsh
    transposed = first * frame_signs(dim, 0, seed)
    if window < dim:
        last = np.eye(dim)
        last[-window:, -window:] = walsh * frame_signs(window, 1, seed)
        transposed = last @ transposed
    return transposed.T


def simplex_etf(num_classes, dim, basis, seed, gaussian):
    """Vectors of a simplex ETF, M^T as M = sqrt(K/(K-1)) Q C is printed: (K, dim).

    gaussian (min(K, dim), dim) is what a Haar basis is made of: its rows of the seed.
    """
    coordinates = min(num_classes, dim)
    if basis == "identity":
        orthonormal = np.eye(dim)
    elif basis == "hadamard":
        orthonormal = _hadamard_rotation(dim, seed)
    else:
        orthonormal, r = np.linalg.qr(gaussian.astype(np.float64).T)
        orthonormal = orthonormal * np.sign(np.diag(r))
    if dim >= num_classes:
        centring = np.eye(num_classes) - 1.0 / num_classes
    else:
        # The reflection that takes 1/sqrt(K) to -e_K, less its last row.
        v = np.full(num_classes, 1.0 / np.sqrt(num_classes))
        v[-1] += 1.0
        centring = (np.eye(num_classes) - 2.0 * np.outer(v, v) / (v @ v))[:-1]
    frame = orthonormal[:, :coordinates] @ centring  # (dim, K)
    return np.sqrt(num_classes / (num_classes - 1)) * frame.T


def etf_distance(means):
    """NC2 as it is printed, of class means (K, d)."""
    num_classes = len(means)
    centred = means - means.mean(axis=0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    gram = units @ units.T
    simplex = (np.eye(num_classes) - 1.0 / num_classes) / np.sqrt(num_classes - 1)
    return np.linalg.norm(gram / np.linalg.norm(gram) - simplex)


def seli_norms(class_counts):
    """Square roots of the diagonal of (C diag(n) C)^(1/2), C the centring, mean square 1: (K,)."""
    counts = np.asarray(class_counts, dtype=np.float64)
    centring = np.eye(len(counts)) - 1.0 / len(counts)
    eigenvalues, vectors = np.linalg.eigh(centring @ np.diag(counts) @ centring)
    squares = np.diag(vectors @ np.diag(np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T)
    return np.sqrt(squares / squares.mean())
