"""What `by_numba` does to pixels: loops that LLVM compiles and that run without Python's lock.

Every kernel changes the pictures at `where`, int64 (k,), of `pictures`, uint8 (n, h, w, 3) and contiguous, in place, by
its arrays of k rows. Sums are rounded to the nearest grey level, of two equally near to the even one.

Loops over a row as one run of numbers, and those without a branch, become vector instructions. All is in one file, as
Numba tells by the file of a kernel alone whether what it compiled before still holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hemascope.draws import FACTORS, GOLDEN, SHIFTS

Loop = TypeVar("Loop", bound=Callable[..., object])
Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]
Words = NDArray[np.uint64]
Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Whole = Any
"""int or np.int64, which are one in a kernel."""

_BITS = 13
_ONE = 1 << _BITS
"""A weight of 1: the weighted sum of four grey levels, with half of this to round, takes less than _LANE bits."""
_LANE = 21
"""Bits of each of the three colours that are summed together in one number of 64."""
_HALVES = (_ONE // 2) * (1 + (1 << _LANE) + (1 << 2 * _LANE))
_FIXED = 32
"""Bits after the point of a place between pixels."""
_EVEN = np.float32(1.5 * 2**23)
"""Added to a number of 32 bits and taken away again, it leaves a whole one: the nearest, of two the even one."""
_HALF, _BELOW_ONE = np.float32(0.5), np.float32(0.9999)

_FIRST, _SECOND, _THIRD = (np.uint64(shift) for shift in SHIFTS)
_ONCE, _TWICE = FACTORS
_HALFWORD, _HALFWORD_BITS = np.uint64(0xFFFF), np.uint64(16)
# Numbers without a sign need no look at whether a place is counted from the end.
_NEXT, _TWO, _THREE, _FOUR, _EIGHT, _TWELVE = (np.uint64(number) for number in (1, 2, 3, 4, 8, 12))


def inlined(function: Loop) -> Loop:
    """Compiled into the kernels that call it."""
    return cast(Loop, njit(nogil=True, error_model="numpy")(function))


def kernel(function: Loop) -> Loop:
    """Compiled when it is first called, and kept on disk beside this file or in the user's cache, where one is."""
    compiled = njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # no folder can be written
        compiled.enable_caching()
    return cast(Loop, compiled)


def kept() -> bool:
    """Whether an earlier process has left kernels on disk, compiled from this file as it is."""
    folder = cast(Any, warp_smooth).stats.cache_path
    if folder is None:
        return False
    written = Path(__file__).stat().st_mtime
    return any(path.stat().st_mtime >= written for path in Path(folder).glob("kernels.*.nbc"))


@inlined
def _level(value: np.float32) -> np.uint8:
    return np.uint8(min(max(value, np.float32(0)), np.float32(255)) + _EVEN - _EVEN)


@inlined
def _copy(picture: Bytes, copy: Bytes) -> None:
    levels, same = picture.reshape(-1), copy.reshape(-1)
    for place in range(len(levels)):
        same[place] = levels[place]


