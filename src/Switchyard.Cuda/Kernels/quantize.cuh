// Rows become Float8E4M3 with a scale for each 128 channels, as src/Switchyard/Float8Scaling.cs says; the same bits as on hosts.
#pragma once
#include "elements.cuh"

enum Scaling : u8 { AS_THEY_ARE = 0, ANY_SCALE = 1, POWER_OF_TWO = 2, PACKED = 3 };

constexpr u32 GROUP = 128;        // channels that share a scale
constexpr u32 PACKED_GROUP = 512; // channels whose scales share a word
constexpr u32 INFINITY_BITS = 0x7f800000;
constexpr u32 MAGNITUDE = 0x7fffffff;

// What elements are multiplied by, and the scale that undoes it.
struct Scale { float factor, scale; };
DEVICE Scale scale_of(u32 greatest_bits, Scaling scaling) {
    float greatest = __builtin_bit_cast(float, greatest_bits), magnitude = greatest > 1e-4f ? greatest : 1e-4f;
    float scale = divide(magnitude, 448);
    if (scaling == ANY_SCALE) return { divide(448, magnitude), scale };
    // Carries into the exponent unless the fraction is zero.
    scale = __builtin_bit_cast(float, (__builtin_bit_cast(u32, scale) + 0x7fffff) & INFINITY_BITS);
    return { divide(1, scale), scale };
}

// Codes of two products, the first in the lower byte. The instruction makes every NaN the same; here it keeps its sign.
DEVICE u32 codes_of(float first, float second, float factor) {
    u32 codes = to_e4m3(multiply(first, factor), multiply(second, factor));
    u32 a = __builtin_bit_cast(u32, first), b = __builtin_bit_cast(u32, second);
    if ((a & MAGNITUDE) > INFINITY_BITS) codes = (codes & 0xff00) | 0x7f | (a >> 24 & 0x80);
    if ((b & MAGNITUDE) > INFINITY_BITS) codes = (codes & 0xff) | 0x7f00 | (b >> 16 & 0x8000);
    return codes;
}

// By a warp: elements in shared memory become codes and scales there. Begins with a group; where scales are packed, with one whose scale begins a word.
template <class Element> DEVICE_RARELY void quantize(u32 from, u32 elements, u32 codes, u32 scales, Scaling scaling) {
    constexpr u32 LANES = GROUP / Element::COUNT; // that share a group
    u32 lane = lane_index();
    if (scaling == PACKED) for (u32 word = lane; word * PACKED_GROUP < elements; word += WARP) st_shared(scales + 4 * word, 0);
    sync_warp();
    for (u32 first = 0; first < elements; first += WARP * Element::COUNT) {
        u32 at = first + lane * Element::COUNT;
        float values[Element::COUNT];
        Element::widen(at < elements ? ld_shared_16(from + at * (16 / Element::COUNT)) : uint4 {}, values);
        u32 greatest = 0; // of the finite magnitudes, whose bits are in their order
        for (u32 i = 0; i < Element::COUNT; i++) {
            u32 bits = __builtin_bit_cast(u32, values[i]) & MAGNITUDE;
            if (bits < INFINITY_BITS && bits > greatest) greatest = bits;
        }
        for (u32 mask = LANES / 2; mask > 0; mask /= 2) {
            u32 other = from_partner_lane(greatest, mask);
            if (other > greatest) greatest = other;
        }
        Scale scale = scale_of(greatest, scaling);
        if (at >= elements) continue;
        u32 words[Element::COUNT / 4];
        for (u32 i = 0; i < Element::COUNT / 4; i++)
            words[i] = codes_of(values[4 * i], values[4 * i + 1], scale.factor) | codes_of(values[4 * i + 2], values[4 * i + 3], scale.factor) << 16;
        for (u32 i = 0; i < Element::COUNT / 4; i++) st_shared(codes + at + 4 * i, words[i]);
        if (lane % LANES != 0) continue;
        if (scaling == PACKED) st_shared_byte(scales + at / GROUP, __builtin_bit_cast(u32, scale.scale) >> 23);
        else st_shared(scales + at / GROUP * 4, __builtin_bit_cast(u32, scale.scale));
    }
}
