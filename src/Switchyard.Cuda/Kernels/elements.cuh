// The elements of rows that are summed or quantized: 16 bytes at a time, in single precision between.
#pragma once
#include "ptx.cuh"

struct BFloat16 {
    static constexpr u32 COUNT = 8;
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
    static constexpr u32 COUNT = 8;
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
    static constexpr u32 COUNT = 4;
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