@inlined
def _mean(picture: Bytes, sums: Indices, mean: Doubles) -> None:
    """The mean of each channel. sums: (width * 3,), room for those of the columns, which vector instructions make."""
    rows = picture.reshape(picture.shape[0], -1)
    sums[:] = 0
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            sums[x] += rows[y, x]
    for channel in range(3):
        mean[channel] = sums[channel::3].sum() / (rows.size // 3)


@inlined
def _mirrored(place: Whole, side: Whole) -> Whole:
    """Where a place outside of 0 to side - 1 comes to lie when the edge is a mirror."""
    if place < -side or place >= 2 * side:
        place %= 2 * side
    if place < 0:
        return -1 - place
    return place if place < side else 2 * side - 1 - place


@inlined
def _mirrored_at_centre(place: Whole, side: Whole) -> Whole:
    """The same with the mirror through the middle of the outermost pixels, which then stand there once."""
    if side == 1:
        return 0
    place %= 2 * side - 2
    return place if place < side else 2 * side - 2 - place


@inlined
def _pack(picture: Bytes, reflect: bool, packed: Indices) -> None:
    """A number for each pixel, with a frame about them of one pixel: its neighbour if `reflect`, else black."""
    height, width = picture.shape[:2]
    for y in range(height):
        levels, row = picture[y].reshape(-1), packed[y + 1, 1:]
        for x in range(width):
            green, blue = np.int64(levels[3 * x + 1]), np.int64(levels[3 * x + 2])
            row[x] = np.int64(levels[3 * x]) | green << _LANE | blue << 2 * _LANE
        packed[y + 1, 0] = row[0] if reflect else 0
        packed[y + 1, width + 1] = row[width - 1] if reflect else 0
    for x in range(width + 2):
        packed[0, x] = packed[1, x] if reflect else 0
        packed[height + 1, x] = packed[height, x] if reflect else 0


@inlined
def _within(place: np.float32, side: np.float32, reflect: bool) -> np.float32:
    """A place in a picture with its frame, from 0 to just below side + 1, for any place counted so.

    side: of the picture without its frame. What lies outside is mirrored, or taken to the frame.
    """
    if not reflect:
        return min(max(place, np.float32(0)), side + _BELOW_ONE)
    beyond, twice = abs(place - _HALF), side + side
    beyond -= twice * np.float32(np.int32(beyond / twice))
    return side - abs(side - beyond) + _HALF


@kernel
def warp_smooth(where: Indices, matrices: Doubles, reflect: bool, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    packed = np.empty((height + 2, width + 2), np.int64)
    pixels = packed.reshape(-1)
    xs = np.arange(width).astype(np.float32)
    # Where the four neighbours of each pixel of a row begin, and how far it lies to the right of and below the first.
    places, beyond = np.empty(width, np.int32), np.empty(width, np.int32)
    high, wide, stride, one = np.float32(height), np.float32(width), np.int32(width + 2), np.float32(_ONE)
    for at in range(len(where)):
        picture, matrix = pictures[where[at]], matrices[at]
        _pack(picture, reflect, packed)
        step_across, step_down = np.float32(matrix[0, 0]), np.float32(matrix[1, 0])
        for y in range(height):
            start_across = np.float32(matrix[0, 1] * y + matrix[0, 2] + 1)
            start_down = np.float32(matrix[1, 1] * y + matrix[1, 2] + 1)
            for x in range(width):
                column = _within(start_across + step_across * xs[x], wide, reflect)
                line = _within(start_down + step_down * xs[x], high, reflect)
                left, top = np.int32(column), np.int32(line)
                places[x] = top * stride + left
                right = np.int32((column - np.float32(left)) * one + _HALF)
                beyond[x] = right | np.int32((line - np.float32(top)) * one + _HALF) << 16
            row = picture[y].reshape(-1)
            for x in range(width):
                first = np.uint64(places[x])
                second = first + np.uint64(width + 2)
                across, down = np.int64(beyond[x] & 0xFFFF), np.int64(beyond[x] >> 16)
                both = (across * down + _ONE // 2) >> _BITS
                summed = pixels[first] * (_ONE - across - down + both) + pixels[first + _NEXT] * (across - both)
                summed += pixels[second] * (down - both) + pixels[second + _NEXT] * both + _HALVES
                row[3 * x] = np.uint8(summed >> _BITS)
                row[3 * x + 1] = np.uint8(summed >> _LANE + _BITS)
                row[3 * x + 2] = np.uint8(summed >> 2 * _LANE + _BITS)


@inlined
def _fixed(value: float) -> Whole:
    return np.int64(math.floor(value * (1 << _FIXED) + 0.5))


@kernel
def warp_nearest(where: Indices, matrices: Doubles, reflect: bool, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    before = np.empty((height, width, 3), np.uint8)
    for at in range(len(where)):
        picture, matrix = pictures[where[at]], matrices[at]
        _copy(picture, before)
        step_across, step_down = _fixed(matrix[0, 0]), _fixed(matrix[1, 0])
        for y in range(height):
            across = _fixed(matrix[0, 1] * y + matrix[0, 2] + 0.5)
            down = _fixed(matrix[1, 1] * y + matrix[1, 2] + 0.5)
            for x in range(width):
                row, column = down >> _FIXED, across >> _FIXED
                if reflect:
                    row, column = _mirrored(row, height), _mirrored(column, width)
                if 0 <= row < height and 0 <= column < width:
                    for channel in range(3):
                        picture[y, x, channel] = before[row, column, channel]
                else:
                    for channel in range(3):
                        picture[y, x, channel] = 0
                across += step_across
                down += step_down


@kernel
def shift(where: Indices, moves: Indices, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    before = np.empty((height, width, 3), np.uint8)
    for at in range(len(where)):
        right, down = moves[at]
        _copy(pictures[where[at]], before)
        pictures[where[at]].reshape(-1)[:] = 0
        for y in range(max(down, 0), min(height + down, height)):
            row, source = pictures[where[at], y], before[y - down]
            _copy(source[max(-right, 0) : max(width - right, 0)], row[max(right, 0) : max(width + right, 0)])


@kernel
def turn(where: Indices, poses: Indices, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    before = np.empty((height, width, 3), np.uint8)
    pixels = before.reshape(-1, 3)
    for at in range(len(where)):
        picture, pose = pictures[where[at]], poses[at]
        _copy(picture, before)
        first = (height - 1) * width if pose & 2 else 0
        first += width - 1 if pose & 1 else 0
        down, across = -width if pose & 2 else width, -1 if pose & 1 else 1
        if pose & 4:
            down, across = across, down
        for y in range(height):
            source = first + y * down
            for x in range(width):
                for channel in range(3):
                    picture[y, x, channel] = pixels[source, channel]
                source += across


@kernel
def look_up(where: Indices, tables: Bytes, pictures: Bytes) -> None:
    """tables: uint8 (k, 3, 256)."""
    for at in range(len(where)):
        _look_up(pictures[where[at]], tables[at])


@inlined
def _look_up(picture: Bytes, tables: Bytes) -> None:
    levels = picture.reshape(-1, 3)
    for pixel in range(len(levels)):
        for channel in range(3):
            levels[pixel, channel] = tables[channel, levels[pixel, channel]]


@kernel
def autocontrast(where: Indices, truncated: float, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    darkest, brightest = np.empty(3 * width, np.uint8), np.empty(3 * width, np.uint8)
    scale, offset = np.empty(3 * width, np.float32), np.empty(3 * width, np.float32)
    for place in where:
        rows = pictures[place].reshape(height, 3 * width)
        darkest[:], brightest[:] = 255, 0
        for y in range(height):
            for x in range(3 * width):
                darkest[x], brightest[x] = min(darkest[x], rows[y, x]), max(brightest[x], rows[y, x])
        for channel in range(3):
            dark = np.int64(darkest[channel::3].min())
            span = np.int64(brightest[channel::3].max()) - dark
            scale[channel::3] = 255 / span if span else 1.0
            offset[channel::3] = (-dark * (255 / span) if span else 0.0) + truncated
        for y in range(height):
            for x in range(3 * width):
                rows[y, x] = _level(np.float32(rows[y, x]) * scale[x] + offset[x])


@kernel
def equalise(where: Indices, pictures: Bytes) -> None:
    counts, tables = np.empty((3, 256), np.int64), np.empty((3, 256), np.uint8)
    for place in where:
        levels = pictures[place].reshape(-1, 3)
        counts[:] = 0
        for pixel in range(len(levels)):
            for channel in range(3):
                counts[channel, levels[pixel, channel]] += 1
        for channel in range(3):
            brightest = 255
            while not counts[channel, brightest]:
                brightest -= 1
            # Pillow's rule: the pixels of the brightest level do not count.
            step = (len(levels) - counts[channel, brightest]) // 255
            before = 0
            for level in range(256):
                tables[channel, level] = min((before + step // 2) // step, 255) if step else level
                before += counts[channel, level]
        _look_up(pictures[place], tables)


@kernel
def colour(where: Indices, matrices: Singles, means: Doubles, offsets: Doubles, pictures: Bytes) -> None:
    """In 1024ths, halves rounded up, as OpenCV has it: matrices hold whole numbers, offsets are not yet rounded."""
    shift, mean, sums = np.empty(3, np.float32), np.empty(3, np.float64), np.empty(3 * pictures.shape[2], np.int64)
    scale, darkest, brightest = np.float32(1 / 1024), np.float32(0), np.float32(255)
    for at in range(len(where)):
        mean[:] = 0
        if means[at].any():
            _mean(pictures[where[at]], sums, mean)
        for channel in range(3):
            offset = offsets[at, channel]
            for other in range(3):
                offset += means[at, channel, other] * mean[other]
            shift[channel] = np.rint(offset * 1024) + 512
        first, second, third = shift
        (rr, rg, rb), (gr, gg, gb), (br, bg, bb) = matrices[at]
        levels = pictures[where[at]].reshape(-1)
        for pixel in range(len(levels) // 3):
            red, green = np.float32(levels[3 * pixel]), np.float32(levels[3 * pixel + 1])
            blue = np.float32(levels[3 * pixel + 2])
            new_red = (rr * red + rg * green + rb * blue + first) * scale
            new_green = (gr * red + gg * green + gb * blue + second) * scale
            new_blue = (br * red + bg * green + bb * blue + third) * scale
            levels[3 * pixel] = np.uint8(min(max(new_red, darkest), brightest))
            levels[3 * pixel + 1] = np.uint8(min(max(new_green, darkest), brightest))
            levels[3 * pixel + 2] = np.uint8(min(max(new_blue, darkest), brightest))


@kernel
def density(where: Indices, left: Singles, pictures: Bytes) -> None:
    """The light that is left is a product of what each channel leaves of it at its level: left (k, 256, 3, 4).

    The last axis is that of the new channels and one more, as four are taken together.
    """
    width = 4 * pictures.shape[2]
    light = np.empty(width, np.float32)
    for at in range(len(where)):
        tables = left[at].reshape(-1)
        for y in range(pictures.shape[1]):
            levels = pictures[where[at], y].reshape(-1)
            for x in range(len(levels) // 3):
                red = _TWELVE * np.uint64(levels[3 * x])
                green = _TWELVE * np.uint64(levels[3 * x + 1]) + _FOUR
                blue = _TWELVE * np.uint64(levels[3 * x + 2]) + _EIGHT
                first = tables[red] * tables[green] * tables[blue]
                second = tables[red + _NEXT] * tables[green + _NEXT] * tables[blue + _NEXT]
                third = tables[red + _TWO] * tables[green + _TWO] * tables[blue + _TWO]
                fourth = tables[red + _THREE] * tables[green + _THREE] * tables[blue + _THREE]
                light[4 * x], light[4 * x + 1], light[4 * x + 2], light[4 * x + 3] = first, second, third, fourth
            for x in range(len(levels) // 3):
                for channel in range(3):
                    levels[3 * x + channel] = _level(light[4 * x + channel] * np.float32(256) - np.float32(1))


@kernel
def sharpen(where: Indices, own: Singles, around: Singles, shift: np.float32, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    # Of each row the sums of three neighbours; three rows of those make nine.
    sums, before = np.empty((height, 3 * width), np.float32), np.empty((height, 3 * width), np.float32)
    for at in range(len(where)):
        rows = pictures[where[at]].reshape(height, 3 * width)
        for y in range(height):
            row, levels = before[y], rows[y]
            for x in range(len(row)):
                row[x] = np.float32(levels[x])
            left, middle, right, three = row[:-6], row[3:-3], row[6:], sums[y]
            for x in range(len(left)):
                three[x] = left[x] + middle[x] + right[x]
        for y in range(1, height - 1):
            above, here, below, middle, levels = sums[y - 1], sums[y], sums[y + 1], before[y, 3:-3], rows[y, 3:-3]
            for x in range(len(levels)):
                mean = (above[x] + here[x] + below[x]) / np.float32(9) + _EVEN - _EVEN
                levels[x] = _level(own[at] * middle[x] + around[at] * mean + shift)


@kernel
def convolve(where: Indices, kernels: Singles, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    rows, columns = kernels.shape[1:]
    lines = np.array([_mirrored_at_centre(y - rows // 2, height) for y in range(height + rows - 1)])
    places = np.array([_mirrored_at_centre(x - columns // 2, width) for x in range(width + columns - 1)])
    stride = 3 * len(places)
    padded, summed = np.empty(len(lines) * stride, np.float32), np.empty(3 * width, np.float32)
    # Of most kernels most numbers are 0: what is left, four at a time, the last of them made up by zeros.
    taps, weights = np.empty(kernels[0].size + 3, np.int64), np.empty(kernels[0].size + 3, np.float32)
    for at in range(len(where)):
        picture = pictures[where[at]]
        for y in range(len(lines)):
            levels, line = picture[lines[y]].reshape(-1), padded[y * stride : (y + 1) * stride]
            for x in range(len(places)):
                for channel in range(3):
                    line[3 * x + channel] = np.float32(levels[np.uint64(3 * places[x] + channel)])
        count = 0
        for row in range(rows):
            for column in range(columns):
                if kernels[at, row, column]:
                    taps[count], weights[count] = row * stride + 3 * column, kernels[at, row, column]
                    count += 1
        taps[count : count + 3], weights[count : count + 3] = taps[0], 0
        for y in range(height):
            summed[:] = 0
            for tap in range(0, count, 4):
                one, two, three, four = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
                first, second = padded[taps[tap] + y * stride :], padded[taps[tap + 1] + y * stride :]
                third, fourth = padded[taps[tap + 2] + y * stride :], padded[taps[tap + 3] + y * stride :]
                for x in range(len(summed)):
                    summed[x] += one * first[x] + two * second[x] + three * third[x] + four * fourth[x]
            levels = picture[y].reshape(-1)
            for x in range(len(summed)):
                levels[x] = _level(summed[x])


@inlined
def _word(state: np.uint64, number: Whole) -> np.uint64:
    """The word of that number, counted from 0, in `draws.stream`."""
    word = state + np.uint64(number + 1) * GOLDEN
    word = (word ^ (word >> _FIRST)) * _ONCE
    word = (word ^ (word >> _SECOND)) * _TWICE
    return word ^ (word >> _THIRD)


@inlined
def _halfwords(state: np.uint64, numbers: NDArray[np.uint16]) -> None:
    """Fill with random numbers below 2**16, four of a word, its lowest bits first."""
    for first in range(0, len(numbers), 4):
        word = _word(state, first // 4)
        for place in range(first, min(first + 4, len(numbers))):
            numbers[place] = np.uint16(word & _HALFWORD)
            word >>= _HALFWORD_BITS


@kernel
def noise(where: Indices, states: Words, deviations: Singles, quantiles: Singles, pictures: Bytes) -> None:
    numbers = np.empty(pictures[0].size, np.uint16)
    for at in range(len(where)):
        _halfwords(states[at], numbers)
        levels = pictures[where[at]].reshape(-1)
        for place in range(len(levels)):
            moved = quantiles[numbers[place]] * deviations[at, levels[place]]
            levels[place] = _level(moved + np.float32(levels[place]))


@kernel
def paint(where: Indices, covers: Bytes, colours: Singles, mean: bool, pictures: Bytes) -> None:
    """mean: with the picture's mean colour in place of `colours`."""
    own, sums = np.empty(3, np.float64), np.empty(3 * pictures.shape[2], np.int64)
    for at in range(len(where)):
        levels, cover = pictures[where[at]].reshape(-1, 3), covers[at].reshape(-1)
        if mean:
            _mean(pictures[where[at]], sums, own)
        else:
            own[:] = colours[at]
        for pixel in range(len(levels)):
            if cover[pixel]:
                share = np.float32(cover[pixel]) / np.float32(255)
                for channel in range(3):
                    level = np.float32(levels[pixel, channel])
                    levels[pixel, channel] = _level(level + (np.float32(own[channel]) - level) * share)


@kernel
def pixelate(where: Indices, sides: Indices, pictures: Bytes) -> None:
    height, width = pictures.shape[1:3]
    before, summed = np.empty((height, width, 3), np.uint8), np.empty(3 * width, np.float32)
    for at in range(len(where)):
        picture, rows, columns = pictures[where[at]], sides[at, 0], sides[at, 1]
        _copy(picture, before)
        for row in range(rows):
            top, bottom = row * height / rows, (row + 1) * height / rows
            summed[:] = 0
            for y in range(math.floor(top), min(math.ceil(bottom), height)):
                share, source = np.float32(min(bottom, y + 1) - max(top, y)), before[y].reshape(-1)
                for x in range(3 * width):
                    summed[x] += share * np.float32(source[x])
            upper, lower = -(-row * height // rows), -(-(row + 1) * height // rows)
            for column in range(columns):
                left, right = column * width / columns, (column + 1) * width / columns
                red = green = blue = np.float32(0)
                for x in range(math.floor(left), min(math.ceil(right), width)):
                    share = np.float32(min(right, x + 1) - max(left, x))
                    red += share * summed[3 * x]
                    green += share * summed[3 * x + 1]
                    blue += share * summed[3 * x + 2]
                area = np.float32((bottom - top) * (right - left))
                for x in range(-(-column * width // columns), -(-(column + 1) * width // columns)):
                    picture[upper, x, 0] = _level(red / area)
                    picture[upper, x, 1] = _level(green / area)
                    picture[upper, x, 2] = _level(blue / area)
            for y in range(upper + 1, lower):
                _copy(picture[upper], picture[y])


@kernel
def mix(where: Indices, weights: Singles, copies: Bytes, pictures: Bytes) -> None:
    """copies: (k * width, h, w, 3), weighted by all columns of `weights` (k, 1 + width) but the first."""
    width = weights.shape[1] - 1
    summed = np.empty(pictures[0].size, np.float32)
    for at in range(len(where)):
        levels = pictures[where[at]].reshape(-1)
        for place in range(len(levels)):
            summed[place] = weights[at, 0] * np.float32(levels[place])
        for chain in range(width):
            part, weight = copies[at * width + chain].reshape(-1), weights[at, 1 + chain]
            for place in range(len(levels)):
                summed[place] += weight * np.float32(part[place])
        for place in range(len(levels)):
            levels[place] = _level(summed[place])
