// Rows become Float8E4M3 with a scale for each 128 channels, as src/Switchyard/Float8Scaling.cs says; the same bits as on hosts.
#pragma once
#include "elements.cuh"

enum Scaling : u8 { AS_THEY_ARE = 0, ANY_SCALE = 1, POWER_OF_TWO = 2, PACKED = 3 };

constexpr u32 GROUP = 128;        // channels that share a scale
constexpr u32 PACKED_GROUP = 512; // channels whose scales share a word
constexpr u32 GROUP_LANES = 8;    // that look at a group together
constexpr u32 ELEMENTS_AT_ONCE = WARP / GROUP_LANES * GROUP;
constexpr u32 SIDE_BY_SIDE = 4;   // as many of those, so that lanes work on one while they wait for the others; 1 for what is rare
constexpr u32 MAGNITUDE = 0x7fffffff;

// What elements are multiplied by, and the scale that undoes it.
struct Scale { float factor, scale; };
DEVICE Scale scale_of(u32 greatest_bits, Scaling scaling) {
    float greatest = __builtin_bit_cast(float, greatest_bits), magnitude = greatest > 1e-4f ? greatest : 1e-4f;
    float scale = divide(magnitude, 448);
    if (scaling == ANY_SCALE) return { divide(448, magnitude), scale };
    // Carries into the exponent unless the fraction is zero; that of the inverse is the opposite one.
    u32 power = (__builtin_bit_cast(u32, scale) + 0x7fffff) & Single::INFINITE;
    return { __builtin_bit_cast(float, (254u << 23) - power), __builtin_bit_cast(float, power) };
}

// The bits of the greatest finite magnitude, in single precision.
template <class Element> DEVICE u32 greatest_finite(uint4 v) {
    float values[Element::COUNT];
    Element::widen(v, values);
    u32 greatest = 0;
    for (u32 i = 0; i < Element::COUNT; i++) {
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

// What a lane has of the groups that are looked at at once, 16 bytes at a time: calls with the index of the first element and whether there is one, or else
// with another index that there is.
template <class Element, class Each> DEVICE void each_part(u32 first, u32 elements, Each each) {
    constexpr u32 STEP = GROUP_LANES * Element::COUNT;
    u32 start = first + lane_index() / GROUP_LANES * GROUP + lane_index() % GROUP_LANES * Element::COUNT;
#pragma unroll
    for (u32 at = 0; at < GROUP; at += STEP) each(start + at < elements ? start + at : 0, start + at < elements);
}

// By a warp: of each group the greatest of what 16 bytes have, to the lane of its number.
template <class Element, u32 AT_A_TIME, class Greatest> DEVICE u32 greatest_of_groups(u32 from, u32 elements, Greatest greatest_of) {
    constexpr u32 GROUPS = WARP / GROUP_LANES;
    u32 lane = lane_index(), greatest = 0;
    for (u32 first = 0; first < elements; first += AT_A_TIME * ELEMENTS_AT_ONCE) {
        u32 mine[AT_A_TIME] = {};
#pragma unroll
        for (u32 i = 0; i < AT_A_TIME; i++) {
            each_part<Element>(first + i * ELEMENTS_AT_ONCE, elements, [&](u32 at, bool is_there) INLINED {
                u32 here = greatest_of(ld_shared_16(from + at * (16 / Element::COUNT)));
                if (is_there && here > mine[i]) mine[i] = here;
            });
        }
#pragma unroll
        for (u32 mask = GROUP_LANES / 2; mask > 0; mask /= 2) {
#pragma unroll
            for (u32 i = 0; i < AT_A_TIME; i++) {
                u32 other = from_partner_lane(mine[i], mask);
                if (other > mine[i]) mine[i] = other;
            }
        }
#pragma unroll
        for (u32 i = 0; i < AT_A_TIME; i++) {
            u32 of_group = from_lane(mine[i], lane % GROUPS * GROUP_LANES);
            if (lane / GROUPS == first / ELEMENTS_AT_ONCE + i) greatest = of_group;
        }
    }
    return greatest;
}

// By a warp: codes of all, with the factor that the lane of each group's number has.
template <class Element, bool KEEPS_SIGNS_OF_NANS> DEVICE void convert(u32 from, u32 elements, u32 codes, float factor_of_group) {
    constexpr u32 AT_A_TIME = KEEPS_SIGNS_OF_NANS ? 1 : SIDE_BY_SIDE;
    for (u32 first = 0; first < elements; first += AT_A_TIME * ELEMENTS_AT_ONCE) {
#pragma unroll
        for (u32 i = 0; i < AT_A_TIME; i++) {
            u32 begin = first + i * ELEMENTS_AT_ONCE;
            float factor = from_lane(factor_of_group, begin / GROUP + lane_index() / GROUP_LANES);
            each_part<Element>(begin, elements, [&](u32 at, bool is_there) INLINED {
                float values[Element::COUNT];
                u32 words[Element::COUNT / 4];
                Element::widen(ld_shared_16(from + at * (16 / Element::COUNT)), values);
#pragma unroll
                for (u32 word = 0; word < Element::COUNT / 4; word++) {
                    words[word] = codes_of(values + 4 * word, factor);
                    if (KEEPS_SIGNS_OF_NANS) words[word] = with_signs_of_nans(words[word], values + 4 * word);
                }
                if (!is_there) return;
                if constexpr (Element::COUNT == 8) st_shared_8(codes + at, words[0], words[1]);
                else st_shared(codes + at, words[0]);
            });
        }
    }
}

// By a warp: at most as many groups as it has lanes become codes and scales, all in shared memory. They begin with a group; where scales are packed, with
// one whose scale begins a word.
template <class Element> DEVICE_RARELY void quantize(u32 from, u32 elements, u32 codes, u32 scales, Scaling scaling) {
    u32 lane = lane_index();
    u32 greatest = greatest_of_groups<Element, SIDE_BY_SIDE>(from, elements, [](uint4 v) INLINED { return Element::greatest_magnitude(v); });
    bool is_finite = ballot(greatest >= Element::INFINITE) == 0;
    if (is_finite) greatest = Element::single_of(greatest);
    else greatest = greatest_of_groups<Element, 1>(from, elements, [](uint4 v) INLINED { return greatest_finite<Element>(v); });
    Scale scale = scale_of(greatest, scaling);
    bool has_group = lane * GROUP < elements;
    if (scaling == PACKED) {
        u32 word = has_group ? __builtin_bit_cast(u32, scale.scale) >> 23 << lane % 4 * 8 : 0;
        word |= from_partner_lane(word, 1);
        word |= from_partner_lane(word, 2);
        if (has_group && lane % 4 == 0) st_shared(scales + lane, word);
    } else if (has_group) {
        st_shared(scales + 4 * lane, __builtin_bit_cast(u32, scale.scale));
    }
    if (is_finite) convert<Element, false>(from, elements, codes, scale.factor);
    else convert<Element, true>(from, elements, codes, scale.factor);
}
