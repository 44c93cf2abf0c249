// Rows become Float8E4M3 with a scale for each 128 channels, as src/Switchyard/Float8Scaling.cs says; the same bits as on hosts.
#pragma once
#include "elements.cuh"

enum Scaling : u8 { AS_THEY_ARE = 0, ANY_SCALE = 1, POWER_OF_TWO = 2, PACKED = 3 };

constexpr u32 GROUP = 128;        // channels that share a scale
constexpr u32 PACKED_GROUP = 512; // channels whose scales share a word
constexpr u32 GROUP_LANES = 8;    // that quantize a group together
constexpr u32 MAGNITUDE = 0x7fffffff;

// What elements are multiplied by, and the scale that undoes it. By a warp; lanes of a group have the same greatest.
struct Scale { float factor, scale; };
DEVICE Scale scale_of(u32 greatest_bits, Scaling scaling) {
    float greatest = __builtin_bit_cast(float, greatest_bits), magnitude = greatest > 1e-4f ? greatest : 1e-4f;
    if (scaling == ANY_SCALE) {
        // A lane divides for the one, its neighbour for the other.
        bool is_scale = lane_index() % 2 == 0;
        float mine = divide(is_scale ? magnitude : 448, is_scale ? 448 : magnitude);
        float other = __builtin_bit_cast(float, from_partner_lane(__builtin_bit_cast(u32, mine), 1));
        return is_scale ? Scale { other, mine } : Scale { mine, other };
    }
    // Carries into the exponent unless the fraction is zero; that of the inverse is the opposite one.
    u32 power = (__builtin_bit_cast(u32, divide(magnitude, 448)) + 0x7fffff) & Single::INFINITE;
    return { __builtin_bit_cast(float, (254u << 23) - power), __builtin_bit_cast(float, power) };
}

// The bits of the greatest finite magnitude.
DEVICE u32 greatest_finite(const float* values, u32 count) {
    u32 greatest = 0;
    for (u32 i = 0; i < count; i++) {
        u32 bits = __builtin_bit_cast(u32, values[i]) & MAGNITUDE;
        if (bits < Single::INFINITE && bits > greatest) greatest = bits;
    }
    return greatest;
}

// Codes of four products, the first in the lowest byte.
DEVICE u32 codes_of(const float* values, float factor) {
    return to_e4m3(multiply(values[0], factor), multiply(values[1], factor)) | to_e4m3(multiply(values[2], factor), multiply(values[3], factor)) << 16;
}

// The instruction makes every NaN the same; here it keeps its sign.
DEVICE u32 with_signs_of_nans(u32 codes, const float* values) {
    for (u32 i = 0; i < 4; i++) {
        u32 bits = __builtin_bit_cast(u32, values[i]);
        if ((bits & MAGNITUDE) > Single::INFINITE) codes = (codes & ~(0xffu << 8 * i)) | (0x7f | (bits >> 24 & 0x80)) << 8 * i;
    }
    return codes;
}

// By a warp: elements in shared memory become codes and scales there. Begins with a group; where scales are packed, with one whose scale begins a word.
template <class Element> DEVICE_RARELY void quantize(u32 from, u32 elements, u32 codes, u32 scales, Scaling scaling) {
    constexpr u32 STEP = GROUP_LANES * Element::COUNT, PARTS = GROUP / STEP; // of a group: 16 bytes a lane at a time
    u32 lane = lane_index();
    if (scaling == PACKED) for (u32 word = lane; word * PACKED_GROUP < elements; word += WARP) st_shared(scales + 4 * word, 0);
    sync_warp();
    for (u32 first = 0; first < elements; first += WARP / GROUP_LANES * GROUP) {
        u32 group = first + lane / GROUP_LANES * GROUP, start = group + lane % GROUP_LANES * Element::COUNT;
        uint4 given[PARTS];
        u32 greatest = 0;
        for (u32 part = 0; part < PARTS; part++) {
            u32 at = start + part * STEP;
            given[part] = at < elements ? ld_shared_16(from + at * (16 / Element::COUNT)) : uint4 {};
            u32 of_part = Element::greatest_magnitude(given[part]);
            if (of_part > greatest) greatest = of_part;
        }
        float values[PARTS][Element::COUNT];
        for (u32 part = 0; part < PARTS; part++) Element::widen(given[part], values[part]);
        bool is_finite = ballot(greatest >= Element::INFINITE) == 0;
        greatest = is_finite ? Element::single_of(greatest) : greatest_finite(values[0], PARTS * Element::COUNT);
        for (u32 mask = GROUP_LANES / 2; mask > 0; mask /= 2) {
            u32 other = from_partner_lane(greatest, mask);
            if (other > greatest) greatest = other;
        }
        Scale scale = scale_of(greatest, scaling);
        for (u32 part = 0; part < PARTS; part++) {
            u32 at = start + part * STEP, words[Element::COUNT / 4];
            if (at >= elements) break;
            for (u32 i = 0; i < Element::COUNT / 4; i++) {
                words[i] = codes_of(values[part] + 4 * i, scale.factor);
                if (!is_finite) words[i] = with_signs_of_nans(words[i], values[part] + 4 * i);
            }
            if constexpr (Element::COUNT == 8) st_shared_8(codes + at, words[0], words[1]);
            else st_shared(codes + at, words[0]);
        }
        if (lane % GROUP_LANES != 0 || group >= elements) continue;
        if (scaling == PACKED) st_shared_byte(scales + group / GROUP, __builtin_bit_cast(u32, scale.scale) >> 23);
        else st_shared(scales + group / GROUP * 4, __builtin_bit_cast(u32, scale.scale));
    }
}
