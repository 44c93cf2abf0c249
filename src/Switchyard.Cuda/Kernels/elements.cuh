// The elements of rows that are summed or quantized: 16 bytes at a time, in single precision between. Bits of magnitudes are in the magnitudes' order;
// those of infinities and NaNs are INFINITE at least.
#pragma once
#include "ptx.cuh"

DEVICE u32 greatest_u16(uint4 v) {
    constexpr u32 MAGNITUDES = 0x7fff7fff;
    u32 pair = max_u16x2(max_u16x2(v.x & MAGNITUDES, v.y & MAGNITUDES), max_u16x2(v.z & MAGNITUDES, v.w & MAGNITUDES));
    u32 first = pair & 0xffff, second = pair >> 16;
    return first > second ? first : second;
}

struct BFloat16 {
    static constexpr u32 COUNT = 8, INFINITE = 0x7f80;
    DEVICE static u32 greatest_magnitude(uint4 v) { return greatest_u16(v); }
    DEVICE static u32 single_of(u32 magnitude) { return magnitude << 16; }
    DEVICE static void widen(uint4 v, float* f) {
        const u32 words[4] = { v.x, v.y, v.z, v.w };
        for (u32 i = 0; i < 4; i++) {
            f[2 * i] = __builtin_bit_cast(float, words[i] << 16);
            f[2 * i + 1] = __builtin_bit_cast(float, words[i] & 0xffff0000);
        }
    }
    DEVICE static uint4 round(const float* f) { return { to_bfloat16(f[0], f[1]), to_bfloat16(f[2], f[3]), to_bfloat16(f[4], f[5]), to_bfloat16(f[6], f[7]) }; }
};

struct Half {
    static constexpr u32 COUNT = 8, INFINITE = 0x7c00;
    DEVICE static u32 greatest_magnitude(uint4 v) { return greatest_u16(v); }
    DEVICE static u32 single_of(u32 magnitude) { return from_half(magnitude); }
    // The instruction makes every NaN the same; here it keeps its sign.
    DEVICE static float widen(u32 bits) {
        u32 f = from_half(bits);
        return __builtin_bit_cast(float, (f & 0x7fffffff) | (bits & 0x8000) << 16);
    }
    DEVICE static void widen(uint4 v, float* f) {
        const u32 words[4] = { v.x, v.y, v.z, v.w };
        for (u32 i = 0; i < 4; i++) { f[2 * i] = widen(words[i] & 0xffff); f[2 * i + 1] = widen(words[i] >> 16); }
    }
    DEVICE static uint4 round(const float* f) { return { to_half(f[0], f[1]), to_half(f[2], f[3]), to_half(f[4], f[5]), to_half(f[6], f[7]) }; }
};

struct Single {
    static constexpr u32 COUNT = 4, INFINITE = 0x7f800000;
    DEVICE static u32 greatest_magnitude(uint4 v) {
        const u32 words[4] = { v.x, v.y, v.z, v.w };
        u32 greatest = 0;
        for (u32 i = 0; i < 4; i++) if ((words[i] & 0x7fffffff) > greatest) greatest = words[i] & 0x7fffffff;
        return greatest;
    }
    DEVICE static u32 single_of(u32 magnitude) { return magnitude; }
    DEVICE static void widen(uint4 v, float* f) {
        f[0] = __builtin_bit_cast(float, v.x);
        f[1] = __builtin_bit_cast(float, v.y);
        f[2] = __builtin_bit_cast(float, v.z);
        f[3] = __builtin_bit_cast(float, v.w);
    }
    DEVICE static uint4 round(const float* f) {
        return { __builtin_bit_cast(u32, f[0]), __builtin_bit_cast(u32, f[1]), __builtin_bit_cast(u32, f[2]), __builtin_bit_cast(u32, f[3]) };
    }
};
